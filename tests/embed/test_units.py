"""Units of work: every pending row in exactly one of them, none of them too large, however they are cut."""

from collections import Counter
from itertools import islice, pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipelines.embed.plan.evidence import Range
from pipelines.embed.plan.plan import Plan
from pipelines.embed.plan.units import Named, Slice, Unit, file_id, parsed
from pipelines.lake.scan import ScanFile
from tests.embed.columns import Sized, id_of, plan_of


def _named(id: str, bounds: tuple[int, int], live: int | None) -> Named:
    return Named(id, bounds[0], bounds[1], live)


_ids = st.integers(0, 2).map(id_of)
_bounds = st.tuples(st.integers(0, 12), st.integers(1, 12)).map(lambda pair: (pair[0], sum(pair)))
_lives = st.none() | st.integers(0, 12)
_names = _ids.map(Named) | st.builds(_named, _ids, _bounds, _lives)


@given(_names)
def test_a_name_is_read_as_it_was_written(name: Named) -> None:
    assert parsed(str(name)) == name


@given(_names, _names)
def test_two_slices_have_one_name_only_if_they_are_one(one: Named, other: Named) -> None:
    assert (str(one) == str(other)) == (one == other)


@pytest.mark.parametrize("text", [None, "", "u", "g" * 32, id_of(0) + ":3", id_of(0) + ":1-", id_of(0) + "0"])
def test_what_is_no_name_is_none(text: str | None) -> None:
    assert parsed(text) is None


@given(_names, _names)
@example(Named(id_of(0), 0, 4), Named(id_of(0), 4, 6))
@example(Named(id_of(0), 0, 5), Named(id_of(0), 4, 6))
@example(Named(id_of(0)), Named(id_of(0), 4, 6))
@example(Named(id_of(0), 4, 6), Named(id_of(1), 4, 6))
def test_slices_overlap_where_they_share_a_row(one: Named, other: Named) -> None:
    def rows(name: Named) -> set[tuple[str, int]]:
        return {(name.file_id, row) for row in range(name.start, 30 if name.stop is None else name.stop)}

    assert one.overlaps(other) == other.overlaps(one) == bool(rows(one) & rows(other))


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("file:///lake/chunks/data/a.parquet", "file:///lake/chunks"),
        ("file:/lake/chunks/data/a.parquet", "file:///lake/chunks/"),
        ("/lake/chunks/data/a.parquet", "/lake/chunks"),
        ("s3://bucket/chunks/data/a.parquet", "s3://bucket/chunks"),
        ("s3a://elsewhere/chunks/data/a.parquet", "s3://elsewhere/chunks"),
    ],
)
def test_a_file_id_hashes_the_path_below_the_table(path: str, location: str) -> None:
    found = file_id(path, location)
    assert found == file_id("file:///lake/chunks/data/a.parquet", "file:///lake/chunks")
    assert parsed(found) == Named(found)
    assert found != file_id("file:///lake/chunks/data/b.parquet", "file:///lake/chunks")


def _slice(number: int, start: int, mask: list[bool]) -> Slice:
    file = ScanFile(f"/lake/{number}", ("a", 0), 0, 40)
    keep = None if all(mask) else np.packbits(np.array(mask, dtype=np.bool_)).tobytes()
    return Slice(id_of(number), file, start, start + len(mask), sum(mask), 9 * sum(mask), keep)


def _pending(*slices: Slice) -> list[tuple[str, int]]:
    """Every pending row of some slices, in their order, doubles included."""
    return [(piece.file_id, piece.start + int(at)) for piece in slices for at in np.flatnonzero(piece.mask())]


_masks = st.lists(st.booleans(), min_size=1, max_size=20).filter(any)
_slices = st.builds(_slice, st.integers(0, 3), st.integers(0, 9), _masks)


@given(_slices, st.data())
def test_parts_of_a_slice_hold_its_pending_rows_once(whole: Slice, data: st.DataObject) -> None:
    inner = st.sets(st.integers(whole.start, whole.stop))
    cuts = sorted({whole.start, whole.stop, *data.draw(inner)})
    parts = [whole.part(start, stop) for start, stop in pairwise(cuts)]
    kept = [part for part in parts if part is not None]
    assert _pending(*kept) == _pending(whole)
    for part in kept:
        assert part.rows == len(_pending(part)) > 0
        assert part.tokens == 9 * part.rows
        assert (part.file_id, part.file) == (whole.file_id, whole.file)


@given(_slices, _lives)
def test_a_slice_is_named_as_it_lies(piece: Slice, live: int | None) -> None:
    name = piece.named(live)
    assert name.file_id == piece.file_id
    assert (name.start, 40 if name.stop is None else name.stop) == (piece.start, piece.stop)
    there = piece.stop - piece.start if name.live is None else name.live
    assert there == (piece.stop - piece.start if live is None else live)


def test_only_a_whole_file_goes_by_its_id_alone() -> None:
    whole = _slice(0, 0, [True] * 40)
    assert str(whole.named()) == str(whole.named(40)) == id_of(0)
    assert str(whole.named(38)) == f"{id_of(0)}:0-40/38"
    assert str(_slice(0, 0, [True] * 39).named()) == f"{id_of(0)}:0-39"


@given(st.lists(_slices, min_size=1, max_size=5))
def test_halving_ends_at_single_rows_and_loses_none(slices: list[Slice]) -> None:
    unit = Unit(7, tuple(slices))
    depth, parts = 0, [unit]
    while any(part.rows > 1 for part in parts):
        halves = [half for part in parts for half in part.halves()]
        assert [row for half in halves for row in _pending(*half.slices)] == _pending(*unit.slices)
        assert {half.number for half in halves} == {7}
        parts, depth = halves, depth + 1
        assert depth < 20
    assert len(parts) == unit.rows
    assert all(part.halves() == [part] for part in parts)
    widest = max(piece.rows for piece in slices)
    assert depth <= (len(slices) - 1).bit_length() + (widest - 1).bit_length()


_lengths = st.lists(st.integers(1, 60), min_size=1, max_size=50).map(lambda rows: tuple(sorted(rows)))


@st.composite
def _plans(draw: st.DrawFn) -> Plan:
    """Some ranges of some files, with all of their rows pending or some."""
    files = [Sized(lengths) for lengths in draw(st.lists(_lengths, min_size=1, max_size=8))]
    pending: dict[Range, list[bool] | None] = {}
    for number, file in enumerate(files):
        rows = len(file.lengths)
        ends = sorted(draw(st.sets(st.integers(0, rows), max_size=4)) | {0, rows})
        for start, stop in pairwise(ends):
            mask = draw(st.none() | st.lists(st.booleans(), min_size=stop - start, max_size=stop - start))
            if (mask is None or any(mask)) and draw(st.booleans() | st.just(True)):
                pending[number, start, stop] = None if mask is None or all(mask) else mask
    return plan_of(files, pending)


_sizes = st.tuples(st.integers(1, 500), st.integers(1, 40))
# 25 rows of one token before 25 of 60; and three of 40 pending, all of them among the longest.
_UNEVEN = plan_of([Sized((1,) * 25 + (60,) * 25)], {(0, 0, 50): None})
_AT_THE_END = plan_of([Sized(tuple(range(1, 41)))], {(0, 0, 40): [False] * 37 + [True] * 3})
_BARELY_TWO = plan_of([Sized((10,) * 14)], {(0, 0, 14): None})


@given(_plans(), _sizes)
@example(_UNEVEN, (400, 10))
@example(_AT_THE_END, (30, 10))
@example(_BARELY_TWO, (100, 40))
def test_units_hold_each_pending_row_once_and_none_is_too_large(plan: Plan, sizes: tuple[int, int]) -> None:
    tokens, rows = sizes
    units = list(plan.units(tokens, rows))
    number = {id.decode(): at for at, id in enumerate(plan.chunks.ids.tolist())}
    found = [row for unit in units for row in _pending(*unit.slices)]
    assert found == _pending(*plan.slices())
    assert len(found) == plan.pending_rows
    assert [unit.number for unit in units] == list(range(len(units)))
    for unit in units:
        assert unit.rows == len(_pending(*unit.slices))
        assert unit.rows <= rows
        longest = max(int(plan.chunks.longest[number[piece.file_id]]) for piece in unit.slices)
        assert unit.tokens <= 1.25 * tokens + longest + 1


@given(_plans(), _sizes, st.integers(0, 120))
@example(plan_of([Sized((10,) * 9), Sized((10,) * 9)], {(0, 0, 9): None, (1, 0, 9): None}), (500, 9), 12)
def test_a_limit_takes_exactly_so_many_rows(plan: Plan, sizes: tuple[int, int], limit: int) -> None:
    tokens, rows = sizes
    units = list(plan.units(tokens, rows, limit))
    found = [row for unit in units for row in _pending(*unit.slices)]
    assert found == _pending(*plan.slices())[:limit]
    assert all(0 < unit.rows <= rows for unit in units)
    assert len({unit.number for unit in units}) == len(units)


@given(_plans(), _sizes)
def test_units_are_the_same_each_time_and_made_one_by_one(plan: Plan, sizes: tuple[int, int]) -> None:
    units = list(plan.units(*sizes))
    assert list(plan.units(*sizes)) == units
    assert list(islice(plan.units(*sizes), 2)) == units[:2]


def test_many_small_files_are_few_units_of_at_most_256_slices() -> None:
    plan = plan_of([Sized((5,))] * 600, {(number, 0, 1): None for number in range(600)})
    assert [len(unit.slices) for unit in plan.units(10_000, 10_000)] == [256, 256, 88]
    limited = [len(unit.slices) for unit in plan.units(10_000, 10_000, 257)]
    assert limited == [256, 1]
    assert [unit.rows for unit in plan.units(50, 10_000)] == [10] * 60


def test_a_large_file_is_units_of_about_equal_tokens() -> None:
    lengths = tuple(range(1, 401))  # of 80,200 tokens
    plan = plan_of([Sized(lengths)], {(0, 0, 400): None})
    units = list(plan.units(8_000, 10_000))
    real = [sum(lengths[row] for _, row in _pending(*unit.slices)) for unit in units]
    assert len(units) == 10
    assert all(0.9 * 8_020 < tokens < 1.1 * 8_020 for tokens in real)
    assert Counter(unit.slices[0].partition for unit in units) == {("a", 0): 10}
