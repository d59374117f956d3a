"""Text to token ids with the `tokenizers` library alone: Spark workers load it, so no torch, no transformers.

`encode_batch` uses as many threads as there are cores; a Spark worker that should keep to one sets
`TOKENIZERS_PARALLELISM=false` in its environment.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, Self

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding
from tokenizers import Tokenizer as RustTokenizer

from pipelines.encoder.conf import TOKENIZER_FILE, ModelConf, model_folder, prefixed
from pipelines.encoder.ragged import Ragged
from pipelines.errors import ModelError

Ids = list[int]
Offsets = list[tuple[int, int]]

# The parts of tokenizer.json that decide which ids a text gets. Truncation and padding are ours to set, the
# decoder and the format's version play no part.
_DECISIVE = ("added_tokens", "model", "normalizer", "post_processor", "pre_tokenizer")

# Spacing marks (Mc) with a combining class: kept where accents (Mn) are dropped, and sorted among them.
_SORTED_MARKS = re.compile(
    "[\u1715\u1734\u1b44\u1baa\u1bf2\u1bf3\u302e\u302f\ua953\ua9c0\U000111c0\U00011235\U0001134d"
    "\U000116b6\U0001193d\U00016ff0\U00016ff1\U0001d165\U0001d166\U0001d16d-\U0001d172]"
)


class Tokenizer:
    """A model's tokenizer, never truncating and never padding, whatever its file says.

    Attributes:
        fingerprint: 64 hex digits; equal on every machine for files that give every text the same ids.
        vocab_size: Number of ids; every id is below it.
        composable: Whether a text cut before a word's first token has the ids of its two parts in a row. True
            of the BERT family (BertNormalizer, BertPreTokenizer, WordPiece), where no word depends on what
            lies beyond its boundaries. Where it is False, rows must be encoded from their text.
    """

    def __init__(self, tokenizer_json: str) -> None:
        """Builds it from the text of a `tokenizer.json`.

        Raises:
            ModelError: The text is not a tokenizer.
        """
        try:
            spec: dict[str, Any] = json.loads(tokenizer_json)
            self._rust = RustTokenizer.from_str(tokenizer_json)
            # all-MiniLM's file pads and cuts every text to 128 tokens.
            self._rust.no_truncation()
            self._rust.no_padding()
            probe = self._rust.encode("a")
            inner = [i for i, special in enumerate(probe.special_tokens_mask) if not special]
            first, last = inner[0], inner[-1]
        except Exception as error:  # the library raises a bare Exception
            reason = " ".join(str(error).split())[:200]
            raise ModelError(f"{TOKENIZER_FILE} holds no usable tokenizer: {reason}") from error
        self.fingerprint = tokenizer_fingerprint(spec)
        self.vocab_size = max(self._rust.get_vocab(with_added_tokens=True).values()) + 1
        self.composable = is_composable(spec)
        self._unknown = spec["model"].get("unk_token")
        self._head = np.asarray(probe.ids[:first], dtype=np.int32)
        self._tail = np.asarray(probe.ids[last + 1 :], dtype=np.int32)
        self._continues = _continuation_table(self._rust, spec) if self.composable else None
        self._heads: dict[str, npt.NDArray[np.int32]] = {}

    @classmethod
    def load(cls, conf: ModelConf) -> Self:
        """The tokenizer of a model.

        Raises:
            ModelError: The model's folder cannot be had, or its tokenizer.json is not one.
        """
        return cls.from_folder(model_folder(conf))

    @classmethod
    def from_folder(cls, folder: Path) -> Self:
        """The tokenizer of a folder that holds a `tokenizer.json`."""
        return cls((folder / TOKENIZER_FILE).read_text(encoding="utf-8"))

    def unfamiliar(self, text: str) -> float:
        """The share of a text's tokens that tell little: unknown words, and words spelt letter by letter.

        Of 1; 1 too of a text that has no token at all.
        """
        pieces = self._rust.encode(text, add_special_tokens=False).tokens
        letters = (len(piece.removeprefix("##")) == 1 < len(piece) for piece in pieces)
        little = sum(piece == self._unknown or one for piece, one in zip(pieces, letters, strict=True))
        return little / len(pieces) if pieces else 1.0

    def encode(self, text: str) -> tuple[Ids, Offsets]:
        """Ids and character offsets `(start, end)` into `text`, without special tokens.

        Raises:
            ModelError: The text holds a lone surrogate, which no UTF-8 text can.
        """
        return self.encode_batch([text])[0]

    def tokens(self, text: str) -> "Tokens":
        """What `encode` gives, as arrays; the offsets cost as much as the ids and are made when asked for.

        Raises:
            ModelError: The text holds a lone surrogate.
        """
        try:
            return Tokens(text, self._rust.encode(text, add_special_tokens=False))
        except TypeError as error:
            _refuse_text(error)

    def encode_batch(self, texts: Sequence[str]) -> list[tuple[Ids, Offsets]]:
        """What `encode` gives, for many texts at once and on all cores.

        Raises:
            ModelError: A text holds a lone surrogate.
        """
        try:
            encodings = self._rust.encode_batch(list(texts), add_special_tokens=False)
        except TypeError as error:
            _refuse_text(error)
        return [
            (encoding.ids, covering_offsets(text, encoding.offsets))
            for text, encoding in zip(texts, encodings, strict=True)
        ]

    def word_starts(self, input_ids: Sequence[int] | npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
        """Where the ids may be cut: True for each token that begins a word (a pre-token).

        Offsets do not tell: a control character dropped from inside a word leaves a gap between its tokens.

        Args:
            input_ids: Ids without special tokens, as `encode` gives them.

        Raises:
            ModelError: The tokenizer is not composable, so its ids may be cut nowhere.
        """
        if self._continues is None:
            raise ModelError(
                "the ids of this tokenizer cannot be cut", "Cut the text and encode the parts; see composable"
            )
        return ~self._continues[np.asarray(input_ids, dtype=np.int64)]

    def prefix_ids(self, prefix: str) -> Ids:
        """Ids of `<prefix>:` without special tokens; none for an empty prefix."""
        return self.encode(f"{prefix}:")[0] if prefix else []

    def overhead(self, prefix: str) -> int:
        """How many tokens the special tokens and the prefix add to a row.

        Exact for a composable tokenizer; elsewhere a text's first token may merge with the prefix, and the
        true number may be a token or so away.
        """
        return len(self._head_ids(prefix)) + len(self._tail)

    def model_input(
        self, input_ids: Sequence[int] | npt.NDArray[np.int32], prefix: str, text: str | None = None
    ) -> npt.NDArray[np.int32]:
        """The whole row that the model reads: `[CLS] <prefix>: <text> [SEP]` in the BERT family.

        Args:
            input_ids: The text's own ids, as `encode` or a chunk gives them; unused if not composable.
            prefix: Role's prefix, without `: `; may be empty.
            text: The text itself; needed only if the tokenizer is not composable.

        Returns:
            ids_L int32, equal to the tokenizer's own encoding of the prefixed text.

        Raises:
            ModelError: The tokenizer is not composable and no text is given.
        """
        if self.composable:
            own_ids = np.asarray(input_ids, dtype=np.int32)
            return np.concatenate((self._head_ids(prefix), own_ids, self._tail))
        if text is None:
            raise ModelError(
                "the ids of this tokenizer do not compose with a prefix", "Give the text as well"
            )
        return self.model_inputs([text], prefix)[0]

    def model_inputs(
        self, texts: Sequence[str], prefix: str, max_tokens: int | None = None
    ) -> list[npt.NDArray[np.int32]]:
        """The rows that the model reads, from texts: int32, special tokens included.

        Args:
            texts: The texts, without prefix.
            prefix: Role's prefix, without `: `; may be empty.
            max_tokens: Longer rows lose the end of their text, not the special tokens after it.

        Raises:
            ModelError: A text holds a lone surrogate.
        """
        try:
            encodings = self._rust.encode_batch([prefixed(prefix, text) for text in texts])
        except TypeError as error:
            _refuse_text(error)
        rows = [np.asarray(encoding.ids, dtype=np.int32) for encoding in encodings]
        if max_tokens is None:
            return rows
        kept = max_tokens - len(self._tail)
        return [row if len(row) <= max_tokens else np.concatenate((row[:kept], self._tail)) for row in rows]

    def wrapped(self, rows: Ragged, prefix: str) -> Ragged:
        """`model_input` of many rows at once.

        Args:
            rows: The texts' own ids.
            prefix: Role's prefix, without `: `; may be empty.

        Raises:
            ModelError: The tokenizer is not composable.
        """
        if not self.composable:
            raise ModelError("the ids of this tokenizer do not compose with a prefix", "Encode the texts")
        return rows.wrapped(self._head_ids(prefix), self._tail)

    def _head_ids(self, prefix: str) -> npt.NDArray[np.int32]:
        """What stands before a text's own ids; kept, as every row of a table needs the same."""
        if prefix not in self._heads:
            prefix_ids = np.asarray(self.prefix_ids(prefix), dtype=np.int32)
            self._heads[prefix] = np.concatenate((self._head, prefix_ids))
        return self._heads[prefix]


class Tokens:
    """A text's tokens, without special ones.

    Attributes:
        ids: ids_T int32.
    """

    def __init__(self, text: str, encoding: Encoding) -> None:
        self._text, self._encoding = text, encoding
        self.ids: npt.NDArray[np.int32] = np.array(encoding.ids, dtype=np.int32)

    def starts(self) -> npt.NDArray[np.int64]:
        """starts_T int64: each token's first character."""
        offsets = covering_offsets(self._text, self._encoding.offsets)
        return np.array([start for start, _ in offsets], dtype=np.int64)


def covering_offsets(text: str, offsets: Offsets) -> Offsets:
    """Offsets of which none begins after a character of its own token.

    BertNormalizer drops accents after Unicode has sorted the marks of a letter. Where a word begins with a
    mark that is kept, followed by an accent that sorts before it, tokenizers 0.23 gives the word the accent's
    place, and a cut there would leave the mark behind.

    Args:
        text: What was tokenised.
        offsets: Of its tokens, in order.
    """
    if text.isascii() or not _SORTED_MARKS.search(text):
        return offsets
    covering = []
    reached = 0
    for start, end in offsets:
        # Such a mark is never dropped, so one between two tokens belongs to the second.
        mark = _SORTED_MARKS.search(text, reached, start)
        covering.append((mark.start() if mark else start, end))
        reached = end
    return covering


def tokenizer_fingerprint(spec: dict[str, Any]) -> str:
    """sha256 in hex over the parts of a tokenizer.json that decide which ids a text gets.

    Args:
        spec: The parsed file. Its truncation and padding do not count, nor do key order and white space.
    """
    decisive = {key: spec.get(key) for key in _DECISIVE}
    return hashlib.sha256(json.dumps(decisive, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def is_composable(spec: dict[str, Any]) -> bool:
    """Whether a tokenizer.json describes a tokenizer whose ids may be cut at, and joined at, word boundaries.

    BertNormalizer maps each character alone (its accent stripping reorders combining marks inside a word at
    most), BertPreTokenizer ends words at white space, punctuation and CJK characters, WordPiece sees one word
    at a time. An added token keeps that if it is found in the raw text, holds no space and ignores its
    neighbours.
    """

    def kind(part: str) -> str | None:
        value = spec.get(part)
        return value.get("type") if isinstance(value, dict) else None

    family = (kind("normalizer"), kind("pre_tokenizer"), kind("model"))
    return family == ("BertNormalizer", "BertPreTokenizer", "WordPiece") and not any(
        token["normalized"] or token["single_word"] or any(map(str.isspace, token["content"]))
        for token in spec.get("added_tokens", [])
    )


def _continuation_table(rust: RustTokenizer, spec: dict[str, Any]) -> npt.NDArray[np.bool_]:
    """continues_V: whether an id stands inside a word, as WordPiece writes it: with the `##` in front."""
    mark = spec["model"]["continuing_subword_prefix"]
    vocabulary = rust.get_vocab(with_added_tokens=True)
    continues = np.zeros(max(vocabulary.values()) + 1, dtype=np.bool_)
    for token, index in vocabulary.items():
        continues[index] = token.startswith(mark)
    return continues


def _refuse_text(error: TypeError) -> NoReturn:
    raise ModelError(
        "a text is not valid Unicode: it is no string, or holds a lone surrogate",
        "Normalise the text first: text.encode('utf-8', 'replace').decode()",
    ) from error
