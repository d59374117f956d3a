"""A text that is embedded already is not embedded again."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.cluster.config import RayConfig
from pipelines.cluster.session import RaySession
from pipelines.embed.config import EmbedConfig
from pipelines.embed.run import embed
from pipelines.embed.work.cache import CacheIndex, cached_vectors, matches, pending_hashes, short_hashes
from pipelines.encoder.conf import ModelConf
from pipelines.encoder.encoded import Encoded
from pipelines.encoder.model import Encoder
from pipelines.encoder.ragged import Ragged
from pipelines.encoder.tokenizer import Tokenizer
from pipelines.lake import Lake
from pipelines.lake.scan import scan_files
from tests.chunks import ChunkText, append_chunks, corpus
from tests.embed.deletes import delete_positions
from tests.embed.inline import InlineRun, check_accounts, embed_inline, rewrite, vectors
from tests.told import Told

_CHUNKS = 60
_CONFIG = EmbedConfig(actors=1, threads=1, unit_tokens=300)


@given(st.lists(st.binary(min_size=16, max_size=16)), st.integers(0, 3))
def test_a_short_hash_is_the_first_half_of_the_digits(hashes: list[bytes], skipped: int) -> None:
    column = pa.chunked_array(
        [pa.array(["x"] * skipped + [value.hex() for value in hashes], pa.large_string())]
    )
    found = short_hashes(column.slice(skipped))
    assert found.tolist() == [int.from_bytes(value[:8], "big") for value in hashes]


def test_what_is_no_hash_matches_nothing() -> None:
    column = pa.chunked_array([pa.array(["", "h", "g" * 32, "f" * 32], pa.string())])
    assert short_hashes(column).tolist() == [0, 0, 0, 2**64 - 1]


def _index(lake: Lake, run: InlineRun) -> CacheIndex:
    probe = pending_hashes(lake.table("chunks"), list(run.plan.slices()))
    paths = run.plan.embedded.paths.to_pylist()
    return CacheIndex.merged([matches(lake.table("embeddings"), list(enumerate(paths)), probe)], paths)


def test_the_index_finds_a_text_wherever_it_was_embedded(
    lake: Lake, encoder: Encoder, tokenizer: Tokenizer
) -> None:
    embed_inline(lake, encoder)
    texts = [chunk.text for chunk in corpus(30)]
    again = [ChunkText("elsewhere", f"copy-{n}", text) for n, text in enumerate([*texts[::2], "a new one"])]
    append_chunks(lake, again, tokenizer)
    run = InlineRun.start(lake, encoder)
    index = _index(lake, run)
    assert len(index.hash_M) == len(texts[::2])
    rows = lake.table("chunks").scan(row_filter="source = 'elsewhere'").to_arrow()
    known = cached_vectors(lake.table("embeddings"), index, rows.column("text_hash"), 384)
    there = [rows.column("text").to_pylist()[row] for row in known.rows_K.tolist()]
    assert set(there) == set(texts[::2])
    direct = encoder.encode_texts(there)
    assert (known.vectors_KD * direct).sum(axis=1).min() > 0.999


def test_a_vector_is_taken_by_the_whole_hash(lake: Lake, encoder: Encoder, tokenizer: Tokenizer) -> None:
    embed_inline(lake, encoder)
    append_chunks(lake, [ChunkText("copy", "copy", corpus(1)[0].text)], tokenizer)
    index = _index(lake, InlineRun.start(lake, encoder))
    own = lake.table("chunks").scan(row_filter="source = 'copy'").to_arrow().column("text_hash")[0].as_py()
    alike = pa.chunked_array([pa.array([own, own[:16] + "0" * 16], pa.large_string())])
    assert cached_vectors(lake.table("embeddings"), index, alike, 384).rows_K.tolist() == [0]


def test_files_that_are_gone_are_no_cache_and_no_fault(
    lake: Lake, encoder: Encoder, tokenizer: Tokenizer
) -> None:
    embed_inline(lake, encoder)
    append_chunks(lake, [ChunkText("copy", "copy", corpus(1)[0].text)], tokenizer)
    index = _index(lake, InlineRun.start(lake, encoder))
    column = pa.chunked_array([lake.table("chunks").scan().to_arrow().column("text_hash").combine_chunks()])
    before = lake.table("embeddings")
    old = [file.path for file in scan_files(before)]
    rewrite(lake, "embeddings")
    for path in old:
        before.io.delete(path)
    assert len(cached_vectors(before, index, column, 384).rows_K) == 0


class _Counting:
    """The encoder, which refuses texts that it must not see."""

    def __init__(self, encoder: Encoder, forbidden: set[tuple[int, ...]]) -> None:
        self._encoder, self._forbidden = encoder, forbidden
        self.key = encoder.key

    def encode(self, rows: Ragged, batch_tokens: int | None) -> Encoded:
        seen = {tuple(row.tolist()) for row in rows}
        assert len(seen) == len(rows), "a text was encoded twice in one unit"
        assert not seen & self._forbidden, "a text was encoded again"
        return self._encoder.encode(rows, batch_tokens)


def _forbidding(job: Any, device: str, threads: int | None) -> _Counting:
    encoder = Encoder.load(job.conf, device=device, precision=job.model.precision, threads=threads)
    texts = [chunk.text for chunk in corpus(30)]
    rows = encoder.tokenizer.model_inputs(texts, "")
    return _Counting(encoder, {tuple(row.tolist()) for row in rows})


def _moved(lake: Lake, tokenizer: Tokenizer) -> None:
    """Every chunk one place further in its document, as curate leaves it: new ids, the old ones deleted."""
    moved = [ChunkText(chunk.source, chunk.doc_id, chunk.text, chunk.ordinal + 1) for chunk in corpus(30)]
    moved += [ChunkText("notes", "doc-twice", "a new text, twice", ordinal) for ordinal in range(2)]
    old = {name: scan_files(lake.table(name)) for name in ("chunks", "embeddings")}
    append_chunks(lake, moved, tokenizer)
    for name, files in old.items():
        for file in files:
            delete_positions(lake, name, file.path, range(file.rows))


@pytest.mark.parametrize("cache", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_document_whose_chunks_move_keeps_its_vectors(
    lake: Lake, conf: ModelConf, encoder: Encoder, tokenizer: Tokenizer, ray_session: RaySession, cache: bool
) -> None:
    embed_inline(lake, encoder)
    before = {row["text_hash"]: row["embedding"] for row in vectors(lake, encoder.key).to_pylist()}
    _moved(lake, tokenizer)
    assert check_accounts(lake, encoder.key) == _CHUNKS + 2
    told = Told()
    config = _CONFIG.model_copy(update={"cache": cache})
    report = embed(lake, conf, config, RayConfig(), told, factory=_forbidding if cache else _plain)
    assert report.rows == _CHUNKS + 2
    assert check_accounts(lake, encoder.key) == 0
    assert (report.copied_rows >= _CHUNKS) == cache
    assert any("60 of 61 texts have a vector already" in line for line in told.lines) == cache
    for row in vectors(lake, encoder.key).to_pylist():
        if row["text_hash"] in before:
            assert np.dot(row["embedding"], before[row["text_hash"]]) > (0.999999 if cache else 0.999)


def _plain(job: Any, device: str, threads: int | None) -> Encoder:
    return Encoder.load(job.conf, device=device, precision=job.model.precision, threads=threads)
