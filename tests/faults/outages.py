"""What can be away for a while: the S3 server with its catalogue, or the files of a local lake."""

import sqlite3
from pathlib import Path

from infra.local.seaweed import SeaweedServer
from tests.faults.schedule import Kind


class Outage:
    """One lake's.

    Attributes:
        server: Of a lake on S3.
        root: Of a local lake.
    """

    def __init__(self, server: SeaweedServer | None = None, root: Path | None = None) -> None:
        self.server = server
        self.root = root
        self._lock: sqlite3.Connection | None = None
        self._away: Path | None = None

    def begin(self, kind: Kind) -> None:
        """Takes it away."""
        if kind is Kind.STORE_AWAY and self.server is not None:
            self.server.kill()
        elif kind is Kind.CATALOGUE_AWAY and self.root is not None:
            self._lock = sqlite3.connect(self.root / "catalog.db", timeout=60, isolation_level=None)
            self._lock.execute("BEGIN EXCLUSIVE")
        elif kind is Kind.WAREHOUSE_AWAY and self.root is not None:
            self._away = (self.root / "warehouse").rename(self.root / "warehouse-away")
            # Not just absent: writers would make it anew, and their files be lost when this one is back.
            (self.root / "warehouse").touch()

    def end(self) -> None:
        """Brings everything back that is away."""
        if self.server is not None:
            self.server.start()
        if self._lock is not None:
            self._lock.execute("ROLLBACK")
            self._lock.close()
            self._lock = None
        if self._away is not None and self.root is not None:
            (self.root / "warehouse").unlink()
            self._away.rename(self.root / "warehouse")
            self._away = None
