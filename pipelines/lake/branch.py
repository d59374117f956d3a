"""Compare-and-swap of a table's rows: what is written on a branch becomes the table, or nothing does."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from pyspark.sql import SparkSession

from pipelines.lake.lake import Lake

# A branch that a killed run left behind is dropped by snapshot expiry after this long.
_RETAIN_DAYS = 7
_MOVED = "main is not an ancestor of"


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
        config = self.lake.config
        try:
            self.spark.sql(
                f"CALL `{config.name}`.system.fast_forward("
                f"'{config.namespace}.{self.table}', 'main', '{self.name}')"
            )
        except Exception as error:
            if _MOVED in str(error):
                return False
            raise
        return True


@contextlib.contextmanager
def branch(spark: SparkSession, lake: Lake, table: str, run_id: str) -> Iterator[Branch]:
    """A branch of the table as it is now, dropped at the end of the block.

    Killed within the block, the table is as it was before `publish` or as the branch was after it.
    """
    identifier, name = lake.spark_identifier(table), f"run_{run_id}"
    # What one process left is its own: a run's id is never used again.
    spark.sql(f"ALTER TABLE {identifier} CREATE OR REPLACE BRANCH `{name}` RETAIN {_RETAIN_DAYS} DAYS")
    try:
        base = lake.table(table).metadata.refs[name].snapshot_id
        yield Branch(spark, lake, table, f"{identifier}.`branch_{name}`", name, base)
    finally:
        with contextlib.suppress(Exception):  # a fault on the way is told; this must not hide it
            spark.sql(f"ALTER TABLE {identifier} DROP BRANCH IF EXISTS `{name}`")
