"""The true Jaccard similarity of many pairs of documents."""

import numpy as np
import numpy.typing as npt

from pipelines.curate.shingles import Shingles, offsets_of

_BLOCK = 1 << 22  # shingles that are looked up at once: 32 MB of places


def similarities(
    sets: Shingles, first: npt.NDArray[np.int64], second: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """|A and B| / |A or B| of each pair.

    A document's shingles are marked once and looked up for all its partners together, so that a pair costs
    about as much as its second document has shingles.

    Args:
        sets: From `Shingles.distinct`.
        first: Document of each pair.
        second: The other one.
    """
    _, codes = np.unique(sets.hashes, return_inverse=True)
    marks = np.zeros(int(codes.max()) + 1 if len(codes) else 0, np.bool_)
    sizes = np.diff(sets.offsets)
    order = np.argsort(first, kind="stable")
    runs = np.flatnonzero(np.diff(first[order])) + 1
    shared = np.zeros(len(first), np.int64)
    for run in np.split(order, runs) if len(order) else ():
        own = codes[sets.offsets[first[run[0]]] : sets.offsets[first[run[0]] + 1]]
        marks[own] = True
        for part in _blocks(run, sizes[second[run]]):
            shared[part] = _marked(marks, codes, sets.offsets, second[part])
        marks[own] = False
    union = sizes[first] + sizes[second] - shared
    return np.divide(shared, union, out=np.zeros(len(first)), where=union > 0)


def _blocks(run: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
    """The pairs of a run in parts whose documents have about `_BLOCK` shingles together."""
    return np.split(run, np.flatnonzero(np.diff(np.cumsum(sizes) // _BLOCK)) + 1)


def _marked(
    marks: npt.NDArray[np.bool_],
    codes: npt.NDArray[np.int64],
    offsets: npt.NDArray[np.int64],
    documents: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    counts = offsets[documents + 1] - offsets[documents]
    starts = offsets_of(counts)
    places = np.repeat(offsets[documents] - starts[:-1], counts) + np.arange(starts[-1])
    sums = offsets_of(marks[codes[places]])
    return sums[starts[1:]] - sums[starts[:-1]]
