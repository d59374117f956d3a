"""Makes `chunks` tables without Spark: real text, the real tokenizer, several files and partitions."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import pyarrow as pa
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.transforms import BucketTransform
from pyiceberg.types import StringType

from pipelines.encoder.tokenizer import Tokenizer
from pipelines.lake import Lake
from pipelines.lake.commit import append_files
from pipelines.lake.datafiles import WrittenFile, write_data_file
from pipelines.lake.tables import CHUNKS

_SUBJECTS = (
    "The committer",
    "An idle encoder",
    "Each partition",
    "A snapshot",
    "The tokenizer",
    "One bucket",
)
_VERBS = ("appends", "reads", "rewrites", "forgets", "compares", "counts")
_OBJECTS = ("a data file", "its manifest", "the vectors", "token ids", "every reject", "a unit of work")
_PLACES = ("before dawn", "in Iceberg", "on two cores", "without a GPU", "after a crash", "for the archive")


@dataclass(frozen=True)
class ChunkText:
    """One chunk to make; `ids` overrides the tokenizer's."""

    source: str
    doc_id: str
    text: str
    ordinal: int = 0
    ids: tuple[int, ...] | None = None
    metadata: dict[str, str] = field(default_factory=dict)


def sentence(number: int) -> str:
    """A sentence of its own for each number, of varying length."""
    parts = []
    for part in range(1 + number % 4):
        seed = number * 7 + part * 13
        words = (
            table[(seed // 6**place) % 6]
            for place, table in enumerate((_SUBJECTS, _VERBS, _OBJECTS, _PLACES))
        )
        parts.append(" ".join(words))
    return f"{', and '.join(parts)}, as note {number} says."


def corpus(
    documents: int, sources: Sequence[str] = ("notes", "manual"), chunks_each: int = 2
) -> list[ChunkText]:
    """Chunks of `documents` documents, spread over the sources."""
    return [
        ChunkText(
            sources[doc % len(sources)],
            f"doc-{doc:05d}",
            sentence(doc * chunks_each + ordinal),
            ordinal,
            metadata={"title": f"Note {doc}"},
        )
        for doc in range(documents)
        for ordinal in range(chunks_each)
    ]


def chunk_id(chunk: ChunkText, fingerprint: str) -> str:
    """The id that a chunk gets: it changes with its text, its place and the tokenizer."""
    key = f"{chunk.doc_id}\0{chunk.ordinal}\0{chunk.text}\0{fingerprint}"
    return blake2b(key.encode(), digest_size=16).hexdigest()


def chunk_rows(chunks: Iterable[ChunkText], tokenizer: Tokenizer) -> pa.Table:
    """Rows with the columns of `chunks`."""
    rows: list[dict[str, Any]] = []
    for chunk in chunks:
        ids = list(chunk.ids) if chunk.ids is not None else tokenizer.encode(chunk.text)[0]
        rows.append(
            {
                "chunk_id": chunk_id(chunk, tokenizer.fingerprint),
                "doc_id": chunk.doc_id,
                "source": chunk.source,
                "ordinal": chunk.ordinal,
                "text": chunk.text,
                "text_hash": blake2b(chunk.text.encode(), digest_size=16).hexdigest(),
                "char_start": 0,
                "char_end": len(chunk.text),
                "input_ids": ids,
                "n_tokens": len(ids),
                "metadata": list(chunk.metadata.items()),
            }
        )
    return pa.Table.from_pylist(rows, schema=schema_to_pyarrow(CHUNKS.schema, include_field_ids=False))


def append_chunks(
    lake: Lake, chunks: Sequence[ChunkText], tokenizer: Tokenizer, rows_per_file: int = 50
) -> list[WrittenFile]:
    """Appends chunks as curate does: files of one partition, sorted by length, the tokenizer recorded."""
    lake.ensure_tables()
    lake.bind_tokenizer(tokenizer.fingerprint)
    table = lake.table("chunks")
    transform: BucketTransform[str] = BucketTransform(lake.config.buckets)
    bucket = transform.transform(StringType())
    by_partition: dict[tuple[str, int | None], list[ChunkText]] = defaultdict(list)
    for chunk in chunks:
        by_partition[chunk.source, bucket(chunk.doc_id)].append(chunk)
    files = []
    for members in by_partition.values():
        for start in range(0, len(members), rows_per_file):
            rows = chunk_rows(members[start : start + rows_per_file], tokenizer).sort_by("n_tokens")
            files.append(write_data_file(table, rows, "chunks"))
    append_files(table, files, {"embedlake.stage": "curate"})
    return files
