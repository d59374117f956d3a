import json
import pickle
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer

from pipelines.encoder.conf import load_model_conf, model_folder
from pipelines.encoder.tokenizer import Tokenizer, is_composable, tokenizer_fingerprint
from pipelines.errors import ModelError
from tests.encoder.texts import FOREIGN, docstrings

PREFIXES = ("", "search_document", "clustering", "tâche 1", "東京", "a [SEP]")

# What tokenizers stumble over: special and continuation tokens spelt out, marks without a base, characters
# that normalisation drops, splits or maps to several, words beyond WordPiece's 100 characters.
ODDITIES = (
    *FOREIGN,
    *("[SEP]", "[CLS]", "[MASK]", "[PAD]", "[UNK]", "[SEP", "##ing", "##", "un##able"),
    *("\u0301", "e\u0301", "\u302e", "\U0001d165", "\u0e33", "\u064b"),
    *("\x00", "\x07", "ab\x00cd", "\u200b", "\u200d", "\ufeff", "\u00ad", "\ufffd", "\ue000"),
    *(" ", "\n", "\t", "\u00a0", "\u2028", "\u3000", "\x85"),
    *("İ", "ẞ", "ﬁ", "ΣΑΣ", "Å", "한글", "が", "㍿", "豈", "𠀀", "🏳️‍🌈"),
    *("word" * 30, "x" * 101, "…", "—", "«»", "、", "'s"),
)
TEXTS = st.lists(
    st.sampled_from(ODDITIES)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    | st.text("aé ."),
    max_size=12,
).map("".join)


@cache
def raw() -> tokenizers.Tokenizer:
    """The packaged tokenizer as the library loads it, without our wrapper."""
    tokenizer = tokenizers.Tokenizer.from_file(str(packaged()))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


@cache
def wrapped() -> Tokenizer:
    return Tokenizer.load(load_model_conf("minilm"))


def packaged() -> Path:
    return model_folder(load_model_conf("minilm")) / "tokenizer.json"


def spec() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(packaged().read_text(encoding="utf-8"))
    return loaded


@given(text=TEXTS, prefix=st.sampled_from(PREFIXES))
def test_a_row_made_from_ids_is_the_encoding_of_the_prefixed_text(text: str, prefix: str) -> None:
    ids, _ = wrapped().encode(text)
    row = wrapped().model_input(ids, prefix)
    assert row.dtype == np.int32
    assert row.tolist() == raw().encode(f"{prefix}: {text}" if prefix else text).ids
    assert len(row) == len(ids) + wrapped().overhead(prefix)
    assert wrapped().model_inputs([text], prefix)[0].tolist() == row.tolist()


@given(text=TEXTS, data=st.data())
def test_ids_may_be_cut_where_words_start(text: str, data: st.DataObject) -> None:
    ids, offsets = wrapped().encode(text)
    starts = wrapped().word_starts(ids).nonzero()[0].tolist()
    if not starts:
        assert ids == []
        return
    cut = data.draw(st.sampled_from(starts))
    head, tail = text[: offsets[cut][0]], text[offsets[cut][0] :]
    assert wrapped().encode(head)[0] == ids[:cut]
    assert wrapped().encode(tail)[0] == ids[cut:]


def test_real_text_may_be_cut_at_every_word() -> None:
    text = next(text for text in docstrings("pydantic") if len(text) > 2000)
    ids, offsets = wrapped().encode(text)
    starts = wrapped().word_starts(ids)
    assert 0.5 < starts.mean() < 1
    for cut in starts.nonzero()[0][::7]:
        assert wrapped().encode(text[offsets[cut][0] :])[0] == ids[cut:]


def test_a_mark_that_unicode_sorts_behind_an_accent_stays_with_its_word() -> None:
    text = "lake!\u302e\u064bx \u302e\x00\u0316"
    ids, offsets = wrapped().encode(text)
    assert offsets[2:] == [(5, 8), (9, 12)]
    assert [wrapped().encode(text[a:b])[0] for a, b in offsets] == [[index] for index in ids]


def test_offsets_are_in_characters_of_the_given_text() -> None:
    text = "Der 🎉 Fluß fließt"
    _, offsets = wrapped().encode(text)
    assert [text[a:b] for a, b in offsets if text[a:b].isascii() is False] == ["🎉", "ß", "ß"]
    assert offsets[-1][1] == len(text)


def test_nothing_is_cut_or_padded_though_the_file_says_128() -> None:
    assert spec()["truncation"]["max_length"] == 128
    long, short = wrapped().encode_batch(["lake " * 1000, "lake"])
    assert (len(long[0]), len(short[0])) == (1000, 1)
    assert [len(row) for row in wrapped().model_inputs(["lake " * 1000, "lake"], "")] == [1002, 3]


@given(text=TEXTS, prefix=st.sampled_from(PREFIXES), most=st.integers(12, 40))
def test_a_row_that_is_cut_keeps_its_beginning_and_its_end(text: str, prefix: str, most: int) -> None:
    (whole,) = wrapped().model_inputs([text], prefix)
    (cut,) = wrapped().model_inputs([text], prefix, most)
    assert len(cut) == min(len(whole), most)
    assert cut[:-1].tolist() == whole[: len(cut) - 1].tolist()
    assert cut[-1] == whole[-1]


def test_a_batch_is_its_texts_one_by_one() -> None:
    assert wrapped().encode_batch(FOREIGN) == [wrapped().encode(text) for text in FOREIGN]
    assert wrapped().encode_batch([]) == []
    assert wrapped().encode("") == ([], [])


def test_the_vocabulary_is_bert_s() -> None:
    assert wrapped().vocab_size == 30522
    assert wrapped().prefix_ids("") == []
    assert wrapped().overhead("") == 2


def test_it_survives_the_way_to_a_worker() -> None:
    copy = pickle.loads(pickle.dumps(wrapped()))
    assert copy.encode("An embedding lake") == wrapped().encode("An embedding lake")
    assert copy.fingerprint == wrapped().fingerprint


def test_the_fingerprint_ignores_what_does_not_change_ids() -> None:
    same = dict(reversed(spec().items())) | {"version": "2.0", "decoder": None}
    same["truncation"] = same["padding"] = None
    assert tokenizer_fingerprint(same) == wrapped().fingerprint


@pytest.mark.parametrize("part", ["model", "normalizer", "pre_tokenizer", "post_processor", "added_tokens"])
def test_the_fingerprint_tells_other_tokenizers_apart(part: str) -> None:
    other = spec()
    if part == "model":
        vocab = other["model"]["vocab"]
        vocab["lake"], vocab["river"] = vocab["river"], vocab["lake"]
    elif part == "normalizer":
        other["normalizer"]["lowercase"] = False
    else:
        other[part] = []
    assert tokenizer_fingerprint(other) != wrapped().fingerprint


def test_the_fingerprint_is_the_same_in_another_process_without_torch() -> None:
    code = (
        "import sys; from pipelines.encoder.conf import load_model_conf as load; "
        "from pipelines.encoder.tokenizer import Tokenizer; "
        "print(Tokenizer.load(load('minilm')).fingerprint); "
        "print(*(name for name in ('torch', 'transformers', 'huggingface_hub') if name in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "7"}
    )
    assert done.stdout.splitlines() == [wrapped().fingerprint, ""]


def test_added_tokens_that_look_at_their_neighbours_do_not_compose() -> None:
    assert is_composable(spec())
    for change in ({"normalized": True}, {"single_word": True}, {"content": "new york"}):
        other = spec()
        other["added_tokens"][0] |= change
        assert not is_composable(other)


def bpe() -> Tokenizer:
    """A byte-level BPE tokenizer, whose tokens carry the space before them."""
    tokenizer = tokenizers.Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    trainer = BpeTrainer(vocab_size=400, initial_alphabet=ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(["search_document: a lake of vectors, a lake of words"] * 9, trainer)
    return Tokenizer(tokenizer.to_str())


def test_a_tokenizer_that_does_not_compose_asks_for_the_text() -> None:
    tokenizer = bpe()
    assert not tokenizer.composable
    ids, _ = tokenizer.encode("a lake")
    with pytest.raises(ModelError, match="Give the text"):
        tokenizer.model_input(ids, "search_document")
    with pytest.raises(ModelError, match="cannot be cut"):
        tokenizer.word_starts(ids)
    row = tokenizer.model_input(ids, "search_document", "a lake")
    assert row.tolist() == tokenizer.encode("search_document: a lake")[0]
    assert row.tolist() != [*tokenizer.prefix_ids("search_document"), *ids], (
        "the two parts would have composed"
    )


def test_a_lone_surrogate_is_refused() -> None:
    for encode in (wrapped().encode, lambda text: wrapped().model_inputs([text], "")):
        with pytest.raises(ModelError, match="lone surrogate"):
            encode("\ud83d")


def test_a_file_that_is_no_tokenizer_is_refused() -> None:
    for text in ("{}", "not json", "[]"):
        with pytest.raises(ModelError, match="holds no usable tokenizer"):
            Tokenizer(text)
