"""Cutting a file by its statistics alone, against the lengths that its rows really have."""

from collections.abc import Iterator
from importlib.util import find_spec
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.curate.chunk import chunk_document
from pipelines.curate.config import ChunkConfig
from pipelines.embed.plan.lengths import Lengths
from pipelines.encoder.tokenizer import Tokenizer
from tests.encoder.texts import docstrings

_rows = st.lists(st.integers(1, 512), min_size=1, max_size=200).map(sorted)


def _lengths(rows: list[int]) -> Lengths:
    return Lengths(len(rows), rows[0], rows[-1], sum(rows))


@given(_rows)
def test_the_curve_keeps_the_sum_and_the_bounds(rows: list[int]) -> None:
    lengths = _lengths(rows)
    share_N = np.linspace(0, 1, 2_001)
    tokens_N, before_N = lengths.at(share_N), lengths.before(share_N)
    assert tokens_N.min() >= rows[0] - 1e-6
    assert tokens_N[-1] == pytest.approx(rows[-1])
    assert (np.diff(tokens_N) >= 0).all()
    assert (before_N[0], before_N[-1]) == (0, pytest.approx(1))
    assert (np.diff(before_N) >= 0).all()
    if 0.02 < lengths.power < 50:  # beyond, all rows but a few are alike
        middle_N = (np.arange(20_000) + 0.5) / 20_000
        assert lengths.at(middle_N).mean() * len(rows) == pytest.approx(sum(rows), rel=0.02)


@given(_rows, st.data())
def test_what_lies_before_is_the_sum_of_the_curve(rows: list[int], data: st.DataObject) -> None:
    lengths = _lengths(rows)
    end = data.draw(st.floats(0, 1))
    below = lengths.at((np.arange(20_000) + 0.5) / 20_000 * end).mean() * end
    whole = lengths.at((np.arange(20_000) + 0.5) / 20_000).mean()
    assert float(lengths.before(np.array([end]))[0]) == pytest.approx(below / whole, abs=0.01)


@given(_rows, st.data())
def test_shares_of_adjacent_ranges_add_up(rows: list[int], data: st.DataObject) -> None:
    lengths = _lengths(rows)
    cuts = sorted({0, len(rows), *data.draw(st.sets(st.integers(0, len(rows))))})
    shares = [lengths.share(start, stop) for start, stop in pairwise(cuts)]
    assert sum(shares) == pytest.approx(1)
    assert min(shares) >= 0
    assert lengths.share(0, len(rows)) == 1


@given(_rows, st.integers(1, 20), st.data())
def test_cuts_ascend_and_cover_the_range(rows: list[int], pieces: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(rows) - 1))
    stop = data.draw(st.integers(start + 1, len(rows)))
    lengths = _lengths(rows)
    cuts = lengths.cuts(start, stop, pieces)
    assert (cuts[0], cuts[-1]) == (start, stop)
    assert cuts == sorted(set(cuts))
    assert len(cuts) <= pieces + 1
    # Of equal tokens by the curve, but for the row that a cut would go through at either end.
    fair = lengths.share(start, stop) / pieces
    slack = 2 * max(lengths.share(row, row + 1) for row in range(start, stop)) + 0.05 * fair
    if len(cuts) == pieces + 1:
        assert all(abs(lengths.share(a, b) - fair) <= slack for a, b in pairwise(cuts))


def test_rows_of_one_length_are_cut_into_equal_numbers() -> None:
    assert Lengths(100, 7, 7, 700).cuts(0, 100, 4) == [0, 25, 50, 75, 100]
    assert Lengths(100, 7, 7, 700).cuts(20, 60, 4) == [20, 30, 40, 50, 60]
    assert Lengths(3, 7, 7, 21).cuts(0, 3, 9) == [0, 1, 2, 3]


def test_an_empty_column_of_tokens_is_cut_by_rows() -> None:
    assert Lengths(100, 0, 0, 0).cuts(0, 100, 2) == [0, 50, 100]
    assert Lengths(100, 0, 0, 0).share(0, 25) == pytest.approx(0.25)


@pytest.mark.parametrize("pieces", [2, 5, 10])
@pytest.mark.parametrize(
    ("kind", "least", "most"),
    [
        ("modules", 0.9, 1.1),  # long documents: most chunks are as long as chunks may be
        ("docstrings", 0.8, 1.7),  # short ones: the shortest tenth has a little of most of the tokens
    ],
)
def test_pieces_of_real_chunks_have_about_equal_tokens(
    tokenizer: Tokenizer, kind: str, least: float, most: float, pieces: int
) -> None:
    texts = docstrings("pydantic") if kind == "docstrings" else _modules("pydantic")
    config = ChunkConfig(max_tokens=256)
    rows = sorted(
        len(chunk.input_ids)
        for text in islice(filter(None, texts), 400)
        for chunk in chunk_document(text, tokenizer, config, overhead=2)
    )
    cuts = _lengths(rows).cuts(0, len(rows), pieces)
    shares = [sum(rows[start:stop]) / sum(rows) * pieces for start, stop in pairwise(cuts)]
    assert len(shares) == pieces
    assert min(shares) >= least
    assert max(shares) <= most


def _modules(package: str) -> Iterator[str]:
    spec = find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    for file in sorted(Path(spec.submodule_search_locations[0]).glob("*.py")):
        yield file.read_text(encoding="utf-8")
