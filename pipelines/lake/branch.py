"""Compare-and-swap of a table's rows: what is written on a branch becomes the table, or nothing does."""

import contextlib
import random
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from pyspark.sql import SparkSession

from pipelines.lake.lake import Lake
from pipelines.lake.races import is_behind

_NAME = re.compile(r"run_\w+_(\d{10})")
_MOVED = "main is not an ancestor of"
_ATTEMPTS = 20
_LOST_RACES = ("CommitFailedException", "CommitStateUnknownException")


@dataclass(frozen=True)
class Branch:
    """A branch of a table, made of its rows at one moment.

    Attributes:
        identifier: For Spark, to read and to write; what is written is seen by nobody else.
        name: Of the branch.
        base: The snapshot that it was made of.
    """

    spark: SparkSession
    lake: Lake
    table: str
    identifier: str
    name: str
    base: int

    def is_changed(self) -> bool:
        """Whether anything was written to it."""
        refs = self.lake.table(self.table).metadata.refs
        return self.name in refs and refs[self.name].snapshot_id != self.base

    def publish(self) -> bool:
        """Makes the branch the table, all its commits at once.

        Returns:
            False where the table has changed since the branch was made; it is then as others left it.
        """
        now = self.lake.table(self.table).current_snapshot()
        if now is not None and now.snapshot_id != self.base:
            # Looked at here too: a branch that was dropped as stale is made anew by a write, of what main is.
            return False
        config = self.lake.config
        call = (
            f"CALL `{config.name}`.system.fast_forward("
            f"'{config.namespace}.{self.table}', 'main', '{self.name}')"
        )
        try:
            _done(self.spark, call)
        except Exception as error:
            if _MOVED in str(error):
                return False
            raise
        return True


@contextlib.contextmanager
def branch(spark: SparkSession, lake: Lake, table: str, run_id: str) -> Iterator[Branch]:
    """A branch of the table as it is now, dropped at the end of the block.

    Killed within the block, the table is as it was before `publish` or as the branch was after it. What a
    killed run leaves is dropped by `maintain`. Iceberg's own retention of branches is not asked for: it goes
    by the age of what a branch was made of, and drops one of a running job where the table is old.

    A write that a commit to another branch came before ends the block without an error: nothing is published,
    as where `publish` says no, and the caller begins again.
    """
    # What one process left is its own: a run's id is never used again.
    identifier, name = lake.spark_identifier(table), f"run_{run_id}_{int(time.time())}"
    _done(spark, f"ALTER TABLE {identifier} CREATE OR REPLACE BRANCH `{name}`")
    try:
        base = lake.table(table).metadata.refs[name].snapshot_id
        yield Branch(spark, lake, table, f"{identifier}.`branch_{name}`", name, base)
    except Exception as error:
        if not is_behind(error):
            raise
    finally:
        with contextlib.suppress(Exception):  # a fault on the way is told; this must not hide it
            _done(spark, f"ALTER TABLE {identifier} DROP BRANCH IF EXISTS `{name}`")


def made_at(name: str) -> datetime | None:
    """When a run made a branch, by its name; None where it is no run's."""
    found = _NAME.fullmatch(name)
    return datetime.fromtimestamp(int(found[1]), UTC) if found else None


def _done(spark: SparkSession, statement: str) -> None:
    """Runs a statement about branches, again where another process has changed the table at that moment.

    Iceberg retries commits of rows, and not those of branches. All of these may be done twice.
    """
    for attempt in range(_ATTEMPTS):
        try:
            spark.sql(statement)
        except Exception as error:
            if attempt == _ATTEMPTS - 1 or not any(word in str(error) for word in _LOST_RACES):
                raise
            time.sleep(random.uniform(0, min(2.0, 0.05 * 2**attempt)))  # noqa: S311 - back-off, not a secret
        else:
            return
