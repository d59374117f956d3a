"""Rows of token ids of varying length, joined into one array: no Python object a row."""
# ruff: noqa: N803, N806, N815  (array names carry their shape: values_T)

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Ragged:
    """N rows of ids, T ids in all.

    Attributes:
        values_T: The rows' ids, one row after the other.
        offsets_M: int64, M = N + 1, from 0 to T: row i is `values_T[offsets_M[i] : offsets_M[i + 1]]`.
    """

    values_T: npt.NDArray[np.integer]
    offsets_M: npt.NDArray[np.int64]

    @classmethod
    def of(cls, rows: "Sequence[npt.NDArray[np.integer]] | Self") -> "Ragged":
        """Rows given one by one, or what is `Ragged` already, as it is."""
        if isinstance(rows, Ragged):
            return rows
        lengths_N = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
        values_T = np.concatenate(rows) if len(rows) else np.empty(0, dtype=np.int32)
        return cls.from_lengths(values_T, lengths_N)

    @classmethod
    def from_lengths(cls, values_T: npt.NDArray[np.integer], lengths_N: npt.NDArray[np.int64]) -> Self:
        """Rows by their lengths, which sum to T."""
        return cls(values_T, np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(lengths_N))))

    @classmethod
    def joined(cls, parts: "Sequence[Ragged]") -> Self:
        """The rows of all parts, one part after the other; at least one part."""
        values_T = np.concatenate([part.values_T for part in parts])
        return cls.from_lengths(values_T, np.concatenate([part.lengths_N for part in parts]))

    @property
    def lengths_N(self) -> npt.NDArray[np.int64]:  # noqa: N802 - the name carries its shape
        """Ids of each row."""
        lengths: npt.NDArray[np.int64] = np.diff(self.offsets_M)
        return lengths

    def __len__(self) -> int:
        """How many rows."""
        return len(self.offsets_M) - 1

    def __getitem__(self, index: int) -> npt.NDArray[np.integer]:
        """One row, a view."""
        return self.values_T[self.offsets_M[index] : self.offsets_M[index + 1]]

    def __iter__(self) -> Iterator[npt.NDArray[np.integer]]:
        """The rows, views."""
        return (self[index] for index in range(len(self)))

    def take(self, rows_K: npt.NDArray[np.integer]) -> "Ragged":
        """Some rows, in the order asked for, copied."""
        lengths_K = self.lengths_N[rows_K]
        taken = Ragged.from_lengths(np.empty(0, dtype=self.values_T.dtype), lengths_K)
        shift_K = self.offsets_M[:-1][rows_K] - taken.offsets_M[:-1]
        where_T = np.arange(taken.offsets_M[-1]) + np.repeat(shift_K, lengths_K)
        return Ragged(self.values_T[where_T], taken.offsets_M)

    def wrapped(self, head: npt.NDArray[np.integer], tail: npt.NDArray[np.integer]) -> "Ragged":
        """Each row between the same head and tail."""
        lengths_N = self.lengths_N + len(head) + len(tail)
        wrapped = Ragged.from_lengths(np.empty(int(lengths_N.sum()), dtype=np.int32), lengths_N)
        starts_N, stops_N = wrapped.offsets_M[:-1], wrapped.offsets_M[1:]
        own_T = np.arange(len(self.values_T)) + np.repeat(
            starts_N + len(head) - self.offsets_M[:-1], self.lengths_N
        )
        wrapped.values_T[own_T] = self.values_T
        for place, value in enumerate(head):
            wrapped.values_T[starts_N + place] = value
        for place, value in enumerate(tail[::-1], start=1):
            wrapped.values_T[stops_N - place] = value
        return wrapped
