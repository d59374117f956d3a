"""Cuts a document into chunks by the model's own tokens, in one pass over the document.

A cut falls, where it can, after a paragraph, else after a sentence, a line, a word. Chunks are contiguous:
without overlap, their texts joined are the document.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipelines.curate.config import ChunkConfig
from pipelines.encoder.tokenizer import Tokenizer, Tokens

# Text that is tokenised at once. A token's bookkeeping in the tokenizer costs about a hundred bytes, so a
# 50 MB document is read in windows; cut at white space, their tokens are those of the whole.
_WINDOW_CHARS = 200_000

_SPACE = re.compile(r"\s")
# Characters that every tokenizer of the BERT family sets apart: a window without white space ends at one.
_ALONE = re.compile(r"[!-/:-@\[-`{-~\u3400-\u4dbf\u4e00-\u9fff]")

# Where a chunk may end, best first; the cut comes after the match, at the start of the next token.
_BREAKS = (
    re.compile(r"\n[^\S\n]*\n\s*"),
    re.compile("[.!?\u2026\u3002\uff01\uff1f]+[\"'\u201d\u2019)\\]\u00bb]*\\s+|[\u3002\uff01\uff1f]+"),
    re.compile(r"\n\s*"),
    re.compile(r"\s+"),
)


@dataclass(frozen=True)
class Chunk:
    """A piece of a document.

    Attributes:
        ordinal: Its place in the document, from 0.
        char_start: First character in the document, in code points.
        char_end: One past the last.
        input_ids: int32, the ids of its text alone: no prefix, no special tokens.
    """

    ordinal: int
    char_start: int
    char_end: int
    input_ids: npt.NDArray[np.int32]


@dataclass
class _Tokens:
    """Tokens not yet in a chunk, with their first characters in the document.

    `word` marks those that begin a word; `seam` those before which the text was cut for the tokenizer
    elsewhere than at white space.
    """

    ids: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int64]
    word: npt.NDArray[np.bool_]
    seam: npt.NDArray[np.bool_]

    @classmethod
    def none(cls) -> "_Tokens":
        return cls(np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0, np.bool_), np.empty(0, np.bool_))

    def __len__(self) -> int:
        return len(self.ids)

    def joined(self, other: "_Tokens") -> "_Tokens":
        if not len(self):
            return other
        return _Tokens(
            np.concatenate([self.ids, other.ids]),
            np.concatenate([self.starts, other.starts]),
            np.concatenate([self.word, other.word]),
            np.concatenate([self.seam, other.seam]),
        )

    def after(self, count: int) -> "_Tokens":
        return _Tokens(self.ids[count:], self.starts[count:], self.word[count:], self.seam[count:])


def chunk_document(text: str, tokenizer: Tokenizer, config: ChunkConfig, overhead: int) -> Iterator[Chunk]:
    """The chunks of a normalised document, in order.

    Args:
        text: Not empty.
        tokenizer: The model's own.
        config: Limits, in tokens.
        overhead: Tokens that the model's prefix and special tokens add to a chunk.

    Yields:
        Chunks of at most `config.max_tokens - overhead` tokens. Spans are contiguous, from 0 to the end of
        the text; with overlap each begins up to `overlap_tokens` before the last one's end.
    """
    # A tokenizer that looks beyond words may spell a slice with a token or two more.
    limit = config.max_tokens - overhead - (0 if tokenizer.composable else 2)
    held = _Tokens.none()
    start = done = read = ordinal = 0  # `done`: the last chunk's end, after `start` where chunks overlap
    for window, is_last in _windows(text, tokenizer):
        if is_last and tokenizer.composable and window.start == 0 and len(window.tokens.ids) <= limit:
            # Most documents: one chunk, for which no token's place need be known.
            yield Chunk(0, 0, len(text), window.tokens.ids)
            return
        held = held.joined(_placed(window.tokens, window.start, tokenizer, window.begins_inside))
        read = window.end
        # Until the end is seen, enough stays in hand for a last chunk that is not too short.
        while len(held) > limit and (is_last or len(held) >= 2 * limit):
            count = _cut(text, held, done, limit, config.min_tokens)
            while True:
                end = int(held.starts[count])
                ids = _ids(text[start:end], held, count, tokenizer)
                if len(ids) <= limit or count == 1:
                    break
                count = _shorter(held, count, done)
            yield Chunk(ordinal, start, end, ids)
            ordinal, done = ordinal + 1, end
            if held.word[count]:
                kept = count - _overlap(held, count, config.overlap_tokens)
                start, held = int(held.starts[kept]), held.after(kept)
            else:
                start, held = end, _placed(tokenizer.tokens(text[end:read]), end, tokenizer)
    yield Chunk(ordinal, start, len(text), _ids(text[start:], held, len(held), tokenizer))


@dataclass
class _Window:
    """A stretch of the document that is tokenised at once; `begins_inside` where it is cut inside a word."""

    tokens: Tokens
    start: int
    end: int
    begins_inside: bool


def _windows(text: str, tokenizer: Tokenizer) -> Iterator[tuple[_Window, bool]]:
    start, at_space = 0, True
    while start < len(text):
        end = min(start + _WINDOW_CHARS, len(text))
        begins_inside = not at_space
        if end < len(text):
            end, at_space = _window_end(text, start, end)
        yield _Window(tokenizer.tokens(text[start:end]), start, end, begins_inside), end == len(text)
        start = end


def _placed(tokens: Tokens, offset: int, tokenizer: Tokenizer, begins_inside: bool = False) -> _Tokens:
    starts = tokens.starts() + offset
    if tokenizer.composable:
        word = tokenizer.word_starts(tokens.ids)
    else:
        # Every chunk of such a tokenizer is tokenised anew, so a cut between any two characters is sound.
        word = np.concatenate([[True], np.diff(starts) > 0])[: len(starts)]
    seam = np.zeros(len(starts), np.bool_)
    seam[:1] = begins_inside
    return _Tokens(tokens.ids, starts, word, seam)


def _window_end(text: str, start: int, end: int) -> tuple[int, bool]:
    """Where to end a window, and whether that is at white space: there tokens never join."""
    for pattern, at_space in ((_SPACE, True), (_ALONE, False)):
        for begin in range(end - 1000, start, -1000):  # from the end, so that a window is about full
            found = [match.end() for match in pattern.finditer(text, max(begin, start), begin + 1000)]
            if found:
                return found[-1], at_space
    return end, False


def _cut(text: str, held: _Tokens, done: int, limit: int, min_tokens: int) -> int:
    """How many of the held tokens the next chunk takes; at most `limit`, and beyond `done` characters."""
    most = limit
    if len(held) - most < min_tokens:
        most = max(1, len(held) - min_tokens)
    least = max(1, most // 2)
    first, last = int(held.starts[least]), int(held.starts[most])
    # From one token earlier, so that the break before the first candidate is seen too.
    begin = max(done, int(held.starts[least - 1]))
    for pattern in _BREAKS:
        ends = [match.end() for match in pattern.finditer(text, begin, last)]
        for end in reversed(ends):
            count = int(np.searchsorted(held.starts, end, side="left"))
            if end >= first and held.starts[count] > done and least <= count <= most and held.word[count]:
                return count
    words = np.flatnonzero(held.word[1 : most + 1])
    if len(words) and held.starts[words[-1] + 1] > done:
        return int(words[-1]) + 1
    return _shorter(held, most + 1, done)  # a word longer than a chunk is cut inside


def _shorter(held: _Tokens, count: int, done: int) -> int:
    """The largest smaller count whose chunk ends between two characters; 1 where there is none."""
    edges = (np.diff(held.starts[:count]) > 0) & (held.starts[1:count] > done)
    places = np.flatnonzero(edges)
    return int(places[-1]) + 1 if len(places) else 1


def _overlap(held: _Tokens, count: int, overlap: int) -> int:
    """How many tokens before the cut the next chunk repeats, so that it begins with a word."""
    if overlap == 0:
        return 0
    begin = max(1, count - overlap)
    words = np.flatnonzero(held.word[begin:count])
    return count - (begin + int(words[0])) if len(words) else 0


def _ids(text: str, held: _Tokens, count: int, tokenizer: Tokenizer) -> npt.NDArray[np.int32]:
    """The tokens of the next chunk, whose text is `text`: the first `count` held ones, where those are right.

    They are not where a tokenizer looks beyond words, where the chunk begins or ends inside a word, or
    where the text was cut for the tokenizer inside one.
    """
    begins = bool(held.word[0]) if len(held) else True
    ends = bool(held.word[count]) if count < len(held) else True
    if tokenizer.composable and begins and ends and not held.seam[:count].any():
        return held.ids[:count]
    return tokenizer.tokens(text).ids
