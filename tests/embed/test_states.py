"""Every state that a death, another job, a compaction or a delete can leave: nothing lost, nothing twice."""

import numpy as np
import pytest

from pipelines.embed.plan.survey import survey
from pipelines.encoder.conf import ModelConf
from pipelines.encoder.model import Encoder
from pipelines.encoder.tokenizer import Tokenizer
from pipelines.lake import Lake
from pipelines.lake.filters import is_one_of
from pipelines.lake.scan import read_file, scan_files
from tests.chunks import ChunkText, append_chunks, sentence
from tests.embed.deletes import delete_positions, move_rows
from tests.embed.inline import (
    InlineRun,
    check_accounts,
    data_files,
    embed_inline,
    live_files,
    rewrite,
    vectors,
)

_CHUNKS = 60


def test_each_chunk_gets_the_vector_that_the_encoder_gives_its_text(any_lake: Lake, encoder: Encoder) -> None:
    lake = any_lake
    assert check_accounts(lake, encoder.key) == _CHUNKS
    total = embed_inline(lake, encoder)
    assert (total.rows, total.rejects, total.needless_rows) == (_CHUNKS, 0, 0)
    assert check_accounts(lake, encoder.key) == 0
    chunks = lake.table("chunks").scan().to_arrow().sort_by("chunk_id")
    rows = vectors(lake, encoder.key).sort_by("chunk_id")
    for column in ("chunk_id", "doc_id", "source"):
        assert rows.column(column).to_pylist() == chunks.column(column).to_pylist()
    direct = encoder.encode_texts(chunks.column("text").to_pylist(), "document")
    stored = np.stack(rows.column("embedding").to_pylist())
    assert (stored * direct).sum(axis=1).min() > 0.9999  # bfloat16 rounds differently in other batches


def test_a_second_run_finds_nothing_to_do_without_reading_an_id(lake: Lake, encoder: Encoder) -> None:
    embed_inline(lake, encoder)
    plan = InlineRun.start(lake, encoder).plan
    assert plan.pending_rows == 0
    assert plan.settled_rows == _CHUNKS


def test_what_died_before_its_commit_is_done_again(lake: Lake, encoder: Encoder) -> None:
    run = InlineRun.start(lake, encoder)
    units = run.work()
    run.commit(units[:4])
    done = sum(unit.rows for unit in units[:4])
    assert check_accounts(lake, encoder.key) == _CHUNKS - done
    assert embed_inline(lake, encoder).rows == _CHUNKS - done
    assert check_accounts(lake, encoder.key) == 0


def test_a_commit_repeated_after_its_answer_was_lost_adds_nothing(lake: Lake, encoder: Encoder) -> None:
    run = InlineRun.start(lake, encoder)
    units = run.work()
    run.commit(units)
    run.commit(units)
    assert check_accounts(lake, encoder.key) == 0
    assert live_files(lake, "embeddings") == data_files(lake, "embeddings")


def test_two_jobs_at_once_share_the_table(lake: Lake, encoder: Encoder) -> None:
    first, second = InlineRun.start(lake, encoder), InlineRun.start(lake, encoder)
    ours, theirs = first.work(), second.work()
    first.commit(ours[:2])
    second.commit(theirs[:5])  # two of them done by the first, three new
    first.commit(ours[2:7])
    second.commit(theirs[5:])
    first.commit(ours[7:])
    assert check_accounts(lake, encoder.key) == 0
    assert first.committer.total.rows + second.committer.total.rows == _CHUNKS
    assert first.committer.total.needless_rows + second.committer.total.needless_rows == _CHUNKS
    assert live_files(lake, "embeddings") < data_files(lake, "embeddings")  # what was needless is an orphan


@pytest.mark.parametrize("committed", [0, 3, 9])
def test_compacted_chunks_are_not_embedded_again(any_lake: Lake, encoder: Encoder, committed: int) -> None:
    lake = any_lake
    run = InlineRun.start(lake, encoder)
    units = run.work()
    if committed:
        run.commit(units[:committed])
    done = sum(unit.rows for unit in units[:committed])
    rewrite(lake, "chunks")
    assert check_accounts(lake, encoder.key) == _CHUNKS - done
    assert embed_inline(lake, encoder).rows == _CHUNKS - done
    assert check_accounts(lake, encoder.key) == 0
    rewrite(lake, "chunks")
    assert survey(lake, encoder.key).pending_rows == 0


@pytest.mark.parametrize("committed", [3, 9])
def test_compacted_embeddings_are_not_embedded_again(lake: Lake, encoder: Encoder, committed: int) -> None:
    run = InlineRun.start(lake, encoder)
    units = run.work()
    run.commit(units[:committed])
    done = sum(unit.rows for unit in units[:committed])
    rewrite(lake, "embeddings")
    assert check_accounts(lake, encoder.key) == _CHUNKS - done
    assert embed_inline(lake, encoder).rows == _CHUNKS - done
    assert check_accounts(lake, encoder.key) == 0


@pytest.mark.parametrize("table", ["chunks", "embeddings"])
def test_a_compaction_under_a_job_and_another_job_after_it(lake: Lake, encoder: Encoder, table: str) -> None:
    slow = InlineRun.start(lake, encoder)
    units = slow.work()
    slow.commit(units[:2])
    if table == "chunks":
        rewrite(lake, "chunks")
    quick = InlineRun.start(lake, encoder)
    quick_units = quick.work()
    quick.commit(quick_units[:2])
    if table == "embeddings":
        rewrite(lake, "embeddings")
    slow.commit(units[2:])
    assert check_accounts(lake, encoder.key) == 0
    if quick_units[2:]:
        quick.commit(quick_units[2:])
    assert check_accounts(lake, encoder.key) == 0
    totals = slow.committer.total, quick.committer.total
    assert sum(total.rows for total in totals) == _CHUNKS


def test_a_unit_half_done_by_another_job_is_cut_to_its_other_half(lake: Lake, encoder: Encoder) -> None:
    rewrite(lake, "chunks")  # one unit a partition
    slow = InlineRun.start(lake, encoder)
    units = slow.work()
    embed_inline(lake, encoder)
    half = vectors(lake, encoder.key).column("chunk_id").to_pylist()[::2]
    lake.table("embeddings").delete(is_one_of("chunk_id", half))
    total = slow.commit(units)
    assert (total.rows, total.needless_rows) == (len(half), _CHUNKS - len(half))
    assert check_accounts(lake, encoder.key) == 0
    assert live_files(lake, "embeddings") <= data_files(lake, "embeddings")


def test_deleted_embeddings_are_pending_again(lake: Lake, encoder: Encoder) -> None:
    embed_inline(lake, encoder)
    gone = vectors(lake, encoder.key).column("chunk_id").to_pylist()[:7]
    lake.table("embeddings").delete(
        is_one_of("chunk_id", gone)
    )  # copy on write: the units stay in statistics
    assert check_accounts(lake, encoder.key) == 7
    assert embed_inline(lake, encoder).rows == 7
    assert check_accounts(lake, encoder.key) == 0


def _first_rows(lake: Lake, table: str, count: int) -> tuple[str, list[str]]:
    file = next(file for file in scan_files(lake.table(table)) if file.rows > count)
    return file.path, read_file(lake.table(table), file, ["chunk_id"]).column(0).to_pylist()


def test_embeddings_deleted_by_position_are_pending_again(any_lake: Lake, encoder: Encoder) -> None:
    lake = any_lake
    embed_inline(lake, encoder)
    path, _ = _first_rows(lake, "embeddings", 3)
    delete_positions(lake, "embeddings", path, [0, 2])
    assert check_accounts(lake, encoder.key) == 2
    assert embed_inline(lake, encoder).rows == 2
    assert check_accounts(lake, encoder.key) == 0


def test_chunks_deleted_by_position_are_not_embedded(lake: Lake, encoder: Encoder) -> None:
    path, ids = _first_rows(lake, "chunks", 3)
    delete_positions(lake, "chunks", path, [1, 3])
    assert check_accounts(lake, encoder.key) == _CHUNKS - 2
    assert embed_inline(lake, encoder).rows == _CHUNKS - 2
    assert check_accounts(lake, encoder.key) == 0
    assert not {ids[1], ids[3]} & set(vectors(lake, encoder.key).column("chunk_id").to_pylist())


def test_new_chunks_alone_are_pending(lake: Lake, encoder: Encoder, tokenizer: Tokenizer) -> None:
    embed_inline(lake, encoder)
    append_chunks(lake, [ChunkText("notes", f"new-{n}", sentence(900 + n)) for n in range(5)], tokenizer)
    assert check_accounts(lake, encoder.key) == 5
    assert embed_inline(lake, encoder).rows == 5
    assert check_accounts(lake, encoder.key) == 0


def test_two_models_live_side_by_side(lake: Lake, encoder: Encoder, conf: ModelConf) -> None:
    embed_inline(lake, encoder)
    other = Encoder.load(
        conf.model_copy(update={"prefixes": {"document": "passage", "query": "query"}}),
        device="cpu",
        threads=1,
    )
    assert other.key != encoder.key
    assert check_accounts(lake, other.key) == _CHUNKS
    embed_inline(lake, other)
    assert check_accounts(lake, other.key) == check_accounts(lake, encoder.key) == 0


@pytest.mark.parametrize("committed", [3, 9])
def test_chunks_that_moved_to_another_file_are_not_embedded_again(
    lake: Lake, encoder: Encoder, committed: int
) -> None:
    run = InlineRun.start(lake, encoder)
    units = run.work()
    run.commit(units[:committed])
    done = sum(unit.rows for unit in units[:committed])
    for name in {piece.file.path for unit in units[:committed] for piece in unit.unit.slices}:
        move_rows(lake, name, [0, 2])
    assert check_accounts(lake, encoder.key) == _CHUNKS - done
    assert embed_inline(lake, encoder).rows == _CHUNKS - done
    assert check_accounts(lake, encoder.key) == 0


def test_chunks_that_move_under_a_job_are_not_doubled_by_a_job_after_it(lake: Lake, encoder: Encoder) -> None:
    slow = InlineRun.start(lake, encoder)
    units = slow.work()
    for file in scan_files(lake.table("chunks")):
        move_rows(lake, file.path, [0])
    quick = InlineRun.start(lake, encoder)
    theirs = quick.work()
    slow.commit(units)
    quick.commit(theirs)
    assert check_accounts(lake, encoder.key) == 0
