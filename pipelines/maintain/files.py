"""What a table's files are like, from its manifests alone, and whether rewriting them is worth it.

The rules are those of Iceberg's rewrite procedures, so that Spark is asked only where it has something to do:
a table that needs nothing gets no snapshot.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pyiceberg.conversions import from_bytes
from pyiceberg.manifest import DataFile, ManifestContent, ManifestFile
from pyiceberg.table import Table, TableProperties
from pyiceberg.types import StringType

from pipelines.lake.scan import partition_values
from pipelines.maintain.config import MaintainConfig

# Field id of the column `file_path` in files of position deletes (Iceberg spec, "Reserved Field IDs").
_FILE_PATH = 2147483546
# Iceberg's commit.manifest.target-size-bytes; less than half of it is small.
_SMALL_MANIFEST = 4 * 2**20
# A rewrite makes files of at least half the target. Were these small by the rule, as with Iceberg's own ratio
# of 0.75, two of 0.6 times the target would be written anew at every run.
_SMALL = 0.5


@dataclass(frozen=True)
class Thresholds:
    """When a data file is written anew.

    Attributes:
        target: Bytes of a file.
        small: Fewer bytes are few.
        files: So many small files of a partition are joined.
        delete_ratio: Share of deleted rows.
        delete_files: Files of deletes that speak of it.
    """

    target: int
    small: int
    files: int
    delete_ratio: float
    delete_files: int

    @classmethod
    def of(cls, table: Table, config: MaintainConfig) -> "Thresholds":
        """Those of a table."""
        own = table.properties.get(TableProperties.WRITE_TARGET_FILE_SIZE_BYTES)
        target = int(config.target_file_mib * 2**20)
        target = max(1, min(target, int(own)) if own else target)
        return cls(
            target=target,
            small=int(_SMALL * target),
            files=config.min_input_files,
            delete_ratio=config.delete_ratio,
            delete_files=config.delete_files,
        )


@dataclass
class Partition:
    """The data files of a partition that are smaller than wanted, or have too many deletes."""

    files: int = 0
    size: int = 0
    deleted: int = 0

    def is_worth_it(self, limits: Thresholds) -> bool:
        """Whether Iceberg rewrites them."""
        several = self.files > 1
        return self.deleted > 0 or (several and (self.files >= limits.files or self.size > limits.target))


@dataclass
class TableFiles:
    """A table's files.

    Attributes:
        data: Data files.
        size: Their bytes.
        deletes: Files of deletes.
        dangling: Of these, how many speak of a data file that is gone.
        manifests: Manifests.
        small_manifests: Of these, small ones.
        to_rewrite: Data files that a compaction would write anew.
    """

    data: int = 0
    size: int = 0
    deletes: int = 0
    dangling: int = 0
    manifests: int = 0
    small_manifests: int = 0
    to_rewrite: int = 0


@dataclass
class _Deletes:
    """Deletes by what they speak of: one data file, or any of a partition."""

    files: Counter[str] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)
    spread: Counter[tuple[Any, ...]] = field(default_factory=Counter)
    unseen: dict[str, int] = field(default_factory=dict)

    def add(self, file: DataFile) -> None:
        lower, upper = (file.lower_bounds or {}).get(_FILE_PATH), (file.upper_bounds or {}).get(_FILE_PATH)
        if lower is None or lower != upper:
            self.spread[_place(file)] += 1
            return
        path = str(from_bytes(StringType(), lower))
        self.files[path] += 1
        self.rows[path] += file.record_count
        self.unseen[path] = self.files[path]


def files_of(table: Table, limits: Thresholds) -> TableFiles:
    """The files of the current snapshot, as `table` was last read; a manifest is in memory at a time."""
    snapshot = table.current_snapshot()
    manifests = snapshot.manifests(table.io) if snapshot else []
    found = TableFiles(
        manifests=len(manifests),
        small_manifests=sum(manifest.manifest_length < _SMALL_MANIFEST for manifest in manifests),
    )
    deletes = _Deletes()
    for file in _live(table, manifests, ManifestContent.DELETES):
        found.deletes += 1
        deletes.add(file)
    partitions: dict[tuple[Any, ...], Partition] = defaultdict(Partition)
    for file in _live(table, manifests, ManifestContent.DATA):
        found.data += 1
        found.size += file.file_size_in_bytes
        place = _place(file)
        few = deletes.files[file.file_path] + deletes.spread[place] < limits.delete_files
        few = few and deletes.rows[file.file_path] < limits.delete_ratio * file.record_count
        deletes.unseen.pop(file.file_path, None)
        if not few or file.file_size_in_bytes < limits.small:
            partition = partitions[place]
            partition.files += 1
            partition.size += file.file_size_in_bytes
            partition.deleted += not few
    found.dangling = sum(deletes.unseen.values())
    found.to_rewrite = sum(one.files for one in partitions.values() if one.is_worth_it(limits))
    return found


def _live(table: Table, manifests: list[ManifestFile], content: ManifestContent) -> Iterator[DataFile]:
    for manifest in manifests:
        if manifest.content == content:
            for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True):
                yield entry.data_file


def _place(file: DataFile) -> tuple[Any, ...]:
    return (file.spec_id, *partition_values(file))
