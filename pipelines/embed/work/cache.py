"""Vectors that are there already: a text that the model has embedded in any document is not embedded again.

The index holds 64 bits of a text's hash; a vector is taken only where all 128 are the same. Deleted rows
serve too while their files are there: when a paragraph is put before a document's others, their chunks get
new ids, curate deletes the embeddings of the old ones, and the vectors are what the new ones need.
"""
# ruff: noqa: N803, N806  (array names carry their shape: x_ND)

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.table import Table

from pipelines.embed.plan.units import Slice
from pipelines.embed.work.wire import Job, Known, UnitRows
from pipelines.lake.scan import ScanFile
from pipelines.lake.slices import read_slice

Hashes = npt.NDArray[np.uint64]
Found = tuple[Hashes, npt.NDArray[np.int32], npt.NDArray[np.int64]]  # hashes, files, rows
_HEX_DIGITS = 32
_VALUES = np.full(256, 255, dtype=np.uint8)
for _digit, _byte in enumerate(b"0123456789abcdef"):
    _VALUES[_byte] = _digit


@dataclass(frozen=True)
class CacheIndex:
    """Where the vectors of some texts are; M texts.

    Attributes:
        hash_M: The first 64 bits of each text's hash, ascending.
        file_M: Number of the file of `embeddings` that holds it.
        row_M: Its row in that file.
        files: The files, by number.
    """

    hash_M: Hashes  # noqa: N815 - the names carry their shape
    file_M: npt.NDArray[np.int32]  # noqa: N815
    row_M: npt.NDArray[np.int64]  # noqa: N815
    files: tuple[str, ...]

    @classmethod
    def merged(cls, found: Sequence[Found], files: Sequence[str]) -> "CacheIndex":
        """Of what several calls of `matches` gave: one place a text."""
        hash_K = np.concatenate([part[0] for part in found] or [np.empty(0, np.uint64)])
        order = np.argsort(hash_K, kind="stable")
        first = np.ones(len(order), dtype=np.bool_)
        first[1:] = hash_K[order][1:] != hash_K[order][:-1]
        kept = order[first]
        file_K = np.concatenate([part[1] for part in found] or [np.empty(0, np.int32)])
        row_K = np.concatenate([part[2] for part in found] or [np.empty(0, np.int64)])
        return cls(hash_K[kept], file_K[kept], row_K[kept], tuple(files))

    def find(self, hash_N: Hashes) -> npt.NDArray[np.int64]:
        """The place of each text in the index; -1 where it is not there."""
        return place_in(self.hash_M, hash_N)


def place_in(sorted_M: Hashes, hash_N: Hashes) -> npt.NDArray[np.int64]:
    """Where values are in an ascending array; -1 where they are not."""
    if len(sorted_M) == 0:
        return np.full(len(hash_N), -1, dtype=np.int64)
    at = np.minimum(np.searchsorted(sorted_M, hash_N), len(sorted_M) - 1)
    return np.where(sorted_M[at] == hash_N, at, -1).astype(np.int64)


def short_hashes(column: pa.ChunkedArray) -> Hashes:
    """The first 64 bits of hashes that are 32 hex digits each; 0 for anything else."""
    strings = column.combine_chunks()
    if isinstance(strings, pa.ChunkedArray):
        strings = pa.concat_arrays(strings.chunks) if strings.num_chunks else pa.array([], pa.large_string())
    strings = strings.cast(pa.large_string())
    if len(strings) == 0:
        return np.empty(0, dtype=np.uint64)
    offsets = np.frombuffer(strings.buffers()[1], np.int64)[
        strings.offset : strings.offset + len(strings) + 1
    ]
    data = np.frombuffer(strings.buffers()[2] or b"", np.uint8)
    whole = np.diff(offsets) == _HEX_DIGITS
    digits = _VALUES[data[offsets[:-1][whole, None] + np.arange(16)]]
    values = np.zeros(len(digits), dtype=np.uint64)
    for place in range(16):
        values = (values << np.uint64(4)) | digits[:, place].astype(np.uint64)
    values[(digits == 255).any(axis=1)] = 0
    hashes = np.zeros(len(strings), dtype=np.uint64)
    hashes[whole] = values
    return hashes


def pending_hashes(chunks: Table, slices: Sequence[Slice]) -> Hashes:
    """Short hashes of the texts of slices' pending rows, ascending, each once."""
    found = [np.empty(0, dtype=np.uint64)]
    for piece in slices:
        try:
            rows, positions = read_slice(chunks, piece.file, piece.start, piece.stop, ["text_hash"])
        except FileNotFoundError:
            continue  # rewritten meanwhile: its rows are just embedded
        found.append(short_hashes(rows.column(0))[piece.mask()[positions - piece.start]])
    return np.unique(np.concatenate(found))


def matches(embeddings: Table, files: Sequence[tuple[int, str]], probe_P: Hashes) -> Found:
    """Which rows of files of `embeddings` are of texts that are looked for: their hashes, files and rows.

    Args:
        embeddings: The table.
        files: Number and URI of each.
        probe_P: Short hashes that are looked for, ascending.
    """
    hashes, numbers, rows = [], [], []
    for number, path in files:
        try:
            column, _ = read_slice(embeddings, ScanFile(path, (), 0, 0), 0, 2**62, ["text_hash"])
        except FileNotFoundError:
            continue
        hash_N = short_hashes(column.column(0))
        hit = np.flatnonzero((place_in(probe_P, hash_N) >= 0) & (hash_N != 0))
        hashes.append(hash_N[hit])
        numbers.append(np.full(len(hit), number, dtype=np.int32))
        rows.append(hit.astype(np.int64))
    return (
        np.concatenate(hashes or [np.empty(0, np.uint64)]),
        np.concatenate(numbers or [np.empty(0, np.int32)]),
        np.concatenate(rows or [np.empty(0, np.int64)]),
    )


def with_cached(job: Job, unit: UnitRows, index: CacheIndex) -> UnitRows:
    """A unit with the vectors that are there already."""
    hashes = unit.rows.column("text_hash")
    known = cached_vectors(job.table("embeddings"), index, hashes, job.model.dimension)
    return replace(unit, known=known) if len(known.rows_K) else unit


def cached_vectors(embeddings: Table, index: CacheIndex, text_hash: pa.ChunkedArray, dimension: int) -> Known:
    """Rows whose text has a vector already, and their vectors.

    Args:
        embeddings: The table; the model's files of it are in the index.
        index: Where vectors are. Files that are gone meanwhile give nothing.
        text_hash: Of N rows.
        dimension: D.
    """
    at_N = index.find(short_hashes(text_hash))
    rows_K = np.flatnonzero(at_N >= 0)
    vectors_KD = np.empty((len(rows_K), dimension), dtype=np.float32)
    good_K = np.zeros(len(rows_K), dtype=np.bool_)
    wanted = text_hash.take(pa.array(rows_K)).to_pylist() if len(rows_K) else []
    at_K = at_N[rows_K]
    for number in np.unique(index.file_M[at_K]).tolist():
        of_file = np.flatnonzero(index.file_M[at_K] == number)
        places = index.row_M[at_K[of_file]]
        for in_group, rows in _row_groups(embeddings, index.files[number], places):
            mine = of_file[in_group]
            values = rows.column("embedding").combine_chunks().flatten().to_numpy()
            vectors_KD[mine] = values.reshape(-1, dimension)
            there = rows.column("text_hash").to_pylist()
            good_K[mine] = [wanted[k] == found for k, found in zip(mine.tolist(), there, strict=True)]
    return Known(rows_K[good_K], vectors_KD[good_K])


def _row_groups(
    embeddings: Table, path: str, row_K: npt.NDArray[np.int64]
) -> list[tuple[npt.NDArray[np.int64], pa.Table]]:
    """For each row group with wanted rows: which of the wanted ones, and them."""
    found = []
    try:
        with embeddings.io.new_input(path).open() as stream, pq.ParquetFile(stream, pre_buffer=True) as file:
            sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
            bounds = np.cumsum([0, *sizes])
            group_K = np.searchsorted(bounds, row_K, side="right") - 1
            for group in np.unique(group_K).tolist():
                mine = np.flatnonzero(group_K == group)
                rows = file.read_row_group(group, columns=["text_hash", "embedding"])
                found.append((mine, rows.take(pa.array(row_K[mine] - bounds[group]))))
    except FileNotFoundError:
        return []
    return found
