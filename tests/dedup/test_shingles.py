"""Shingles, signatures, similarities and the independent set, each against its definition in plain Python."""

import itertools
import random
import re
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.dedup.config import NearConfig
from pipelines.dedup.independent import first_independent_set
from pipelines.dedup.jaccard import similarities
from pipelines.dedup.minhash import MinHash
from pipelines.dedup.shingles import Shingles, shingle
from pipelines.dedup.signing import signer
from pipelines.text import normalise
from tests.sentences import SENTENCES

words = st.text("abCD é中文ไ\u0301.,\n'-", max_size=40)
sets = st.lists(st.sets(st.integers(0, 30), max_size=12), min_size=1, max_size=8)


def joined(parts: Sequence[set[int]]) -> Shingles:
    offsets = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
    return Shingles(np.array([x for part in parts for x in sorted(part)], np.uint64), offsets)


def by_document(shingles: Shingles) -> list[set[int]]:
    bounds = itertools.pairwise(shingles.offsets.tolist())
    return [set(shingles.hashes[a:b].tolist()) for a, b in bounds]


@given(st.lists(words, min_size=1, max_size=6), st.integers(1, 5))
def test_texts_share_shingles_as_their_word_windows_are_equal(texts: list[str], size: int) -> None:
    texts = [normalise(text) for text in texts]
    windows = []
    for text in texts:
        found = re.findall(r"[\w\u0301]+", re.sub("([中文ไ])", r" \1 ", text.lower()))
        windows.append({tuple(found[at : at + size]) for at in range(len(found) - size + 1)})
    got = by_document(shingle(pa.array(texts, pa.string()), size))
    for one, two in itertools.combinations_with_replacement(range(len(texts)), 2):
        assert len(got[one] & got[two]) == len(windows[one] & windows[two])


def test_a_batch_gives_what_each_text_gives_alone_and_so_does_a_slice() -> None:
    texts = [*SENTENCES.values(), "", "one two", "?!", "a " * 30]
    alone = [by_document(shingle(pa.array([text]), 5))[0] for text in texts]
    assert by_document(shingle(pa.array(texts), 5)) == alone
    assert by_document(shingle(pa.array(texts, pa.large_string())[3:], 5)) == alone[3:]
    assert alone[-4:-1] == [set(), set(), set()]
    assert len(alone[-1]) == 1


@pytest.mark.parametrize("language", sorted(SENTENCES))
def test_a_sentence_of_any_script_has_shingles_that_case_and_punctuation_do_not_change(language: str) -> None:
    text = normalise(SENTENCES[language])
    # Of ASCII letters alone: "İ" has no upper and lower case that Unicode would map onto each other.
    noisy = f"  «{re.sub('[a-z]', lambda found: found[0].upper(), text)}» ... "
    one, two = by_document(shingle(pa.array([text, noisy]), 5))
    assert len(one) >= 5
    assert one == two


@given(sets)
def test_similarities_are_those_of_sets(parts: list[set[int]]) -> None:
    pairs = list(itertools.product(range(len(parts)), repeat=2))
    first, second = (np.array(side, np.int64) for side in zip(*pairs, strict=True))
    got = similarities(joined(parts), first, second)
    for value, (one, two) in zip(got, pairs, strict=True):
        union = len(parts[one] | parts[two])
        assert value == (len(parts[one] & parts[two]) / union if union else 0)


@given(st.lists(st.lists(st.integers(0, 5), max_size=12), min_size=1, max_size=4), st.integers(1, 90))
def test_similarities_of_many_documents_with_repeated_shingles(parts: list[list[int]], copies: int) -> None:
    many = parts * copies  # more than are marked at once
    offsets = np.concatenate([[0], np.cumsum([len(part) for part in many])]).astype(np.int64)
    shingles = Shingles(np.array([x for part in many for x in part], np.uint64), offsets)
    second = np.arange(len(many), dtype=np.int64)
    got = similarities(shingles, second[::-1].copy(), second)
    for at, value in enumerate(got):
        one, two = set(many[len(many) - 1 - at]), set(many[at])
        assert value == (len(one & two) / len(one | two) if one | two else 0)


def test_similarity_of_no_pairs_is_none() -> None:
    nothing = np.empty(0, np.int64)
    assert len(similarities(joined([{1}]), nothing, nothing)) == 0


@given(sets)
def test_a_signature_is_of_the_set_alone(parts: list[set[int]]) -> None:
    minhash = MinHash(4, 3)
    together = minhash.band_keys(minhash.signatures(joined(parts)))
    for row, part in zip(together, parts, strict=True):
        shuffled = [*part, *part]
        random.Random(0).shuffle(shuffled)
        alone = Shingles(np.array(shuffled, np.uint64), np.array([0, len(shuffled)]))
        assert minhash.band_keys(minhash.signatures(alone))[0].tolist() == row.tolist()


def test_band_keys_differ_between_bands_and_extreme_hashes_are_hashes() -> None:
    extreme = joined([{0}, {2**64 - 1}, {0, 2**64 - 1}, {1 << 63}])
    minhash = MinHash(14, 8)
    keys = minhash.band_keys(minhash.signatures(extreme))
    assert len(set(keys[:2].reshape(-1).tolist())) == 28
    assert keys.dtype == np.int64


@pytest.mark.parametrize("similarity", [0.5, 0.8, 0.9])
def test_texts_share_a_band_as_often_as_the_formula_says(similarity: float) -> None:
    config, trials, size = NearConfig(), 1500, 90
    shared = round(2 * size * similarity / (1 + similarity))
    draw = np.random.default_rng(0)
    parts = []
    for _ in range(trials):
        drawn = draw.integers(0, 2**64, 2 * size - shared, np.uint64).tolist()
        parts += [set(drawn[:size]), set(drawn[-size:])]
    minhash = MinHash(config.bands, config.rows)
    keys = minhash.band_keys(minhash.signatures(joined(parts)))
    meeting = (keys[0::2] == keys[1::2]).any(axis=1).mean()
    true = shared / (2 * size - shared)
    expected = 1 - (1 - true**config.rows) ** config.bands
    assert abs(meeting - expected) < 4 * (expected * (1 - expected) / trials) ** 0.5 + 1e-3


def test_the_signatures_of_a_text_are_those_that_lakes_hold() -> None:
    # Recorded: a change here makes every lake's signatures void (settings.py, _SIGNATURES).
    sign = signer(NearConfig())
    assert sign is not None
    keys = sign(pa.array(["All human beings are born free and equal in dignity and rights."]))
    assert keys.to_pylist()[0][:3] == RECORDED


RECORDED = [-1680313939427737260, 4710597742792155738, 8925039806267416637]


def test_a_text_without_shingles_has_no_keys_and_does_not_meet_others() -> None:
    sign = signer(NearConfig())
    assert sign is not None
    keys = sign(pa.array(["", "four words are few", "but five words are enough"])).to_pylist()
    assert keys[:2] == [None, None]
    assert len(keys[2]) == 16
    assert signer(NearConfig(enabled=False)) is None


graphs = st.integers(1, 12).flatmap(
    lambda count: st.tuples(
        st.permutations(range(count)),
        st.sets(
            st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)).filter(lambda e: e[0] < e[1])
        ),
    )
)


@given(graphs, st.randoms(use_true_random=False))
def test_the_set_is_the_greedy_one_whatever_the_edges_order(
    graph: tuple[list[int], set[tuple[int, int]]], draw: random.Random
) -> None:
    names, edges = graph  # names[place] is the node at a place in the order of priority
    kept: list[int] = []
    for place in range(len(names)):
        if not any((earlier, place) in edges for earlier in kept):
            kept.append(place)
    shuffled = [(names[one], names[two]) for one, two in edges]
    draw.shuffle(shuffled)
    earlier, later = (np.array([edge[side] for edge in shuffled], np.int64) for side in (0, 1))
    found = first_independent_set(len(names), earlier, later)
    assert set(np.flatnonzero(found).tolist()) == {names[place] for place in kept}


def test_a_chain_of_resemblance_removes_no_end_that_resembles_nothing_kept() -> None:
    # A ~ B ~ C, A and C do not resemble each other: B goes for A, and C stays.
    assert first_independent_set(3, np.array([0, 1]), np.array([1, 2])).tolist() == [True, False, True]


def test_a_chain_of_a_million_is_decided() -> None:
    count = 1_000_000
    places = np.arange(count, dtype=np.int64)
    assert first_independent_set(count, places[:-1], places[1:]).tolist() == [True, False] * (count // 2)
