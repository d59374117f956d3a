"""Every state that a death, another job, a compaction or a delete can leave: nothing lost, nothing twice."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from pipelines.embed.committer import Committed
from pipelines.embed.survey import pending_rows, survey
from pipelines.embed.work import Finished
from pipelines.encoder.conf import ModelConf
from pipelines.encoder.model import Encoder
from pipelines.encoder.tokenizer import Tokenizer
from pipelines.lake import Lake
from pipelines.lake.filters import is_one_of
from pipelines.lake.scan import read_file, scan_files
from tests.chunks import ChunkText, append_chunks, sentence
from tests.embed.deletes import delete_positions
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
    assert not plan.pending
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
    # What was needless is deleted, and nothing else.
    assert live_files(lake, "embeddings") == data_files(lake, "embeddings")


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
    assert not survey(lake, encoder.key).pending


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


# Rejects.


def _with_bad_chunks(lake: Lake, tokenizer: Tokenizer, count: int = 2) -> None:
    """Adds a unit with too long chunks, chunks with unknown ids, and good ones."""
    chunks = [ChunkText("odd", "doc-odd", f"{sentence(n)} ", n) for n in range(count)]
    long = [ChunkText("odd", "doc-odd", f"long {n}", 100 + n, ids=(2023,) * 511) for n in range(count)]
    unknown = [
        ChunkText("odd", "doc-odd", f"unknown {n}", 200 + n, ids=(2023, tokenizer.vocab_size + n, -1))
        for n in range(count)
    ]
    append_chunks(lake, [*chunks, *long, *unknown], tokenizer)


def test_what_cannot_be_embedded_is_rejected_with_its_reason(
    any_lake: Lake, encoder: Encoder, tokenizer: Tokenizer
) -> None:
    lake = any_lake
    _with_bad_chunks(lake, tokenizer)
    total = embed_inline(lake, encoder)
    assert (total.rows, total.rejects) == (_CHUNKS + 2, 4)
    assert check_accounts(lake, encoder.key) == 0
    rows = lake.table("rejects").scan().to_arrow().to_pylist()
    assert {row["stage"] for row in rows} == {"embed"}
    assert {row["source"] for row in rows} == {"odd"}
    told = {(row["reason"], row["detail"], row["excerpt"]) for row in rows}
    assert ("too_long", "513 tokens with its prefix, the model reads 512", "long 0") in told
    assert ("bad_token_ids", "token id 30523 is not among the model's 30522", "unknown 1") in told
    assert not survey(lake, encoder.key).pending


def test_a_chunk_at_the_limit_is_embedded(lake: Lake, encoder: Encoder, tokenizer: Tokenizer) -> None:
    append_chunks(lake, [ChunkText("odd", "doc-odd", "just fits", ids=(2023,) * 510)], tokenizer)
    total = embed_inline(lake, encoder)
    assert (total.rows, total.rejects) == (_CHUNKS + 1, 0)


def _rejects_only(run: InlineRun, lake: Lake) -> None:
    run.commit([replace(unit, file=None) for unit in run.work()])


def _everything(run: InlineRun, lake: Lake) -> None:
    run.commit(run.work())


def _then_chunks_compacted(run: InlineRun, lake: Lake) -> None:
    _rejects_only(run, lake)
    rewrite(lake, "chunks")


def _then_all_compacted(run: InlineRun, lake: Lake) -> None:
    _everything(run, lake)
    for table in ("chunks", "embeddings", "rejects"):
        rewrite(lake, table)


@pytest.mark.parametrize("before", [_rejects_only, _everything, _then_chunks_compacted, _then_all_compacted])
def test_a_reject_is_written_once_and_never_pending(
    lake: Lake, encoder: Encoder, tokenizer: Tokenizer, before: Callable[[InlineRun, Lake], None]
) -> None:
    _with_bad_chunks(lake, tokenizer)
    late = InlineRun.start(lake, encoder)
    late_units = late.work()
    before(InlineRun.start(lake, encoder), lake)
    check_accounts(lake, encoder.key)
    late.commit(late_units)
    assert check_accounts(lake, encoder.key) == 0
    assert late.committer.total.rejects == 0
    assert lake.table("rejects").scan().count() == 4


def test_jobs_that_commit_at_the_same_moment_double_nothing(
    lake: Lake, encoder: Encoder, tokenizer: Tokenizer
) -> None:
    _with_bad_chunks(lake, tokenizer)
    runs = [InlineRun.start(lake, encoder) for _ in range(4)]
    works = [run.work() for run in runs]
    together = threading.Barrier(len(runs))

    def commit(run: InlineRun, units: list[Finished]) -> Committed:
        together.wait()
        return run.commit(units)

    with ThreadPoolExecutor(len(runs)) as pool:
        totals = list(pool.map(commit, runs, works))
    assert check_accounts(lake, encoder.key) == 0
    assert sum(total.rows for total in totals) == _CHUNKS + 2
    assert sum(total.rejects for total in totals) == 4
    assert live_files(lake, "embeddings") == data_files(lake, "embeddings")


def test_a_unit_of_rejects_alone_is_done(lake: Lake, encoder: Encoder, tokenizer: Tokenizer) -> None:
    append_chunks(lake, [ChunkText("odd", "doc-odd", "long", ids=(2023,) * 600)], tokenizer)
    embed_inline(lake, encoder)
    plan = survey(lake, encoder.key)
    assert (plan.pending, plan.settled_rows) == ((), _CHUNKS + 1)
    rewrite(lake, "chunks")
    assert pending_rows(lake, encoder.key) == 0


def test_a_reject_taken_back_is_pending_again(lake: Lake, encoder: Encoder, tokenizer: Tokenizer) -> None:
    _with_bad_chunks(lake, tokenizer)
    embed_inline(lake, encoder)
    lake.table("rejects").delete(is_one_of("reason", ["too_long"]))
    assert check_accounts(lake, encoder.key) == 2
    assert embed_inline(lake, encoder).rejects == 2
    assert check_accounts(lake, encoder.key) == 0


def test_vectors_that_are_not_finite_are_rejected(lake: Lake, conf: ModelConf, tokenizer: Tokenizer) -> None:
    damaged = Encoder.load(conf, device="cpu", threads=1)
    (word,) = tokenizer.encode("dawn")[0]
    damaged._model.get_input_embeddings().weight.data[word] = float("nan")
    texts = lake.table("chunks").scan(selected_fields=("text",)).to_arrow().column(0).to_pylist()
    hit = sum("dawn" in text for text in texts)
    assert 0 < hit < _CHUNKS
    total = embed_inline(lake, damaged)
    assert (total.rows, total.rejects) == (_CHUNKS - hit, hit)
    rows = lake.table("rejects").scan().to_arrow().to_pylist()
    assert {(row["reason"], row["detail"]) for row in rows} == {
        ("bad_vector", "384 of 384 coordinates are not finite")
    }
    assert np.isfinite(np.stack(vectors(lake, damaged.key).column("embedding").to_pylist())).all()
    assert check_accounts(lake, damaged.key) == 0
