"""What cannot be embedded: rejected once, with its reason, and never pending after that."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from pipelines.embed.commit.committer import Committed
from pipelines.embed.plan.survey import pending_rows, survey
from pipelines.embed.work.wire import Finished
from pipelines.encoder.encoded import Encoded
from pipelines.encoder.model import Encoder
from pipelines.encoder.ragged import Ragged
from pipelines.encoder.tokenizer import Tokenizer
from pipelines.lake import Lake
from pipelines.lake.filters import is_one_of
from tests.chunks import ChunkText, append_chunks, sentence
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
    too_long = "513 tokens with its prefix, the model reads 512: set curate.chunk.max_tokens to 512 or less"
    assert ("too_long", too_long, "long 0") in told
    assert ("bad_token_ids", "token id 30523 is not among the model's 30522", "unknown 1") in told
    assert survey(lake, encoder.key).pending_rows == 0


def test_a_chunk_at_the_limit_is_embedded(lake: Lake, encoder: Encoder, tokenizer: Tokenizer) -> None:
    append_chunks(lake, [ChunkText("odd", "doc-odd", "just fits", ids=(2023,) * 510)], tokenizer)
    total = embed_inline(lake, encoder)
    assert (total.rows, total.rejects) == (_CHUNKS + 1, 0)


def _rejects_only(run: InlineRun, lake: Lake) -> None:
    run.commit(
        [
            replace(unit, slices=tuple(replace(piece, file=None) for piece in unit.slices))
            for unit in run.work()
        ]
    )


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
    assert live_files(lake, "embeddings") <= data_files(lake, "embeddings")


def test_a_unit_of_rejects_alone_is_done(lake: Lake, encoder: Encoder, tokenizer: Tokenizer) -> None:
    append_chunks(lake, [ChunkText("odd", "doc-odd", "long", ids=(2023,) * 600)], tokenizer)
    embed_inline(lake, encoder)
    plan = survey(lake, encoder.key)
    assert (plan.pending_rows, plan.settled_rows) == (0, _CHUNKS + 1)
    rewrite(lake, "chunks")
    assert pending_rows(lake, encoder.key) == 0


def test_a_reject_taken_back_is_pending_again(lake: Lake, encoder: Encoder, tokenizer: Tokenizer) -> None:
    _with_bad_chunks(lake, tokenizer)
    embed_inline(lake, encoder)
    lake.table("rejects").delete(is_one_of("reason", ["too_long"]))
    assert check_accounts(lake, encoder.key) == 2
    assert embed_inline(lake, encoder).rejects == 2
    assert check_accounts(lake, encoder.key) == 0


class _Damaged:
    """The encoder with a broken weight: rows with one word get no vector."""

    def __init__(self, encoder: Encoder, word: int) -> None:
        self._encoder, self._word = encoder, word
        self.key = encoder.key

    def encode(self, rows: Ragged, batch_tokens: int | None) -> Encoded:
        encoded = self._encoder.encode(rows, batch_tokens)
        hit = [bool((row == self._word).any()) for row in rows]
        vectors_ND = encoded.vectors_ND.copy()
        vectors_ND[hit] = np.nan
        return Encoded(vectors_ND, encoded.tokens, encoded.padded_tokens)


@pytest.mark.parametrize("compacted", [False, True])
def test_what_one_job_rejects_while_another_embeds_it_keeps_its_embedding(
    lake: Lake, encoder: Encoder, tokenizer: Tokenizer, compacted: bool
) -> None:
    (word,) = tokenizer.encode("dawn")[0]
    damaged = InlineRun.start(lake, encoder)
    damaged.encoder = _Damaged(encoder, word)
    sound = InlineRun.start(lake, encoder)
    _rejects_only(damaged, lake)  # its rejects are there, its embeddings are not
    sound.commit(sound.work())
    assert vectors(lake, encoder.key).num_rows == _CHUNKS
    if compacted:
        rewrite(lake, "chunks")
        rewrite(lake, "embeddings")
    assert survey(lake, encoder.key).pending_rows == 0
    assert sound.committer.rejects_changed()
    assert embed_inline(lake, encoder).rows == 0
    assert check_accounts(lake, encoder.key) == 0
    assert lake.table("rejects").scan().count() == 0
    assert not survey(lake, encoder.key).doubled


def test_vectors_that_are_not_finite_are_rejected(lake: Lake, encoder: Encoder, tokenizer: Tokenizer) -> None:
    (word,) = tokenizer.encode("dawn")[0]
    run = InlineRun.start(lake, encoder)
    run.encoder = _Damaged(encoder, word)
    texts = lake.table("chunks").scan(selected_fields=("text",)).to_arrow().column(0).to_pylist()
    hit = sum("dawn" in text for text in texts)
    assert 0 < hit < _CHUNKS
    total = run.commit(run.work())
    assert (total.rows, total.rejects) == (_CHUNKS - hit, hit)
    rows = lake.table("rejects").scan().to_arrow().to_pylist()
    assert {(row["reason"], row["detail"]) for row in rows} == {
        ("bad_vector", "384 of 384 coordinates are not finite")
    }
    assert np.isfinite(np.stack(vectors(lake, encoder.key).column("embedding").to_pylist())).all()
    assert check_accounts(lake, encoder.key) == 0
