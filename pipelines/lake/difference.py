"""What became of a table's files between two of its snapshots, from manifests alone.

Manifests that both snapshots have are not opened, so the cost is that of what changed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pyiceberg.manifest import DataFileContent, ManifestEntry
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from pipelines.lake.scan import partition_values

Values = tuple[Any, ...]


@dataclass(frozen=True)
class Difference:
    """The files by which the current snapshot differs from an earlier one.

    Attributes:
        added: URIs of live data files that were not there, by partition.
        deletes: URIs of files of deletes that were not there, by partition.
        lost: Partitions of which a data file is gone: deleted, or compacted with others.
    """

    added: dict[Values, set[str]] = field(default_factory=dict)
    deletes: dict[Values, set[str]] = field(default_factory=dict)
    lost: set[Values] = field(default_factory=set)

    @property
    def partitions(self) -> set[Values]:
        """Where anything changed."""
        return {*self.added, *self.deletes, *self.lost}


def difference(table: Table, since: int | None) -> Difference | None:
    """How the table, as it was last read, differs from its snapshot `since`.

    Args:
        table: The table.
        since: A snapshot's id; None is an empty table.

    Returns:
        None where that snapshot is no longer known: it was expired, or never was this table's.
    """
    now = table.current_snapshot()
    then = None if since is None else table.snapshot_by_id(since)
    if since is not None and then is None:
        return None
    if now is None or (then is not None and then.snapshot_id == now.snapshot_id):
        return Difference()
    of_then = _manifests(table, then)
    of_now = _manifests(table, now)
    gone = _entries(table, then, of_then - of_now)
    come = _entries(table, now, of_now - of_then)
    changes = Difference()
    for path, (is_data, partition) in come.items():
        if path not in gone:
            (changes.added if is_data else changes.deletes).setdefault(partition, set()).add(path)
    # A file of deletes goes with the data files that it named, or names none that are left.
    changes.lost.update(
        partition for path, (is_data, partition) in gone.items() if is_data and path not in come
    )
    return changes


def _manifests(table: Table, snapshot: Snapshot | None) -> set[str]:
    return {manifest.manifest_path for manifest in snapshot.manifests(table.io)} if snapshot else set()


def _entries(table: Table, snapshot: Snapshot | None, manifests: set[str]) -> dict[str, tuple[bool, Values]]:
    """Live files of some of a snapshot's manifests: whether it has data, and its partition."""
    return {
        entry.data_file.file_path: (
            entry.data_file.content == DataFileContent.DATA,
            partition_values(entry.data_file),
        )
        for entry in _read(table, snapshot, manifests)
    }


def _read(table: Table, snapshot: Snapshot | None, manifests: set[str]) -> Iterator[ManifestEntry]:
    for manifest in snapshot.manifests(table.io) if snapshot else ():
        if manifest.manifest_path in manifests:
            yield from manifest.fetch_manifest_entry(table.io, discard_deleted=True)
