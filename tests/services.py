"""Real services that tests start."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from infra.local.seaweed import SeaweedServer


def seaweed_server() -> Iterator[SeaweedServer]:
    """A started S3 server with an Iceberg REST catalogue, on ports and a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="seaweed-") as folder, SeaweedServer(Path(folder)) as server:
        yield server
