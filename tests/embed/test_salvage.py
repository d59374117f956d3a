"""What a killed run had written is committed by the next, once."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pyarrow.compute as pc
import pytest

from pipelines.embed.commit.committer import Committed, Committer
from pipelines.embed.commit.salvage import salvage
from pipelines.embed.metrics import Metrics
from pipelines.embed.plan.survey import survey
from pipelines.embed.record import recorded
from pipelines.encoder.model import Encoder
from pipelines.encoder.tokenizer import Tokenizer
from pipelines.lake import Lake
from pipelines.lake.filters import is_one_of
from pipelines.lake.runs import append_run, recorded_runs
from pipelines.lake.scan import scan_files
from pipelines.progress import Silent
from tests.chunks import ChunkText, append_chunks
from tests.embed.deletes import delete_positions, move_rows
from tests.embed.inline import InlineRun, check_accounts, data_files, embed_inline, rewrite, vectors

_CHUNKS = 60


def _killed(lake: Lake, encoder: Encoder, days_ago: int = 0) -> InlineRun:
    """A run that is in `runs` as started."""
    run = InlineRun.start(lake, encoder)
    with recorded(lake, run.job.run_id, encoder.key, Metrics(), Committed(), Silent()):
        (started,) = [r for r in recorded_runs(lake) if r.run_id == run.job.run_id]
    # The end that the block has written is taken back: a kill leaves none.
    lake.table("runs").delete(is_one_of("run_id", [run.job.run_id]))
    append_run(lake, replace(started, started_at=datetime.now(UTC) - timedelta(days=days_ago)))
    return run


def _salvaged(lake: Lake, encoder: Encoder) -> int:
    plan = survey(lake, encoder.key)
    return salvage(lake, plan, Committer(lake, plan, "f" * 32))


def test_what_was_written_and_not_committed_is_committed(any_lake: Lake, encoder: Encoder) -> None:
    lake = any_lake
    run = _killed(lake, encoder)
    units = run.work()
    run.commit(units[:2])
    done = sum(unit.rows for unit in units[:2])
    assert _salvaged(lake, encoder) == _CHUNKS - done
    assert check_accounts(lake, encoder.key) == 0
    assert _salvaged(lake, encoder) == 0
    rows = vectors(lake, encoder.key)
    assert set(rows.column("model").to_pylist()) == {encoder.key}


def test_a_run_that_is_alive_after_all_doubles_nothing(lake: Lake, encoder: Encoder) -> None:
    run = _killed(lake, encoder)
    units = run.work()
    run.commit(units[:2])
    _salvaged(lake, encoder)
    run.commit(units[2:])
    assert run.committer.total.rows == _CHUNKS
    assert check_accounts(lake, encoder.key) == 0


def test_a_unit_that_was_written_twice_is_taken_once(lake: Lake, encoder: Encoder) -> None:
    run = _killed(lake, encoder)
    run.work()
    run.work()
    assert _salvaged(lake, encoder) == _CHUNKS
    assert check_accounts(lake, encoder.key) == 0


def test_what_another_run_did_meanwhile_is_left_out(lake: Lake, encoder: Encoder) -> None:
    killed = _killed(lake, encoder)
    killed.work()
    plan = survey(lake, encoder.key)
    other = InlineRun.start(lake, encoder)
    units = other.work(tokens=200)
    other.commit(units[:2])
    done = sum(unit.rows for unit in units[:2])
    assert salvage(lake, plan, Committer(lake, plan, "f" * 32)) == _CHUNKS - done
    assert check_accounts(lake, encoder.key) == 0


def test_what_another_run_did_before_is_left_out(lake: Lake, encoder: Encoder) -> None:
    killed = _killed(lake, encoder)
    killed.work(tokens=5000)
    other = InlineRun.start(lake, encoder)
    units = other.work(tokens=40)
    other.commit(units[:3])
    _salvaged(lake, encoder)
    check_accounts(lake, encoder.key)
    embed_inline(lake, encoder)
    assert check_accounts(lake, encoder.key) == 0


def test_chunks_that_moved_or_went_since_are_not_salvaged(lake: Lake, encoder: Encoder) -> None:
    killed = _killed(lake, encoder)
    killed.work()
    for number, file in enumerate(scan_files(lake.table("chunks"))):
        if number % 2:
            move_rows(lake, file.path, [0])
        else:
            delete_positions(lake, "chunks", file.path, [0], named=True)
    other = InlineRun.start(lake, encoder)
    moved = [unit for unit in other.work(tokens=1) if all(piece.file.rows == 1 for piece in unit.unit.slices)]
    assert moved
    other.commit(moved)
    _salvaged(lake, encoder)
    assert not survey(lake, encoder.key).stale
    check_accounts(lake, encoder.key)
    embed_inline(lake, encoder)
    assert check_accounts(lake, encoder.key) == 0


@pytest.mark.parametrize("damage", ["cut short", "of another run", "too old", "chunks rewritten"])
def test_what_cannot_be_trusted_is_done_anew(
    lake: Lake, encoder: Encoder, tokenizer: Tokenizer, damage: str
) -> None:
    run = _killed(lake, encoder, days_ago=8 if damage == "too old" else 0)
    run.work()
    if damage == "cut short":
        for file in data_files(lake, "embeddings"):
            file.write_bytes(file.read_bytes()[:-100])
    elif damage == "of another run":
        for file in data_files(lake, "embeddings"):
            other = file.parent.with_name("embed-unknown")
            other.mkdir(exist_ok=True)
            file.rename(other / file.name)
    elif damage == "chunks rewritten":
        rewrite(lake, "chunks")
    assert _salvaged(lake, encoder) == 0
    assert embed_inline(lake, encoder).rows == _CHUNKS
    assert check_accounts(lake, encoder.key) == 0


def test_rejects_of_a_salvaged_unit_are_found_again(
    lake: Lake, encoder: Encoder, tokenizer: Tokenizer
) -> None:
    long = [ChunkText("notes", "doc-00000", f"long {n}", 100 + n, ids=(2023,) * 600) for n in range(2)]
    append_chunks(lake, [*long, ChunkText("notes", "doc-00000", "short", 200)], tokenizer)
    _killed(lake, encoder).work(tokens=5000)
    assert _salvaged(lake, encoder) == _CHUNKS + 1
    assert check_accounts(lake, encoder.key) == 2
    assert embed_inline(lake, encoder).rejects == 2
    assert check_accounts(lake, encoder.key) == 0
    texts = lake.table("rejects").scan().to_arrow().column("excerpt")
    assert pc.all(pc.starts_with(texts, "long")).as_py()
