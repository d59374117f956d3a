"""Texts to word shingles, whole Arrow batches at a time.

A word is a run of letters, marks and digits of any script, in lower case; in scripts that write without
spaces between words every character is a word. A shingle is `size` words in a row, known by a 64-bit hash.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

UInt64s = npt.NDArray[np.uint64]
Int64s = npt.NDArray[np.int64]

# ASCII alone, which is most text: letters and digits stay, in lower case; all else parts words. Bytes from
# 0x80 up are parts of longer characters and stay as they are.
_ASCII = bytes(
    code
    if code >= 0x80 or chr(code).isdigit() or chr(code).islower()
    else code + 32
    if 65 <= code <= 90
    else 32
    for code in range(256)
)
_SPACELESS = r"([\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}])"
_NOT_WORD = r"[^\p{L}\p{M}\p{N}]+"

# Odd constants of the mixing steps: those of MurmurHash3's 64-bit finaliser, and the golden ratio.
_MIX_1 = np.uint64(0xFF51AFD7ED558CCD)
_MIX_2 = np.uint64(0xC4CEB9FE1A85EC53)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_33, _29 = np.uint64(33), np.uint64(29)


@dataclass(frozen=True)
class Shingles:
    """The shingles of several documents, one after another.

    Attributes:
        hashes: uint64, in the order of the text; a document may hold one more than once.
        offsets: int64, one more than documents: document d has hashes[offsets[d]:offsets[d + 1]].
    """

    hashes: UInt64s
    offsets: Int64s

    def __len__(self) -> int:
        return len(self.offsets) - 1


def shingle(texts: pa.Array, size: int) -> Shingles:
    """The word shingles of each text; a text of fewer than `size` words has none.

    Args:
        texts: string or large_string without nulls, normalised.
        size: Words a shingle.
    """
    words, offsets = _words(texts)
    counts = np.maximum(np.diff(offsets) - (size - 1), 0)
    mixed = np.zeros(max(len(words) - size + 1, 0), np.uint64)
    for at in range(size):
        mixed ^= words[at : at + len(mixed)]
        _mix(mixed)
    # Windows that reach into the next document are left out.
    starts = np.repeat(offsets[:-1] - offsets_of(counts)[:-1], counts)
    return Shingles(mixed[starts + np.arange(len(starts))], offsets_of(counts))


def offsets_of(counts: npt.NDArray[np.integer]) -> Int64s:
    """Where each of several runs begins, and the end of the last."""
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])


def mix(values: UInt64s) -> UInt64s:
    """A bijection of 64-bit numbers in which every bit of the argument reaches every bit of the result."""
    mixed = values.copy()
    _mix(mixed)
    return mixed


def _mix(values: UInt64s) -> None:
    values += _GOLDEN
    values ^= values >> _33
    values *= _MIX_1
    values ^= values >> _29
    values *= _MIX_2
    values ^= values >> _33


def _words(texts: pa.Array) -> tuple[UInt64s, Int64s]:
    """The hashes of the words of all texts, and where each text's words begin."""
    texts = _ascii_words(pc.cast(texts, pa.large_string()))
    is_other = pc.invert(pc.string_is_ascii(texts))
    if pc.any(is_other).as_py():
        other = pc.utf8_lower(texts.filter(is_other))
        other = pc.replace_substring_regex(other, _SPACELESS, r" \1 ")
        other = pc.replace_substring_regex(other, _NOT_WORD, " ")
        texts = pc.replace_with_mask(texts, is_other, other)
    lists = pc.ascii_split_whitespace(pc.ascii_trim_whitespace(texts))
    coded = pc.dictionary_encode(lists.flatten())
    # An empty text splits into one empty word.
    is_word = np.asarray(pc.fill_null(pc.greater(pc.binary_length(coded.dictionary), 0), False))
    hashes = np.fromiter(
        (xxhash.xxh3_64_intdigest(word) for word in coded.dictionary.cast(pa.large_binary()).to_pylist()),
        np.uint64,
        len(coded.dictionary),
    )
    codes = np.asarray(coded.indices)
    offsets = np.asarray(lists.offsets).astype(np.int64)
    if is_word.all():
        return hashes[codes], offsets - offsets[0]
    kept = is_word[codes]
    return hashes[codes[kept]], offsets_of(kept)[offsets - offsets[0]]


def _ascii_words(texts: pa.LargeStringArray) -> pa.LargeStringArray:
    """The texts with ASCII letters in lower case and other ASCII than letters and digits as spaces."""
    _, offsets, data = texts.buffers()
    if data is None:
        return texts
    translated = pa.py_buffer(data.to_pybytes().translate(_ASCII))
    return pa.Array.from_buffers(
        pa.large_string(), len(texts), [None, offsets, translated], offset=texts.offset
    )
