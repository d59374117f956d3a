"""Which snapshots may go: those that were not the table for long, and that nothing needs."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.refs import SnapshotRef
from pyiceberg.table.snapshots import Operation, Snapshot, SnapshotLogEntry, Summary

from pipelines.lake import Lake, LakeConfig
from pipelines.lake.branch import made_at
from pipelines.maintain.snapshots import expirable, stale_branches

_NOW = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    """An empty table, whose metadata the tests give a history."""
    lake = Lake.open(LakeConfig(dir=tmp_path_factory.mktemp("lake"), buckets=2))
    lake.ensure_tables()
    return lake.table("chunks")


def history(
    table: Table,
    days_ago: list[float],
    refs: Mapping[str, tuple[str, int]] | None = None,
    loose: Mapping[int, tuple[int | None, float]] | None = None,
) -> TableMetadata:
    """Snapshots 1, 2, … of so many days ago, each made of the one before.

    Args:
        table: An empty one.
        days_ago: When each became the table.
        refs: Name -> kind and snapshot.
        loose: Snapshots beside main: id -> parent and days.
    """

    def snapshot(id: int, parent: int | None, days: float) -> Snapshot:
        return Snapshot.model_validate(
            {
                "snapshot-id": id,
                "parent-snapshot-id": parent,
                "sequence-number": id,
                "timestamp-ms": millis(days),
                "manifest-list": "x",
                "summary": Summary(Operation.APPEND),
            }
        )

    def millis(days: float) -> int:
        return int((_NOW - timedelta(days=days)).timestamp() * 1000)

    snapshots = [snapshot(n, n - 1 if n > 1 else None, days) for n, days in enumerate(days_ago, 1)]
    snapshots += [snapshot(id, parent, days) for id, (parent, days) in (loose or {}).items()]
    all_refs = {"main": ("branch", len(days_ago))} | dict(refs or {})
    return table.metadata.model_copy(
        update={
            "snapshots": snapshots,
            "refs": {
                name: SnapshotRef.model_validate({"snapshot-id": id, "type": kind})
                for name, (kind, id) in all_refs.items()
            },
            "snapshot_log": [
                SnapshotLogEntry.model_validate({"snapshot-id": n, "timestamp-ms": millis(days)})
                for n, days in enumerate(days_ago, 1)
            ],
        }
    )


def ago(days: float) -> datetime:
    return _NOW - timedelta(days=days)


def test_a_snapshot_goes_when_it_has_not_been_the_table_for_so_long(table: Table) -> None:
    # The third was made 30 days ago, and was the table until yesterday: a job that began then reads it.
    metadata = history(table, [50, 40, 30, 1])
    assert expirable(metadata, ago(5), 1) == [1, 2]
    assert expirable(metadata, ago(0.5), 1) == [1, 2, 3]
    assert expirable(metadata, ago(5), 4) == []


def test_what_a_tag_or_a_branch_needs_stays(table: Table) -> None:
    refs = {"release": ("tag", 2), "run_x_1700000000": ("branch", 11)}
    metadata = history(table, [60, 50, 40, 30, 20], refs=refs, loose={10: (3, 35), 11: (10, 34)})
    assert expirable(metadata, ago(5), 1) == [1, 4]


def test_what_nothing_points_to_goes_when_it_is_old(table: Table) -> None:
    metadata = history(table, [60, 50], loose={10: (1, 55), 11: (1, 2)})
    assert expirable(metadata, ago(5), 1) == [1, 10]


@given(
    st.lists(st.floats(0, 60), min_size=1, max_size=8).map(lambda days: sorted(days, reverse=True)),
    st.floats(0, 60),
    st.integers(1, 9),
)
def test_the_table_of_every_moment_since_can_be_read(
    table: Table, days: list[float], cut: float, retain: int
) -> None:
    gone = expirable(history(table, days), ago(cut), retain)
    assert not set(gone) & set(range(len(days), len(days) - retain, -1))
    for number, since in enumerate(days, 1):
        until = days[number] if number < len(days) else -1.0
        assert (number in gone) <= (until >= cut >= -1)
        assert since >= until


def test_only_branches_of_runs_that_are_long_dead_are_stale(table: Table) -> None:
    old, young = int(ago(20).timestamp()), int(ago(1).timestamp())
    refs = dict.fromkeys((f"run_ab_{old}", f"run_cd_{young}", "audit", "run_by_hand"), ("branch", 1))
    assert stale_branches(history(table, [30], refs=refs), ago(7)) == [f"run_ab_{old}"]
    assert made_at("run_by_hand") is None
