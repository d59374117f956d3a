"""A store or catalogue that is away for less than the patience costs a run nothing but time."""

from pathlib import Path

import pytest

from pipelines.embed.commit.patience import Patience
from pipelines.encoder.model import Encoder
from pipelines.encoder.tokenizer import Tokenizer
from pipelines.errors import CatalogError, CommitError, StorageError
from pipelines.lake import Lake
from tests.chunks import ChunkText, append_chunks
from tests.embed.inline import InlineRun, check_accounts

_CHUNKS = 60


class _Clock:
    """Counts the pauses, and at one of them brings something back."""

    def __init__(self, back: int = 10**9, lake: Lake | None = None) -> None:
        self.pauses = 0
        self._back, self._lake = back, lake

    def __call__(self, seconds: float) -> None:
        self.pauses += 1
        if self.pauses == self._back and self._lake is not None:
            move_back(self._lake)


def _warehouse(lake: Lake) -> Path:
    assert lake.config.root is not None
    return lake.config.root / "warehouse"


def take_away(lake: Lake) -> None:
    """A file stands where the warehouse was: nothing can be read or written."""
    folder = _warehouse(lake)
    folder.rename(folder.with_name("away"))
    folder.touch()


def move_back(lake: Lake) -> None:
    folder = _warehouse(lake)
    folder.unlink()
    folder.with_name("away").rename(folder)


def test_a_commit_waits_for_the_store(lake: Lake, encoder: Encoder, tokenizer: Tokenizer) -> None:
    append_chunks(lake, [ChunkText("odd", "doc-odd", "too long", ids=(2023,) * 600)], tokenizer)
    run = InlineRun.start(lake, encoder)
    units = run.work()
    clock = _Clock(3, lake)
    run.committer.patience = Patience(3600, clock)
    take_away(lake)
    total = run.commit(units)
    assert clock.pauses == 3
    assert (total.rows, total.rejects) == (_CHUNKS, 1)
    assert check_accounts(lake, encoder.key) == 0


def test_a_unit_that_is_cut_when_the_store_goes_is_cut_once(
    lake: Lake, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, quick = InlineRun.start(lake, encoder), InlineRun.start(lake, encoder)
    ours = slow.work(tokens=10**6, rows=10**6)
    theirs = quick.work(tokens=40)
    quick.commit(theirs[::2])
    done = sum(unit.rows for unit in theirs[::2])
    clock = _Clock(2, lake)
    slow.committer.patience = Patience(3600, clock)
    cut, cuts = type(slow.committer)._cut, 0

    def cut_in_the_outage(*args: object) -> object:
        nonlocal cuts
        cuts += 1
        if cuts == 2:
            take_away(lake)
        return cut(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(type(slow.committer), "_cut", cut_in_the_outage)
    total = slow.commit(ours)
    assert (total.rows, total.needless_rows) == (_CHUNKS - done, done)
    assert clock.pauses == 2
    assert check_accounts(lake, encoder.key) == 0


@pytest.mark.parametrize("error", [CatalogError("away"), StorageError("away")])
def test_patience_ends(error: Exception) -> None:
    def fails() -> None:
        raise error

    clock = _Clock()
    with pytest.raises(type(error)):
        Patience(0.0, clock).outlast(fails)
    assert clock.pauses == 0
    with pytest.raises(type(error)):
        Patience(0.01, clock).outlast(fails)
    assert clock.pauses > 0


def test_another_error_is_not_waited_for() -> None:
    def fails() -> None:
        raise CommitError("the race was lost")

    clock = _Clock()
    with pytest.raises(CommitError):
        Patience(3600, clock).outlast(fails)
    assert clock.pauses == 0
