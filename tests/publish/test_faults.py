from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException

from pipelines.encoder.conf import load_model_conf
from pipelines.encoder.tokenizer import Tokenizer
from pipelines.errors import CommitError
from pipelines.lake import Lake, LakeConfig
from pipelines.lake.config import SparkConfig
from pipelines.publish.config import PublishConfig
from pipelines.publish.report import Report, Request
from pipelines.publish.run import publish
from tests.chunks import append_chunks
from tests.faults.changes import compact, replace
from tests.publish.lakes import embed_pending, expected_rows, filled, serving_rows, titled
from tests.told import Told

CONFIG = PublishConfig(table="serving", dim=16, columns=("text", "metadata.title"))


def put(lake: Lake, progress: Told | None = None, **request: Any) -> Report:
    return publish(lake, CONFIG, SparkConfig(), Request(**request), progress)


def changed(lake: Lake) -> None:
    """New, changed and deleted chunks."""
    tokenizer = Tokenizer.load(load_model_conf("minilm"))
    append_chunks(lake, titled(4, start=300), tokenizer)
    replace(lake, tokenizer, Random(1), 0.5, True)
    embed_pending(lake)


def when_written(action: Callable[[], None]) -> Told:
    """Does something once, when tasks have written their files and nothing is committed."""
    waiting = [action]
    return Told(at_done=lambda amount: waiting.pop()() if waiting else None)


def is_exact(lake: Lake) -> bool:
    return serving_rows(lake, "serving") == expected_rows(lake, "serving", CONFIG.columns)


@pytest.mark.parametrize("first", [True, False], ids=["full", "increment"])
def test_of_two_at_once_the_second_to_commit_looks_again(lake_config: LakeConfig, first: bool) -> None:
    lake = filled(lake_config, documents=8)
    if not first:
        put(lake)
        changed(lake)
    others: list[Report] = []
    progress = when_written(lambda: others.append(put(Lake.open(lake.config))))
    report = put(lake, progress)
    assert others[0].kind == ("full" if first else "incremental")
    assert (report.kind, any("changed by another job" in line for line in progress.lines)) == (
        "nothing",
        True,
    )
    assert report.run_id == others[0].run_id
    assert is_exact(lake)


@pytest.mark.parametrize("rebuild", [False, True])
def test_a_compaction_on_the_way_costs_another_look_and_no_row(
    local_config: LakeConfig, rebuild: bool
) -> None:
    lake = filled(local_config, documents=8)
    put(lake)
    changed(lake)
    progress = when_written(lambda: void(compact(Lake.open(lake.config), "serving", Random(0))))
    report = put(lake, progress, rebuild=rebuild)
    assert report.kind == ("full" if rebuild else "incremental")
    assert is_exact(lake)


def void(_: object) -> None:
    return None


def test_killed_before_its_commit_it_has_changed_nothing(local_config: LakeConfig) -> None:
    lake = filled(local_config, documents=8)
    put(lake)
    before = serving_rows(lake, "serving")
    changed(lake)

    def kill() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        put(lake, when_written(kill), release="next")
    assert serving_rows(lake, "serving") == before
    assert put(lake, release="next").kind == "incremental"
    assert is_exact(lake)


@pytest.mark.parametrize("landed", [True, False])
def test_a_commit_of_which_no_answer_came_is_looked_for(
    local_config: LakeConfig, landed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = filled(local_config, documents=8)
    put(lake)
    changed(lake)
    commit = lake.catalog.commit_table
    failures = [1]

    def uncertain(table: Any, requirements: Any, updates: Any) -> Any:
        if failures and table.name()[-1] == "serving":
            failures.pop()
            if landed:
                commit(table, requirements, updates)
            raise CommitStateUnknownException("no answer")
        return commit(table, requirements, updates)

    monkeypatch.setattr(lake.catalog, "commit_table", uncertain)
    report = put(lake)
    assert (report.kind, report.new > 0, failures) == ("incremental", True, [])
    assert is_exact(lake)
    assert len(lake.table("serving").snapshots()) == 2


def test_a_table_that_others_change_again_and_again_is_given_up_in_the_end(
    local_config: LakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = filled(local_config, documents=2)
    put(lake)
    changed(lake)

    def lost(table: Any, requirements: Any, updates: Any) -> Any:
        raise CommitFailedException("somebody was faster")

    monkeypatch.setattr(lake.catalog, "commit_table", lost)
    with pytest.raises(CommitError, match="'serving' was changed by others 20 times in a row"):
        put(lake)
