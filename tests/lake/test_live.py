import weakref

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyiceberg.manifest import DataFile, ManifestContent
from pyiceberg.table import Table

from pipelines.lake import Lake, LakeConfig
from pipelines.lake.commit import append_files
from pipelines.lake.filters import equals
from pipelines.lake.live import LiveFiles
from tests.embed.deletes import delete_positions
from tests.lake.samples import opened, written


def paths() -> LiveFiles[str]:
    return LiveFiles(lambda file: file.file_path)


def planned(table: Table) -> list[str]:
    """What pyiceberg's own scan would read."""
    return sorted(task.file.file_path for task in table.scan().plan_files())


def append(lake: Lake, key: str, stage: str = "curate") -> str:
    file = written(lake.table("rejects"), [key], stage)
    append_files(lake.table("rejects"), [file], {})
    return file.path


def test_a_table_without_a_snapshot_has_no_file(lake_config: LakeConfig) -> None:
    assert list(paths().of(opened(lake_config).table("rejects"))) == []


def test_it_tells_what_a_scan_would_read(lake_config: LakeConfig) -> None:
    lake, live = opened(lake_config), paths()
    appended = [append(lake, str(number), stage) for number, stage in enumerate(("read", "curate", "read"))]
    assert sorted(live.of(lake.table("rejects"))) == sorted(appended) == planned(lake.table("rejects"))


def test_a_file_that_was_removed_is_live_no_more(lake_config: LakeConfig) -> None:
    lake, live = opened(lake_config), paths()
    kept, _ = append(lake, "a", "read"), append(lake, "b", "curate")
    assert len(list(live.of(lake.table("rejects")))) == 2
    lake.table("rejects").delete(equals("stage", "curate"))
    assert list(live.of(lake.table("rejects"))) == [kept]


steps = st.lists(
    st.sampled_from(["append read", "append curate", "delete read", "delete b", "look"]), max_size=7
)


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps, number=st.integers(0, 2**40))
def test_a_view_that_is_kept_always_tells_the_same_as_a_fresh_one_and_a_scan(
    steps: list[str], number: int, local_config: LakeConfig
) -> None:
    lake = opened(local_config.model_copy(update={"namespace": f"n{number}"}))
    live = paths()
    for step in [*steps, "look"]:
        action, _, stage = step.partition(" ")
        if action == "append":
            append(lake, "b" if stage == "curate" else "a", stage)
        elif action == "delete":
            lake.table("rejects").delete(equals("key" if stage == "b" else "stage", stage))
        else:
            table = lake.table("rejects")
            assert sorted(live.of(table)) == sorted(paths().of(table)) == planned(table)


def test_only_manifests_added_since_are_read(lake_config: LakeConfig) -> None:
    lake = opened(lake_config)
    read: list[str] = []

    def extract(file: DataFile) -> str:
        read.append(file.file_path)
        return file.file_path

    live = LiveFiles(extract)
    first = append(lake, "a")
    list(live.of(lake.table("rejects")))
    second = append(lake, "b")
    assert sorted(live.of(lake.table("rejects"))) == sorted([first, second])
    list(live.of(lake.table("rejects")))
    assert read == [first, second]


def test_an_old_handle_is_told_what_it_held_even_after_a_newer_one(local_config: LakeConfig) -> None:
    lake, live = opened(local_config), paths()
    first = append(lake, "a")
    old = lake.table("rejects")
    second = append(lake, "b")
    assert sorted(live.of(lake.table("rejects"))) == sorted([first, second])
    assert list(live.of(old)) == [first]
    assert sorted(live.of(lake.table("rejects"))) == sorted([first, second])


def test_a_look_that_was_broken_off_does_no_harm(local_config: LakeConfig) -> None:
    lake, live = opened(local_config), paths()
    appended = [append(lake, str(number)) for number in range(3)]
    assert next(live.of(lake.table("rejects"))) in appended
    assert sorted(live.of(lake.table("rejects"))) == sorted(appended)


class Kept:
    """An extract whose end can be seen."""


def test_what_is_live_no_more_is_not_kept_in_memory(local_config: LakeConfig) -> None:
    lake = opened(local_config)
    append(lake, "a")
    live = LiveFiles(lambda file: Kept())
    [kept] = [weakref.ref(one) for one in live.of(lake.table("rejects"))]
    assert kept() is not None
    lake.table("rejects").delete()
    assert list(live.of(lake.table("rejects"))) == []
    assert kept() is None


@pytest.mark.parametrize(
    ("content", "is_data"), [(ManifestContent.DATA, True), (ManifestContent.DELETES, False)]
)
def test_data_files_and_delete_files_are_told_apart(
    local_config: LakeConfig, content: ManifestContent, is_data: bool
) -> None:
    lake = opened(local_config)
    path = append(lake, "a")
    append_files(lake.table("rejects"), [written(lake.table("rejects"), ["b", "c"])], {})
    delete_positions(lake, "rejects", path, [0])
    found = list(LiveFiles(lambda file: file.file_path, content).of(lake.table("rejects")))
    assert len(found) == (2 if is_data else 1)
    assert (path in found) is is_data
