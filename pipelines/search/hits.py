"""What a search gives: chunks with their place in the ranking, their text read from the lake."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pyiceberg.table import Table

from pipelines.lake import Lake
from pipelines.lake.filters import all_of, equals, is_one_of
from pipelines.lake.scan import read_file, scan_files
from pipelines.search.top_k import Ranked

_CHUNK = ["chunk_id", "ordinal", "text", "char_start", "char_end", "metadata"]


@dataclass(frozen=True)
class Hit:
    """A chunk that was found.

    Attributes:
        rank: From 1.
        score: Cosine of its vector and the query's, at the dimension asked for.
        chunk_id: The chunk.
        doc_id: Its document.
        source: The document's source.
        ordinal: Its place in the document, from 0.
        text: Its text.
        char_start: First character in the normalised document, in code points.
        char_end: One past the last.
        metadata: The document's further columns.
    """

    rank: int
    score: float
    chunk_id: str
    doc_id: str
    source: str
    ordinal: int
    text: str
    char_start: int
    char_end: int
    metadata: dict[str, str | None]


def chunk_rows(lake: Lake, ranked: Sequence[Ranked], at_ms: int | None = None) -> dict[str, dict[str, Any]]:
    """The rows of `chunks` of those ranked, by chunk_id; chunks that are gone are not in it.

    Args:
        lake: The lake.
        ranked: Chunks to read.
        at_ms: Of a search in the past: chunks that are gone since are read as of this time, in milliseconds,
            as far as the snapshots of `chunks` are kept.
    """
    table = lake.table("chunks")
    rows = _rows(table, ranked, None)
    missing = [one for one in ranked if one.chunk_id not in rows]
    if missing and at_ms is not None:
        past = table.snapshot_as_of_timestamp(at_ms)
        if past is not None:
            rows |= _rows(table, missing, past.snapshot_id)
    return rows


def made_hits(ranked: Sequence[Ranked], chunks: dict[str, dict[str, Any]]) -> list[Hit]:
    """Hits in the ranking's order."""
    return [
        Hit(
            rank=place,
            score=-one.distance,
            chunk_id=one.chunk_id,
            doc_id=one.doc_id,
            source=one.source,
            ordinal=chunks[one.chunk_id]["ordinal"],
            text=chunks[one.chunk_id]["text"],
            char_start=chunks[one.chunk_id]["char_start"],
            char_end=chunks[one.chunk_id]["char_end"],
            metadata=dict(chunks[one.chunk_id]["metadata"] or []),
        )
        for place, one in enumerate(ranked, start=1)
    ]


def _rows(table: Table, ranked: Sequence[Ranked], snapshot_id: int | None) -> dict[str, dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    for source in sorted({rank.source for rank in ranked}):
        inside = [rank for rank in ranked if rank.source == source]
        wanted = all_of(
            equals("source", source),
            is_one_of("doc_id", (rank.doc_id for rank in inside)),  # prunes buckets
            is_one_of("chunk_id", (rank.chunk_id for rank in inside)),
        )
        for file in scan_files(table, wanted, snapshot_id):
            for row in read_file(table, file, _CHUNK, wanted).to_pylist():
                rows[row["chunk_id"]] = row
    return rows
