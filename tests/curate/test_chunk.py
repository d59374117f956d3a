"""The chunker's promises, over texts of many scripts and windows so small that every seam is met."""

from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pipelines.curate.chunk as chunk_module
from pipelines.curate.chunk import Chunk, chunk_document
from pipelines.curate.config import ChunkConfig
from pipelines.encoder.conf import load_model_conf
from pipelines.encoder.tokenizer import Tokenizer
from pipelines.text import normalise

_OVERHEAD = 2  # [CLS] and [SEP]
_PIECES = [
    *"ab cd\n.!?-'\"#[]1é\u0301\u200d",
    "hello", " ", "\n\n", "[SEP]", "unbelievably ", "ﬁ", "İ", "ß", "한글", "नमस्ते ", "中文字。漢", "x" * 120,
    "🙂",
]  # fmt: skip
texts = (
    (st.lists(st.sampled_from(_PIECES), min_size=1, max_size=120).map("".join) | st.text(min_size=1))
    .map(lambda text: normalise(text.encode("utf-8", "replace").decode()))
    .filter(bool)
)


@cache
def tokenizer() -> Tokenizer:
    return Tokenizer.load(load_model_conf("minilm"))


def chunks_of(text: str, config: ChunkConfig) -> list[Chunk]:
    return list(chunk_document(text, tokenizer(), config, _OVERHEAD))


@pytest.fixture(params=[7, 40, 200_000])
def window(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(chunk_module, "_WINDOW_CHARS", request.param)
    size: int = request.param
    return size


class TestEveryText:
    @pytest.fixture(autouse=True)
    def _windows(self, window: int) -> None:
        del window

    @given(text=texts, max_tokens=st.integers(12, 40))
    def test_without_overlap_the_chunks_joined_are_the_document(self, text: str, max_tokens: int) -> None:
        made = chunks_of(text, ChunkConfig(max_tokens=max_tokens, min_tokens=2))
        assert "".join(text[chunk.char_start : chunk.char_end] for chunk in made) == text
        assert [chunk.ordinal for chunk in made] == list(range(len(made)))

    @given(text=texts, max_tokens=st.integers(12, 40), overlap=st.integers(0, 4))
    def test_a_chunks_ids_are_the_tokenizers_own_and_within_the_limit(
        self, text: str, max_tokens: int, overlap: int
    ) -> None:
        config = ChunkConfig(max_tokens=max_tokens, overlap_tokens=overlap, min_tokens=2)
        for chunk in chunks_of(text, config):
            assert chunk.input_ids.tolist() == tokenizer().encode(text[chunk.char_start : chunk.char_end])[0]
            assert len(chunk.input_ids) <= max_tokens - _OVERHEAD

    @given(text=texts, overlap=st.integers(1, 4))
    def test_with_overlap_chunks_leave_no_gap_and_go_forward(self, text: str, overlap: int) -> None:
        made = chunks_of(text, ChunkConfig(max_tokens=16, overlap_tokens=overlap, min_tokens=2))
        assert made[0].char_start == 0
        assert made[-1].char_end == len(text)
        for one, following in pairwise(made):
            assert one.char_start < following.char_start <= one.char_end < following.char_end


def test_a_short_document_is_one_chunk_however_small_it_is() -> None:
    assert [(chunk.char_start, chunk.char_end) for chunk in chunks_of("Hi", ChunkConfig())] == [(0, 2)]


def test_a_cut_falls_after_a_paragraph_where_there_is_one() -> None:
    text = ("one two three four. " * 4).strip() + "\n\n" + "five six seven eight nine. " * 8
    first = chunks_of(text, ChunkConfig(max_tokens=32, min_tokens=2))[0]
    assert text[: first.char_end].endswith("four.\n\n")


def test_a_cut_falls_after_a_sentence_where_there_is_no_paragraph() -> None:
    text = "alpha beta gamma delta epsilon zeta eta theta. " * 10
    for chunk in chunks_of(text.strip(), ChunkConfig(max_tokens=32, min_tokens=2)):
        assert text[: chunk.char_end].rstrip().endswith("theta.")


def test_the_last_chunk_is_not_shorter_than_asked() -> None:
    text = " ".join(["word"] * 33)
    sizes = [len(chunk.input_ids) for chunk in chunks_of(text, ChunkConfig(max_tokens=32, min_tokens=10))]
    assert len(sizes) == 2
    assert min(sizes) >= 10


def test_overlapping_chunks_share_the_asked_number_of_tokens() -> None:
    text = " ".join(["word"] * 100)
    made = chunks_of(text, ChunkConfig(max_tokens=34, overlap_tokens=5, min_tokens=2))
    for one, following in pairwise(made):
        assert text[following.char_start : one.char_end].split() == ["word"] * 5
