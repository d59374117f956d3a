"""Iceberg's maintenance procedures on Spark, and what their lost races look like.

Every one of them is one atomic commit, or where a compaction is large some of them, that Iceberg refuses
where another job's commit touched the same files: a row that was deleted meanwhile cannot come back.
"""

import re
from collections.abc import Sequence
from datetime import datetime

from pyspark.sql import Row, SparkSession

from pipelines.errors import CommitError
from pipelines.lake import Lake, s3
from pipelines.lake.races import is_behind
from pipelines.maintain.files import Thresholds

# A group of files is read, sorted and written together, and it fails alone.
_GROUP_BYTES = 2 * 2**30
# Large files stay as they are: Iceberg's writer begins a new one after a thousand rows at the earliest, so
# that one of fewer and longer rows would be written anew, as large as it was, by every run.
_NO_FILE_IS_LARGER = 2**62
# What Iceberg says where another job's commit came first, or where its expiry took away what was to be read.
_LOST_RACE = re.compile(
    r"CommitFailedException|ValidationException|CommitStateUnknownException|NotFoundException"
    r"|NoSuchFileException|FileNotFoundException|Still referenced by refs"
    r"|Cannot commit|missing data files|Failed to rewrite"
)

_NAMED = re.compile(r"\b[\w.]*\.(\w+Exception: .+)")


def is_lost_race(error: BaseException) -> bool:
    """Whether another job was faster: the same step, on the table as it is by then, may succeed."""
    return isinstance(error, CommitError) or is_behind(error) or _LOST_RACE.search(str(error)) is not None


def reason_of(error: BaseException) -> str:
    """What an error says in one line; of the many that a JVM says, the one with the exception's name."""
    said = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = [found[1] for line in said if (found := _NAMED.search(line))]
    return (named or said or [type(error).__name__])[0][:200]


class Procedures:
    """The procedures of one lake.

    Attributes:
        spark: The session.
        lake: The lake.
    """

    def __init__(self, spark: SparkSession, lake: Lake) -> None:
        self.spark = spark
        self.lake = lake

    def rewrite_data_files(self, table: str, limits: Thresholds, has_order: bool) -> int:
        """Joins small data files and leaves deleted rows out; says how many files were rewritten.

        The new files have the sequence number of the snapshot that they were made from: deletes that were
        committed since still hold for the files that came since, and followers do not take them for new.

        Args:
            table: Its name.
            limits: What is to be rewritten.
            has_order: Whether the table's files are sorted: only `sort` keeps that.

        Raises:
            CommitError: Files of a group were changed by others meanwhile; other groups are done.
        """
        options = {
            "target-file-size-bytes": limits.target,
            "min-file-size-bytes": limits.small,
            "max-file-size-bytes": _NO_FILE_IS_LARGER,
            "min-input-files": limits.files,
            "delete-ratio-threshold": limits.delete_ratio,
            "delete-file-threshold": limits.delete_files,
            "max-file-group-size-bytes": max(_GROUP_BYTES, 2 * limits.target),
            "use-starting-sequence-number": "true",
            "partial-progress.enabled": "true",
        }
        strategy = ", strategy => 'sort'" if has_order else ""
        (row,) = self._call("rewrite_data_files", table, strategy + _options(options))
        if row["failed_data_files_count"]:
            raise CommitError(f"others changed {row['failed_data_files_count']} of its files meanwhile")
        return int(row["rewritten_data_files_count"])

    def rewrite_position_deletes(self, table: str) -> int:
        """Writes all files of deletes anew, without what they say of data files that are gone."""
        (row,) = self._call("rewrite_position_delete_files", table, _options({"rewrite-all": "true"}))
        return int(row["rewritten_delete_files_count"])

    def rewrite_manifests(self, table: str) -> int:
        """Joins small manifests; says how many there were."""
        (row,) = self._call("rewrite_manifests", table, ", use_caching => false")
        return int(row["rewritten_manifests_count"])

    def expire(self, table: str, ids: Sequence[int]) -> None:
        """Drops exactly these snapshots, and deletes the files that no other snapshot refers to."""
        # By age nothing goes: no snapshot is of 1970.
        chosen = ", ".join(map(str, ids))
        self._call(
            "expire_snapshots",
            table,
            f", older_than => TIMESTAMP '1970-01-02 00:00:00', snapshot_ids => array({chosen})",
        )

    def orphans(self, table: str, before: datetime) -> list[str]:
        """The files below the table's folder, older than a moment, that no snapshot refers to."""
        # Hadoop's listing, the default, does not know s3://.
        listing = ", prefix_listing => true" if s3.is_used(self.lake.config) else ""
        moment = f", older_than => TIMESTAMP '{before:%Y-%m-%d %H:%M:%S}'"
        rows = self._call("remove_orphan_files", table, f"{moment}{listing}, dry_run => true")
        return sorted(str(row["orphan_file_location"]) for row in rows)

    def drop_branch(self, table: str, name: str) -> None:
        """Drops a branch; its snapshots go with a later expiry."""
        self.spark.sql(f"ALTER TABLE {self.lake.spark_identifier(table)} DROP BRANCH IF EXISTS `{name}`")

    def _call(self, procedure: str, table: str, arguments: str) -> list[Row]:
        config = self.lake.config
        target = f"table => '`{config.namespace}`.`{table}`'"
        return self.spark.sql(f"CALL `{config.name}`.system.{procedure}({target}{arguments})").collect()


def _options(options: dict[str, object]) -> str:
    pairs = ", ".join(f"'{key}', '{value}'" for key, value in options.items())
    return f", options => map({pairs})"
