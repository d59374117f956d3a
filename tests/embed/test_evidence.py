"""What statistics prove, against a model of tables that are embedded, compacted and deleted from."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipelines.embed.plan.evidence import RejectedChunk, weigh
from pipelines.embed.plan.units import Named, Partition
from tests.embed.columns import NO_DELETES, Sized, Stored, chunk_files, embedded_files, id_of
from tests.embed.two_tables import TwoTables

_PARTITIONS: tuple[Partition, ...] = (("a", 0), ("a", 1), ("b", 0))
_file = st.integers(0, 5)
_partition = st.sampled_from(_PARTITIONS)
_rows = st.integers(1, 6)
_few = st.integers(1, 2)
_cuts = st.sets(st.integers(1, 5), max_size=3)
_rarely = st.sampled_from([0, 0, 0, 1, 9])
_append = st.tuples(st.just("append"), _partition, _rows)
_embed = st.tuples(st.just("embed"), _file, _cuts, st.sets(st.integers(0, 3), max_size=1), _rarely, _rarely)
_two_jobs = st.tuples(st.just("two_jobs"), _file, _cuts, _cuts, st.integers(0, 3))
_step = st.one_of(
    _append,
    _append,
    _embed,
    _embed,
    _two_jobs,
    st.tuples(st.just("compact_chunks"), _partition),
    st.tuples(st.just("compact_embeddings"), _partition),
    st.tuples(st.just("rewrite_without"), _file),
    st.tuples(st.just("take_back_reject"), _file),
    st.tuples(st.just("delete_chunks"), _file, _few, st.booleans()),
    st.tuples(st.just("delete_embeddings"), _file, _few, st.booleans()),
    st.tuples(st.just("delete_both"), _file, _few, st.booleans()),
    st.tuples(st.just("remove_file"), _file, st.booleans()),
)
Steps = Sequence[tuple[Any, ...]]


def _after(steps: Steps) -> TwoTables:
    tables = TwoTables()
    for name, *arguments in steps:
        getattr(tables, name)(*arguments)
    return tables


@given(st.lists(_step, max_size=25))
def test_whatever_happened_nothing_is_called_done_or_fresh_that_is_not(steps: Steps) -> None:
    tables = TwoTables()
    for name, *arguments in steps:
        getattr(tables, name)(*arguments)
        tables.check()


# Without rows left out: what two jobs and a kill leave, where no slice is half done.
_whole_slices = st.tuples(
    st.just("embed"), _file, _cuts, st.sets(st.integers(0, 3), max_size=1), _rarely, st.just(0)
)


@given(
    st.lists(_append | _whole_slices | st.tuples(st.just("remove_file"), _file, st.booleans()), max_size=25)
)
@example([("append", ("a", 0), 6), ("embed", 0, {2, 4}, {1}, 1, 0), ("append", ("a", 0), 2)])
def test_while_files_are_as_they_were_written_nothing_is_unsure(steps: Steps) -> None:
    tables = _after(_consistent(steps))
    verdict = tables.check()
    assert verdict.unsure == []
    assert verdict.unclear == frozenset()
    covered = tables.covered()
    assert verdict.done_rows == sum(len(file.live & covered) for file in tables.chunks)
    assert verdict.done.tolist() == [file.live <= covered for file in tables.chunks]


def _consistent(steps: Steps) -> Steps:
    """Without a second embedding of the same file by other cuts, which leaves slices half done."""
    seen: set[int] = set()
    kept: list[tuple[Any, ...]] = []
    files: list[int] = []
    made = 0
    for step in steps:
        if step[0] == "append":
            files.append(made)
            made += 1
        elif not files or (step[0] == "embed" and files[step[1] % len(files)] in seen):
            continue
        elif step[0] == "embed":
            seen.add(files[step[1] % len(files)])
        else:
            files.pop(step[1] % len(files))
        kept.append(step)
    return kept


@given(
    st.lists(st.tuples(_partition, _rows, st.booleans(), _cuts), min_size=1, max_size=8),
    st.lists(st.tuples(_file, _few), max_size=6),
    st.booleans(),
)
def test_equal_deletes_on_both_sides_leave_nothing_unsure(
    files: list[tuple[Partition, int, bool, set[int]]], deletes: list[tuple[int, int]], late: bool
) -> None:
    tables = TwoTables()
    for number, (partition, rows, embedded, cuts) in enumerate(files):
        tables.append(partition, rows)
        if embedded:
            tables.embed(number, cuts, set(), 0, 0)
    for chosen, rows in deletes:
        tables.delete_both(chosen, rows, True)
    if late:  # what was left is embedded after the deletes, with names that count live rows
        for number, (file, (_, _, embedded, cuts)) in enumerate(zip(tables.chunks, files, strict=True)):
            if not embedded:
                slices = tables.slices(number, cuts)
                some_live = all(set(file.rows[start:stop]) & file.live for start, stop in slices)
                tables.embed(number, cuts if some_live else set(), set(), 0, 0)
    verdict = tables.check()
    assert verdict.unsure == []
    expected = [embedded or late for _, _, embedded, _ in files]
    gone = [not file.live for file in tables.chunks]  # to the last row: nothing is left to do either way
    told = zip(verdict.done.tolist(), expected, gone, strict=True)
    assert all(done == wanted or empty for done, wanted, empty in told)


def _weighed(
    embedded: Sequence[Stored] = (),
    rejected: Sequence[RejectedChunk] = (),
    chunks_deleted: Mapping[int, int] = NO_DELETES,
    embedded_deleted: Mapping[int, int] = NO_DELETES,
) -> tuple[bool, list[tuple[int, int]], list[tuple[int, int]]]:
    """A file of ten rows beside another: whether it is done, and what of it is fresh and unsure."""
    files = chunk_files([Sized((1,) * 10), Sized((1,) * 4)], deleted=chunks_deleted)
    verdict = weigh(files, embedded_files(embedded, embedded_deleted), rejected)
    fresh, unsure = (
        [(start, stop) for number, start, stop in ranges if number == 0]
        for ranges in (verdict.fresh, verdict.unsure)
    )
    return bool(verdict.done[0]), fresh, unsure


_ALL = [(0, 10)]


def _of(start: int, stop: int | None, rows: int, live: int | None = None, file: int = 0) -> Stored:
    return Stored(Named(id_of(file), start, stop, live), rows)


@pytest.mark.parametrize(
    ("embedded", "expected"),
    [
        ([], (False, _ALL, [])),
        ([_of(0, None, 10)], (True, [], [])),
        ([_of(0, None, 4), _of(0, None, 6)], (True, [], [])),
        ([_of(0, None, 9)], (False, [], _ALL)),
        ([_of(0, None, 10), _of(0, None, 10)], (False, [], _ALL)),
        ([_of(0, 4, 4)], (False, [(4, 10)], [])),
        ([_of(0, 4, 4), _of(4, 10, 6)], (True, [], [])),
        ([_of(0, 4, 4), _of(6, 10, 3)], (False, [(4, 6)], [(6, 10)])),
        ([_of(0, 4, 4), _of(2, 10, 2)], (False, [], [(4, 10)])),
        ([_of(0, 6, 6), _of(4, 10, 6)], (False, [], [(6, 10)])),  # cannot be: of such, no more than needs be
        ([_of(0, 10, 8, live=8)], (False, [], _ALL)),  # its two deletes were rolled back
        ([_of(0, None, 4, file=1)], (False, _ALL, [])),
        ([_of(0, None, 4, file=7)], (False, [], _ALL)),
        ([Stored(None, 4)], (False, [], _ALL)),
        ([Stored(None, 4, ("b", 0))], (False, _ALL, [])),
        ([_of(0, 4, 4), Stored(None, 4)], (False, [], [(4, 10)])),
        ([_of(0, None, 10), Stored(None, 4)], (True, [], [])),
    ],
)
def test_a_file_is_weighed(
    embedded: list[Stored], expected: tuple[bool, list[tuple[int, int]], list[tuple[int, int]]]
) -> None:
    assert _weighed(embedded) == expected


@pytest.mark.parametrize(
    ("gone", "lost", "rows", "live", "expected"),
    [
        (2, 2, 10, None, (True, [], [])),
        (2, 0, 10, None, (False, [], _ALL)),
        (0, 2, 10, None, (False, [], _ALL)),
        (2, 1, 10, None, (False, [], _ALL)),
        (2, 0, 8, 8, (True, [], [])),  # embedded after the deletes
        (3, 1, 8, 8, (True, [], [])),  # before one of them
        (3, 0, 8, 8, (False, [], _ALL)),
        (-1, 2, 10, None, (False, [], _ALL)),
        (2, -1, 10, None, (False, [], _ALL)),
        (-1, -1, 10, None, (False, [], _ALL)),
    ],
)
def test_deletes_are_believed_where_both_sides_lost_as_many(
    gone: int,
    lost: int,
    rows: int,
    live: int | None,
    expected: tuple[bool, list[tuple[int, int]], list[tuple[int, int]]],
) -> None:
    stored = [_of(0, 10 if live else None, rows, live)]
    assert _weighed(stored, (), {0: gone} if gone else {}, {0: lost} if lost else {}) == expected


def test_counts_that_agree_by_accident_are_not_believed() -> None:
    # Two rows are deleted and two were never embedded.
    assert _weighed([_of(0, 8, 8)], (), {0: 2}) == (False, [], _ALL)
    # One file of embeddings lost two rows, the other nobody knows how many.
    halves = [_of(0, None, 4), _of(0, None, 6)]
    assert _weighed(halves, (), {0: 1}, {0: -1, 1: 2}) == (False, [], _ALL)
    assert _weighed(halves, (), {0: 3}, {0: 1, 1: 2}) == (True, [], [])


def test_deletes_in_a_file_without_embeddings_leave_it_fresh_if_they_can_be_counted() -> None:
    assert _weighed((), (), {0: 3}) == (False, _ALL, [])
    assert _weighed((), (), {0: -1}) == (False, [], _ALL)


def test_rejects_count_where_they_were_found() -> None:
    name = Named(id_of(0), 0, 5)
    rejected = [RejectedChunk("c1", ("a", 0), name), RejectedChunk("c2", ("a", 0), name)]
    assert _weighed([_of(0, 5, 3)], rejected) == (False, [(5, 10)], [])
    assert _weighed([_of(0, 5, 3), _of(5, 10, 5)], rejected) == (True, [], [])
    assert _weighed([_of(0, 5, 3)], rejected[:1]) == (False, [(5, 10)], [(0, 5)])


@pytest.mark.parametrize("name", [None, Named(id_of(7))])
def test_rejects_of_a_file_that_is_gone_leave_their_partition_unsure(name: Named | None) -> None:
    assert _weighed((), [RejectedChunk("c", ("a", 0), name)]) == (False, [], _ALL)
    assert _weighed((), [RejectedChunk("c", ("b", 0), name)]) == (False, _ALL, [])


def test_embeddings_of_a_removed_file_are_clear_once_they_are_all_deleted() -> None:
    removed = [_of(0, None, 4, file=7)]
    assert _weighed(removed, (), {}, {0: 4}) == (False, _ALL, [])
    assert _weighed(removed, (), {}, {0: 3}) == (False, [], _ALL)
    assert _weighed(removed, (), {}, {0: -1}) == (False, [], _ALL)
