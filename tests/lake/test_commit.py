import os
import signal
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyiceberg.table import Table

from infra.local.seaweed import SeaweedServer
from pipelines.errors import CommitError
from pipelines.lake import Lake, LakeConfig, commit
from pipelines.lake.commit import append_files
from pipelines.lake.datafiles import WrittenFile
from pipelines.lake.live import LiveFiles
from tests.lake.gateway import Gateway
from tests.lake.samples import keys_of, opened, written
from tests.lake.writers import append_and_die, append_many, at_once, exit_code, offer


def snapshots(lake: Lake) -> int:
    return len(lake.table("rejects").snapshots())


def test_files_are_appended_in_one_snapshot_that_carries_the_properties(lake_config: LakeConfig) -> None:
    lake = opened(lake_config)
    table = lake.table("rejects")
    files = [written(table, [f"{number}"], stage) for number, stage in enumerate(("read", "curate", "embed"))]
    assert append_files(table, files, {"embedlake.run-id": "r1"}) == files
    assert keys_of(lake) == ["0", "1", "2"]
    [snapshot] = lake.table("rejects").snapshots()
    assert snapshot.summary is not None
    assert snapshot.summary["embedlake.run-id"] == "r1"
    assert snapshot.summary["added-data-files"] == "3"


def test_a_file_given_twice_is_refused_and_nothing_is_appended(lake_config: LakeConfig) -> None:
    lake = opened(lake_config)
    file, other = written(lake.table("rejects"), ["a"]), written(lake.table("rejects"), ["b"])
    with pytest.raises(CommitError, match="is given twice") as caught:
        append_files(lake.table("rejects"), [file, other, file], {})
    assert file.path in str(caught.value)
    assert snapshots(lake) == 0


def test_a_file_given_again_in_a_later_call_is_left_out(lake_config: LakeConfig) -> None:
    lake = opened(lake_config)
    table = lake.table("rejects")
    first, second = written(table, ["a"]), written(table, ["b"])
    append_files(table, [first], {})
    assert append_files(table, [first, second], {}) == [second]
    assert append_files(table, [first, second], {}) == []
    assert keys_of(lake) == ["a", "b"]
    assert snapshots(lake) == 2  # and no empty one


def test_a_file_that_another_handle_appended_meanwhile_is_left_out(lake_config: LakeConfig) -> None:
    lake = opened(lake_config)
    ours, theirs = lake.table("rejects"), Lake.open(lake_config).table("rejects")
    file = written(ours, ["a"])
    append_files(theirs, [file], {})
    assert append_files(ours, [file], {}) == []
    assert keys_of(lake) == ["a"]


def test_an_append_from_an_old_handle_keeps_what_others_appended(lake_config: LakeConfig) -> None:
    lake = opened(lake_config)
    handles = [Lake.open(lake_config).table("rejects") for _ in range(3)]
    for number, handle in enumerate(handles):
        append_files(handle, [written(handle, [str(number)])], {})
    assert keys_of(lake) == ["0", "1", "2"]


def test_an_append_waits_its_turn_behind_a_commit_to_a_branch(
    lake_config: LakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, other = opened(lake_config), Lake.open(lake_config)
    append_files(lake.table("rejects"), [written(lake.table("rejects"), ["first"])], {})
    rival = other.table("rejects")
    snapshot = rival.current_snapshot()
    assert snapshot is not None
    rival.manage_snapshots().create_branch(snapshot.snapshot_id, "run").commit()
    rows = rival.scan().to_arrow()
    table = lake.table("rejects")
    commit = lake.catalog.commit_table
    came: list[int] = []

    def after_the_branch(*words: object) -> object:
        if not came:
            rival.append(rows, branch="run")
            came.append(rows.num_rows)
        return commit(*words)  # type: ignore[arg-type] # as they came

    monkeypatch.setattr(lake.catalog, "commit_table", after_the_branch)
    assert len(append_files(table, [written(table, ["second"])], {})) == 1
    assert came
    assert keys_of(lake) == ["first", "second"]


def test_nothing_to_append_makes_no_snapshot(local_config: LakeConfig) -> None:
    lake = opened(local_config)
    assert append_files(lake.table("rejects"), [], {}) == []
    assert snapshots(lake) == 0


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    calls=st.lists(st.sets(st.integers(0, 4), min_size=1), min_size=1, max_size=4), keeps_view=st.booleans()
)
def test_whatever_is_appended_again_and_again_is_in_the_table_once(
    calls: list[set[int]], keeps_view: bool, local_config: LakeConfig
) -> None:
    lake = opened(local_config.model_copy(update={"namespace": f"n{os.urandom(6).hex()}"}))
    table = lake.table("rejects")
    files = [written(table, [f"{number}-{row}" for row in range(number + 1)]) for number in range(5)]
    live = LiveFiles(lambda file: file.file_path) if keeps_view else None
    seen: set[int] = set()
    for call in calls:
        done = append_files(lake.table("rejects"), [files[at] for at in call], {}, live=live)
        assert {file.path for file in done} == {files[at].path for at in call - seen}
        seen |= call
    assert keys_of(lake) == sorted(f"{number}-{row}" for number in seen for row in range(number + 1))


def test_what_is_no_longer_missing_is_left_out(local_config: LakeConfig) -> None:
    lake = opened(local_config)
    table = lake.table("rejects")
    files = [written(table, [key]) for key in ("a", "b", "c")]

    def only_b(table: Table, files: Sequence[WrittenFile]) -> Sequence[WrittenFile]:
        del table
        return [file for file in files if file is not wanted[0] and file is not wanted[2]]

    wanted = files
    assert append_files(table, files, {}, still_missing=only_b) == [files[1]]
    assert append_files(table, files, {}, still_missing=lambda *_: []) == []
    assert keys_of(lake) == ["b"]


def test_after_a_lost_race_it_is_asked_again_with_the_table_as_the_winner_left_it(
    lake_config: LakeConfig,
) -> None:
    lake = opened(lake_config)
    rival = Lake.open(lake_config).table("rejects")
    asked: list[tuple[int, list[str]]] = []

    def ask(table: Table, files: Sequence[WrittenFile]) -> Sequence[WrittenFile]:
        held = table.scan(selected_fields=("key",)).to_arrow()["key"].to_pylist()
        asked.append((len(files), held))
        if len(asked) == 1:  # now, between our look at the table and our commit
            append_files(rival, [written(rival, ["taken"])], {})
        return [file for file in files if file is free] if "taken" in held else files

    table = lake.table("rejects")
    free, taken = written(table, ["free"]), written(table, ["taken"])
    assert append_files(table, [taken, free], {}, still_missing=ask) == [free]
    assert asked == [(2, []), (2, ["taken"])]
    assert keys_of(lake) == ["free", "taken"]


def test_a_race_lost_again_and_again_is_a_fault_and_appends_nothing(
    local_config: LakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit, "_ATTEMPTS", 3)
    lake = opened(local_config)
    rival = Lake.open(local_config).table("rejects")

    def spoil(table: Table, files: Sequence[WrittenFile]) -> Sequence[WrittenFile]:
        del table
        append_files(rival, [written(rival, ["rival"])], {})
        return files

    with pytest.raises(CommitError, match="rejects was changed by others 3 times in a row"):
        append_files(lake.table("rejects"), [written(lake.table("rejects"), ["ours"])], {}, spoil)
    assert keys_of(lake) == ["rival"] * 3


def test_files_of_an_older_partition_spec_are_refused(local_config: LakeConfig) -> None:
    lake = opened(local_config)
    file = written(lake.table("rejects"), ["a"])
    with lake.table("rejects").update_spec() as update:
        update.add_identity("source")
    with pytest.raises(CommitError, match="another partition spec"):
        append_files(lake.table("rejects"), [file], {})
    assert snapshots(lake) == 0


def test_threads_that_append_at_once_lose_and_double_nothing(lake_config: LakeConfig) -> None:
    lake, writers, appends = opened(lake_config), 4, 4
    start = Barrier(writers)

    def write(writer: int) -> list[str]:
        start.wait()
        return append_many(writer, lake_config, appends, rows=3)

    with ThreadPoolExecutor(writers) as pool:
        keys = [key for keys in pool.map(write, range(writers)) for key in keys]
    assert keys_of(lake) == sorted(keys)
    assert len(keys) == writers * appends * 3
    assert snapshots(lake) == writers * appends


def test_processes_that_append_at_once_lose_and_double_nothing(lake_config: LakeConfig) -> None:
    lake = opened(lake_config)
    keys = [key for keys in at_once(3, append_many, lake_config, 5, 2) for key in keys]
    assert keys_of(lake) == sorted(keys)
    assert len(keys) == 3 * 5 * 2
    assert snapshots(lake) == 3 * 5


def test_processes_that_append_the_same_files_at_once_append_each_once(lake_config: LakeConfig) -> None:
    lake = opened(lake_config)
    files = [written(lake.table("rejects"), [str(number)]) for number in range(6)]
    done = at_once(3, offer, lake_config, files)
    assert keys_of(lake) == [str(number) for number in range(6)]
    assert sorted(path for paths in done for path in paths) == sorted(file.path for file in files)


@pytest.mark.parametrize(
    ("when", "left"), [("before the commit", []), ("during the commit", []), ("after the commit", ["a"])]
)
def test_a_writer_killed_leaves_all_or_nothing_and_the_same_call_again_completes_it(
    lake_config: LakeConfig, when: str, left: list[str]
) -> None:
    lake = opened(lake_config)
    file = written(lake.table("rejects"), ["a"])
    assert exit_code(append_and_die, lake_config, file, when) == -signal.SIGKILL
    assert keys_of(lake) == left
    assert append_files(lake.table("rejects"), [file], {}) == ([] if left else [file])
    assert keys_of(lake) == ["a"]


@pytest.mark.parametrize("landed", [True, False])
def test_a_commit_whose_answer_is_lost_is_neither_lost_nor_doubled(
    seaweed: SeaweedServer, s3_config: LakeConfig, landed: bool
) -> None:
    lake = opened(s3_config)
    with Gateway(seaweed.catalog_uri) as gateway:
        catalog = s3_config.catalog.model_copy(update={"uri": gateway.uri})
        table = Lake.open(s3_config.model_copy(update={"catalog": catalog})).table("rejects")
        file = written(table, ["a"])
        gateway.fail_next_commit(lands=landed)
        assert append_files(table, [file], {}) == [file]
        assert gateway.failed == 1
    assert keys_of(lake) == ["a"]
    assert snapshots(lake) == 1
