"""A window's vectors, as `embed` has written them, beside whose they are."""
# ruff: noqa: N806, N815  (array names carry their shape: x_ND)

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.expressions import BooleanExpression
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.table import Table

from pipelines.lake import Lake
from pipelines.lake.beside import DOCUMENT, QUERY, Teacher
from pipelines.lake.filters import all_of, equals
from pipelines.lake.live import LiveFiles
from pipelines.lake.scan import read_file, scan_files
from pipelines.lake.vectors import as_matrix
from pipelines.mine.texts import POSITIVES, window_name

Vectors = npt.NDArray[np.float32]
Int64s = npt.NDArray[np.int64]

_CODE_DIGITS = 15  # 60 bits: of a hundred million texts the chance that any two agree is 0.4 %


@dataclass(frozen=True, order=True)
class Window:
    """Some pairs of a source that are ranked against each other.

    Attributes:
        source: Of the pairs.
        number: Within the source, from 0.
    """

    source: str
    number: int

    @property
    def name(self) -> str:
        """The `source` of its texts."""
        return window_name(self.source, self.number)


@dataclass(frozen=True)
class Side:
    """One side of a window's pairs.

    Attributes:
        pair_ids: string, of those whose text has a vector.
        x_ND: float32, their vectors.
        code_N: int64, equal for equal texts.
        positives: Of queries: codes of all their documents where they have several, else none.
    """

    pair_ids: pa.Array
    x_ND: Vectors
    code_N: Int64s
    positives: list[list[int]]


def windows(texts: Lake) -> list[Window]:
    """All windows that have texts, by the files of `chunks`."""
    found = set(LiveFiles(lambda file: str(file.partition[0])).of(texts.table("chunks")))
    split = [name.rpartition("/") for name in found]
    return sorted(Window(source, int(number)) for source, _, number in split)


def pair_ids(texts: Lake, window: Window) -> pa.Array:
    """Of all pairs of a window, with vectors or without."""
    rows = _read(texts.table("chunks"), equals("source", window.name), ("doc_id", "ordinal"))
    return rows.filter(pc.equal(rows.column("ordinal"), QUERY)).column("doc_id").combine_chunks()


def read_side(texts: Lake, window: Window, teacher: Teacher, ordinal: int) -> Side:
    """Queries or documents of a window, in the order of pair_id.

    Args:
        texts: The lake of the texts.
        window: Which.
        teacher: Who has embedded them.
        ordinal: `QUERY` or `DOCUMENT`.
    """
    of_window = equals("source", window.name)
    columns = ("chunk_id", "doc_id", "ordinal", "text_hash", "metadata")
    rows = _read(texts.table("chunks"), of_window, columns)
    rows = rows.filter(pc.equal(rows.column("ordinal"), ordinal)).sort_by("doc_id")
    key = teacher.query if ordinal == QUERY else teacher.document
    embedded = _read(
        texts.table("embeddings"), all_of(of_window, equals("model", key)), ("chunk_id", "embedding")
    )
    at = pc.index_in(rows.column("chunk_id"), embedded.column("chunk_id").combine_chunks())
    has_vector = pc.is_valid(at)
    rows, at = rows.filter(has_vector), at.filter(has_vector)
    vectors_ND = as_matrix(embedded.column("embedding"), teacher.dimension)
    return Side(
        pair_ids=rows.column("doc_id").combine_chunks(),
        x_ND=vectors_ND[at.to_numpy()],
        code_N=codes(rows.column("text_hash").to_pylist()),
        positives=[_positives(metadata) for metadata in rows.column("metadata").to_pylist()]
        if ordinal == QUERY
        else [],
    )


def read_window(texts: Lake, window: Window, teacher: Teacher) -> tuple[Side, Side]:
    """Queries and documents of the pairs of which both sides have a vector, in one order."""
    queries = read_side(texts, window, teacher, QUERY)
    documents = read_side(texts, window, teacher, DOCUMENT)
    return (
        _taken(queries, pc.is_in(queries.pair_ids, documents.pair_ids)),
        _taken(documents, pc.is_in(documents.pair_ids, queries.pair_ids)),
    )


def codes(hashes: Sequence[str]) -> Int64s:
    """The first 60 bits of hashes in hex, int64."""
    return np.array([int(text[:_CODE_DIGITS], 16) for text in hashes], dtype=np.int64)


def _taken(side: Side, wanted: pa.BooleanArray) -> Side:
    mask = np.asarray(wanted)
    positives = [own for own, is_wanted in zip(side.positives, mask, strict=False) if is_wanted]
    return Side(side.pair_ids.filter(wanted), side.x_ND[mask], side.code_N[mask], positives)


def _positives(metadata: list[tuple[str, str]] | None) -> list[int]:
    hashes = dict(metadata or []).get(POSITIVES)
    return codes(hashes.split(",")).tolist() if hashes else []


def _read(table: Table, where: BooleanExpression, columns: tuple[str, ...]) -> pa.Table:
    parts = [read_file(table, file, columns, where) for file in scan_files(table, where)]
    if parts:
        return pa.concat_tables(parts)
    schema = schema_to_pyarrow(table.schema().select(*columns), include_field_ids=False)
    return schema.empty_table().select(list(columns))
