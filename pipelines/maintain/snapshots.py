"""Which snapshots and branches of a table nothing needs any more; pure, on its metadata.

Iceberg's own expiry goes by when a snapshot was made. A table that nobody changed for a month would lose,
at its first change, the snapshot that all running jobs read. Here a snapshot goes by when it ceased to be the
table.
"""

from datetime import datetime

from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.refs import MAIN_BRANCH, SnapshotRefType
from pyiceberg.table.snapshots import Snapshot

from pipelines.lake.branch import made_at


def stale_branches(metadata: TableMetadata, before: datetime) -> list[str]:
    """Branches of runs that began before a moment, and so are dead; those that no run of ours made stay."""
    return sorted(
        name
        for name, ref in metadata.refs.items()
        if ref.snapshot_ref_type == SnapshotRefType.BRANCH
        and (made := made_at(name)) is not None
        and made < before
    )


def expirable(metadata: TableMetadata, before: datetime, retain_last: int) -> list[int]:
    """Ids of the snapshots that may go.

    Kept are the table's last ones, those that were the table at the moment or since, what every tag and
    branch points to and what a branch was made of, and younger ones that nothing points to.

    Args:
        metadata: Of the table.
        before: The moment.
        retain_last: Latest snapshots that stay.
    """
    millis = int(before.timestamp() * 1000)
    by_id = {snapshot.snapshot_id: snapshot for snapshot in metadata.snapshots}
    refs = {name: ref.snapshot_id for name, ref in metadata.refs.items()}
    lineage = _lineage(by_id, refs.get(MAIN_BRANCH))
    kept = {id for id in refs.values() if id is not None}
    kept |= set(lineage[:retain_last])
    # The log has when each snapshot became the table; the last before the moment was it at the moment.
    log = [(entry.timestamp_ms, entry.snapshot_id) for entry in metadata.snapshot_log]
    kept |= {id for at, id in log if at > millis}
    kept |= {id for _, id in [(at, id) for at, id in log if at <= millis][-1:]}
    on_main, pointed_to = set(lineage), set(lineage)
    for name, ref in metadata.refs.items():
        if name == MAIN_BRANCH or ref.snapshot_ref_type != SnapshotRefType.BRANCH:
            continue
        own = _lineage(by_id, ref.snapshot_id)
        pointed_to |= set(own)
        fork = next((place for place, id in enumerate(own) if id in on_main), len(own))
        kept |= set(own[: fork + 1])
    loose = [one for one in metadata.snapshots if one.snapshot_id not in pointed_to]
    kept |= {one.snapshot_id for one in loose if one.timestamp_ms >= millis}
    return sorted(set(by_id) - kept)


def _lineage(by_id: dict[int, Snapshot], head: int | None) -> list[int]:
    """A snapshot and those that led to it, newest first, as far as they are known."""
    found = []
    while head is not None and head in by_id:
        found.append(head)
        head = by_id[head].parent_snapshot_id
    return found
