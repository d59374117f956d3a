"""When the loop commits: after so many units, after some seconds, and at the end however it comes."""

import threading
from collections.abc import Sequence

import pytest

from pipelines.embed.commit.loop import CommitLoop
from pipelines.embed.plan.units import Unit
from pipelines.embed.work.wire import REJECT_COLUMNS, Finished
from pipelines.errors import CommitError


def _unit(name: str) -> Finished:
    return Finished(Unit(int(name, 16), ()), (), REJECT_COLUMNS.empty_table(), 1, 1)


class _Committed:
    """Takes commits, and lets a test wait for them."""

    def __init__(self, fails: bool = False) -> None:
        self.commits: list[list[str]] = []
        self.fails = fails
        self.something = threading.Event()

    def __call__(self, units: Sequence[Finished]) -> None:
        self.commits.append([f"{unit.unit.number:x}" for unit in units])
        self.something.set()
        if self.fails:
            raise CommitError("the catalogue is gone")


def _interrupted(committed: _Committed) -> None:
    with CommitLoop(committed, seconds=3600) as loop:
        loop.add(_unit("a"))
        raise KeyboardInterrupt


def test_what_waits_is_committed_at_the_end() -> None:
    committed = _Committed()
    with CommitLoop(committed, seconds=3600) as loop:
        for name in "abc":
            loop.add(_unit(name))
        assert committed.commits == []
    assert committed.commits == [["a", "b", "c"]]


def test_nothing_is_committed_where_nothing_was_added() -> None:
    committed = _Committed()
    with CommitLoop(committed, seconds=0.001):
        pass
    assert committed.commits == []


def test_so_many_units_are_committed_at_once() -> None:
    committed = _Committed()
    with CommitLoop(committed, seconds=3600, units=2) as loop:
        loop.add(_unit("a"))
        loop.add(_unit("b"))
        assert committed.something.wait(timeout=30)
        loop.add(_unit("c"))
    assert committed.commits == [["a", "b"], ["c"]]


def test_a_unit_does_not_wait_for_the_next_one() -> None:
    committed = _Committed()
    with CommitLoop(committed, seconds=0.01) as loop:
        loop.add(_unit("a"))
        assert committed.something.wait(timeout=30)
    assert committed.commits == [["a"]]


def test_an_interrupted_block_commits_and_stays_interrupted() -> None:
    committed = _Committed()
    with pytest.raises(KeyboardInterrupt):
        _interrupted(committed)
    assert committed.commits == [["a"]]


def test_a_failed_commit_stops_the_run_and_is_not_tried_again() -> None:
    committed = _Committed(fails=True)
    loop = CommitLoop(committed, seconds=3600, units=1).__enter__()
    loop.add(_unit("a"))
    loop._thread.join(timeout=30)
    with pytest.raises(CommitError, match="catalogue is gone") as caught:
        loop.add(_unit("b"))
    loop.__exit__(CommitError, caught.value, None)
    assert not caught.value.__dict__.get("__notes__")
    assert committed.commits == [["a"]]


def test_a_failed_last_commit_is_raised() -> None:
    with pytest.raises(CommitError), CommitLoop(_Committed(fails=True), seconds=3600) as loop:
        loop.add(_unit("a"))


def test_a_failed_last_commit_is_noted_on_what_ended_the_run() -> None:
    with pytest.raises(KeyboardInterrupt) as caught:
        _interrupted(_Committed(fails=True))
    assert "could not be committed" in caught.value.__notes__[0]
