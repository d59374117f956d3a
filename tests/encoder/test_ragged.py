"""Ragged rows say the same as a list of arrays."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipelines.encoder.ragged import Ragged

_IDS = st.lists(st.integers(0, 50), max_size=6)
_ROWS = st.lists(_IDS, max_size=12)


def _made(rows: list[list[int]]) -> Ragged:
    return Ragged.of([np.array(row, dtype=np.int32) for row in rows])


def _lists(rows: Ragged) -> list[list[int]]:
    return [row.tolist() for row in rows]


@given(_ROWS)
def test_rows_come_back_as_they_were_given(rows: list[list[int]]) -> None:
    made = _made(rows)
    assert _lists(made) == rows
    assert len(made) == len(rows)
    assert made.lengths_N.tolist() == [len(row) for row in rows]
    assert Ragged.of(made) is made


@given(_ROWS.filter(bool), st.data())
def test_taking_rows_is_indexing_them(rows: list[list[int]], data: st.DataObject) -> None:
    wanted = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=20))
    taken = _made(rows).take(np.array(wanted, dtype=np.int64))
    assert _lists(taken) == [rows[index] for index in wanted]


@given(_ROWS, _IDS, _IDS)
def test_wrapping_puts_each_row_between_head_and_tail(
    rows: list[list[int]], head: list[int], tail: list[int]
) -> None:
    wrapped = _made(rows).wrapped(np.array(head, dtype=np.int32), np.array(tail, dtype=np.int32))
    assert _lists(wrapped) == [[*head, *row, *tail] for row in rows]
