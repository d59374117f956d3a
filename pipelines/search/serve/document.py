"""A document as the lake has it, with the places of its chunks."""

from dataclasses import dataclass
from typing import Any

from pipelines.lake import Lake
from pipelines.lake.filters import all_of, equals
from pipelines.lake.scan import read_file, scan_files
from pipelines.redact import redact
from pipelines.search.serve.faults import UnknownDocumentError

_DOCUMENT = ["given_id", "arrival", "outcome", "file", "text", "metadata"]
_CHUNK = ["chunk_id", "ordinal", "char_start", "char_end"]


@dataclass(frozen=True)
class Span:
    """A chunk's place in its document.

    Attributes:
        chunk_id: The chunk.
        ordinal: Its place among the document's chunks, from 0.
        char_start: First character, in Unicode code points.
        char_end: One past the last.
    """

    chunk_id: str
    ordinal: int
    char_start: int
    char_end: int


@dataclass(frozen=True)
class Document:
    """A document of the lake.

    Attributes:
        doc_id: Its id.
        source: The part of the corpus that it comes from.
        given_id: The id as the corpus gave it.
        arrival: When its text first came, as ISO 8601.
        outcome: kept or duplicate.
        file: The file that it was read from.
        text: The normalised text, which the spans count in.
        metadata: Its further columns.
        chunks: Places of its chunks, in order; none of a duplicate.
    """

    doc_id: str
    source: str
    given_id: str
    arrival: str
    outcome: str
    file: str
    text: str
    metadata: dict[str, str | None]
    chunks: list[Span]


def read_document(lake: Lake, source: str, doc_id: str) -> Document:
    """The document as it is now.

    Raises:
        UnknownDocumentError: There is none, or the lake keeps no text of it: a reject, or deleted.
        CatalogError: The catalogue does not answer, or the lake has no documents yet.
    """
    rows = [
        row
        for row in _rows(lake, "documents", _DOCUMENT, source, doc_id)
        if row["text"] is not None and row["outcome"] != "deleted"
    ]
    if not rows:
        raise UnknownDocumentError(
            f"the lake has no text of a document '{doc_id}' in the source '{source}'",
            "It may have been deleted or rejected since it was found",
        )
    row = rows[0]
    chunks = [Span(**chunk) for chunk in _rows(lake, "chunks", _CHUNK, source, doc_id)]
    return Document(
        doc_id=doc_id,
        source=source,
        given_id=row["given_id"],
        arrival=row["arrival"].isoformat(),
        outcome=row["outcome"],
        file=redact(row["file"]),
        text=row["text"],
        metadata=dict(row["metadata"] or []),
        chunks=sorted(chunks, key=lambda chunk: chunk.ordinal),
    )


def _rows(lake: Lake, name: str, columns: list[str], source: str, doc_id: str) -> list[dict[str, Any]]:
    table = lake.table(name)
    wanted = all_of(equals("source", source), equals("doc_id", doc_id))  # prunes to one bucket
    return [
        row
        for file in scan_files(table, wanted)
        for row in read_file(table, file, columns, wanted).to_pylist()
    ]
