from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from pipelines.errors import CommitError
from pipelines.lake import Lake, LakeConfig
from pipelines.lake.config import SparkConfig
from pipelines.lake.delta import DeadRows, Delta, commit_delta
from pipelines.lake.difference import difference
from pipelines.lake.scan import ScanFile, scan_files
from pipelines.lake.spark import spark_session
from tests.lake.samples import keys_of, opened, written


def changed(lake: Lake, delta: Delta, run: str = "run") -> bool:
    return commit_delta(lake.table("rejects"), delta, run, {"note": "x"}, {"embedlake.test": run})


def dead(file: ScanFile, positions: Sequence[int]) -> DeadRows:
    return DeadRows(file.path, file.partition, file.spec_id, np.array(positions, dtype=np.int64))


def test_rows_go_and_come_in_one_snapshot_that_every_engine_reads(
    lake_config: LakeConfig, spark: SparkSession
) -> None:
    del spark  # running: `spark_session` takes it
    lake = opened(lake_config)
    table = lake.table("rejects")
    assert changed(lake, Delta([written(table, ["a", "b", "c"]), written(table, ["d"], "read")]))
    [file] = [file for file in scan_files(lake.table("rejects")) if file.rows == 3]
    before = len(lake.table("rejects").snapshots())
    assert changed(lake, Delta([written(table, ["e"])], [dead(file, [0, 2])], replaces=False), "second")
    table = lake.table("rejects")
    assert len(table.snapshots()) == before + 1
    assert table.properties["embedlake.test"] == "second"
    assert keys_of(lake) == ["b", "d", "e"]
    summary = table.current_snapshot().summary.additional_properties  # type: ignore[union-attr] # it has one
    assert summary["total-position-deletes"] == "2"
    assert summary["embedlake.run-id"] == "second"
    with spark_session(lake, SparkConfig()) as session:
        rows = session.table(lake.spark_identifier("rejects")).select("key").collect()
        assert sorted(row.key for row in rows) == ["b", "d", "e"]
        # Spark deletes more of the same file, and compacts it: the deletes written here are understood.
        session.sql(f"DELETE FROM {lake.spark_identifier('rejects')} WHERE key = 'b'")
        target = f"table => '{lake.config.namespace}.rejects', options => map('rewrite-all', 'true')"
        session.sql(f"CALL `{lake.config.name}`.system.rewrite_data_files({target})")
    assert keys_of(lake) == ["d", "e"]


def test_everything_is_replaced_at_once(local_config: LakeConfig) -> None:
    lake = opened(local_config)
    table = lake.table("rejects")
    assert changed(lake, Delta([written(table, ["a", "b"])]))
    assert changed(lake, Delta([], [dead(scan_files(lake.table("rejects"))[0], [1])]))
    assert changed(lake, Delta([written(table, ["c"])], replaces=True))
    assert keys_of(lake) == ["c"]
    summary = lake.table("rejects").current_snapshot().summary.additional_properties  # type: ignore[union-attr]
    assert (summary["total-records"], summary["total-data-files"]) == ("1", "1")
    assert summary["total-delete-files"] == "0"
    first = lake.table("rejects").snapshots()[0]
    assert lake.table("rejects").scan(snapshot_id=first.snapshot_id).to_arrow().num_rows == 2


def test_a_change_made_for_another_state_is_refused(local_config: LakeConfig) -> None:
    lake = opened(local_config)
    stale = lake.table("rejects")
    assert changed(lake, Delta([written(stale, ["a"])]))
    assert not commit_delta(stale, Delta([written(stale, ["b"])]), "late", {}, {})
    assert keys_of(lake) == ["a"]
    assert commit_delta(stale, Delta([written(stale, ["b"])]), "again", {}, {})  # it was refreshed
    assert keys_of(lake) == ["a", "b"]


def test_the_difference_names_what_came_and_where_rows_may_be_gone(local_config: LakeConfig) -> None:
    lake = opened(local_config)
    table = lake.table("rejects")
    changed(lake, Delta([written(table, ["a", "b"]), written(table, ["r"], "read")]))
    first = lake.table("rejects")
    start = first.metadata.current_snapshot_id
    added = difference(first, None)
    assert added is not None
    assert {key[0]: len(paths) for key, paths in added.added.items()} == {"curate": 1, "read": 1}
    assert not added.deletes
    assert not added.lost

    changed(lake, Delta([written(table, ["c"])]))
    then = lake.table("rejects").metadata.current_snapshot_id
    only_new = difference(lake.table("rejects"), start)
    assert only_new is not None
    assert only_new.partitions == set(only_new.added) == {("curate",)}

    victim = next(file for file in scan_files(lake.table("rejects")) if file.partition == ("read",))
    changed(lake, Delta([], [dead(victim, [0])]))
    deleted = difference(lake.table("rejects"), then)
    assert deleted is not None
    assert deleted.partitions == set(deleted.deletes) == {("read",)}

    changed(lake, Delta([written(table, ["z"])], replaces=True))
    replaced = difference(lake.table("rejects"), then)
    assert replaced is not None
    assert replaced.lost == {("curate",), ("read",)}


def test_a_snapshot_that_is_not_known_has_no_difference(local_config: LakeConfig) -> None:
    lake = opened(local_config)
    table = lake.table("rejects")
    changed(lake, Delta([written(table, ["a"])]))
    assert difference(lake.table("rejects"), 12345) is None


def test_files_of_another_spec_are_refused(local_config: LakeConfig) -> None:
    lake = opened(local_config)
    table = lake.table("rejects")
    file = written(table, ["a"])
    with pytest.raises(CommitError, match="another partition spec"):
        changed(lake, Delta([type(file)(**{**file.__dict__, "spec_id": 7})]))
    assert pa.table({"key": keys_of(lake)}).num_rows == 0
