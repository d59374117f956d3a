"""Where Spark calls Python: reading splits and tables, and chunking documents. Arrow in, Arrow out."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.curate.chunk import chunk_document
from pipelines.curate.config import ChunkConfig, ColumnsConfig
from pipelines.curate.read.discover import Split, filesystem
from pipelines.curate.read.readers import FileFault, RawRecord, read_split
from pipelines.curate.records import Origin, Rules, judge, judge_fault, to_batches
from pipelines.dedup.signing import Signer
from pipelines.encoder.conf import ModelConf
from pipelines.encoder.tokenizer import Tokenizer
from pipelines.lake.config import LakeConfig
from pipelines.text import text_hash

Batches = Iterable[pa.RecordBatch]
# A record or a file's fault, where it comes from, and the file's bytes.
Found = tuple[RawRecord | FileFault, Origin, int]
Make = Callable[[Iterator[Found]], Batches]

CHUNK_SCHEMA = pa.schema(
    [
        pa.field("chunk_id", pa.string(), nullable=False),
        pa.field("doc_id", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("ordinal", pa.int32(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("text_hash", pa.string(), nullable=False),
        pa.field("char_start", pa.int32(), nullable=False),
        pa.field("char_end", pa.int32(), nullable=False),
        pa.field("input_ids", pa.list_(pa.field("element", pa.int32(), nullable=False)), nullable=False),
        pa.field("n_tokens", pa.int32(), nullable=False),
        pa.field("metadata", pa.map_(pa.string(), pa.string())),
    ]
)
CHUNK_DDL = (
    "chunk_id string, doc_id string, source string, ordinal int, text string, text_hash string, "
    "char_start int, char_end int, input_ids array<int>, n_tokens int, metadata map<string,string>"
)
_CHUNK_ROWS = 1000


def split_reader(
    groups: list[list[Split]], origin: Origin, columns: ColumnsConfig, lake: LakeConfig, make: Make
) -> Callable[[Batches], Batches]:
    """A function over batches of group numbers (column `group`): what `make` makes of their splits."""

    def read(batches: Batches) -> Batches:
        fs, _ = filesystem(origin.input, lake)

        def found() -> Iterator[Found]:
            for batch in batches:
                for group in batch.column("group").to_pylist():
                    for split in groups[group]:
                        place = replace(origin, file=split.file.uri, source=split.file.source)
                        for raw in read_split(fs, split, columns):
                            yield raw, place, split.file.size

        yield from make(found())

    return read


def table_reader(columns: ColumnsConfig, origin: Origin, make: Make) -> Callable[[Batches], Batches]:
    """Over batches of a table's rows, with Iceberg's `_file` and `_pos`: what `make` makes of them."""
    apart = {columns.id, columns.text, columns.source, "_file", "_pos"}

    def read(batches: Batches) -> Batches:
        def found() -> Iterator[Found]:
            for batch in batches:
                for row in batch.to_pylist():
                    metadata = {name: value for name, value in row.items() if name not in apart}
                    own_source = row.get(columns.source) if columns.source else None
                    raw = RawRecord(row["_pos"], row[columns.id], row[columns.text], own_source, metadata)
                    yield raw, replace(origin, file=row["_file"].rpartition("/")[2]), 0

        yield from make(found())

    return read


def judging(rules: Rules, sign: Signer | None) -> Make:
    """Makes judged records, as `RECORD_SCHEMA`, of what is found."""

    def make(found: Iterator[Found]) -> Batches:
        records = (
            judge_fault(raw, size, place) if isinstance(raw, FileFault) else judge(raw, place, rules)
            for raw, place, size in found
        )
        return to_batches(records, sign)

    return make


def chunker(model: ModelConf, config: ChunkConfig) -> Callable[[Batches], Batches]:
    """A function over batches of documents (doc_id, source, text, metadata) that yields their chunks."""

    def chunk(batches: Batches) -> Batches:
        tokenizer = Tokenizer.load(model)
        overhead = tokenizer.overhead(model.prefixes["document"])

        def rows() -> Iterator[dict[str, Any]]:
            for batch in batches:
                for at in range(0, batch.num_rows, _CHUNK_ROWS):  # a file's batch is up to 131,072 rows
                    for document in batch.slice(at, _CHUNK_ROWS).to_pylist():
                        yield from _chunk_rows(document, tokenizer, config, overhead)

        held: list[dict[str, Any]] = []
        for row in rows():
            held.append(row)
            if len(held) == _CHUNK_ROWS:
                yield _chunk_batch(held)
                held = []
        if held:
            yield _chunk_batch(held)

    return chunk


def chunk_id(doc_id: str, ordinal: int, text: str, tokenizer_fingerprint: str) -> str:
    """128-bit hash of what makes a chunk what it is; unchanged text keeps its id."""
    return text_hash("\0".join((tokenizer_fingerprint, str(ordinal), str(len(doc_id)), doc_id, text)))


def _chunk_rows(
    document: dict[str, Any], tokenizer: Tokenizer, config: ChunkConfig, overhead: int
) -> Iterator[dict[str, Any]]:
    text = document["text"]
    for chunk in chunk_document(text, tokenizer, config, overhead):
        piece = text[chunk.char_start : chunk.char_end]
        yield {
            "chunk_id": chunk_id(document["doc_id"], chunk.ordinal, piece, tokenizer.fingerprint),
            "doc_id": document["doc_id"],
            "source": document["source"],
            "ordinal": chunk.ordinal,
            "text": piece,
            "text_hash": text_hash(piece),
            "char_start": chunk.char_start,
            "char_end": chunk.char_end,
            "input_ids": chunk.input_ids,
            "n_tokens": len(chunk.input_ids),
            "metadata": document["metadata"],
        }


def _chunk_batch(rows: list[dict[str, Any]]) -> pa.RecordBatch:
    columns: list[pa.Array] = []
    for field in CHUNK_SCHEMA:
        values = [row[field.name] for row in rows]
        if field.name == "input_ids":
            offsets = np.concatenate([[0], np.cumsum([len(ids) for ids in values])]).astype(np.int32)
            flat = pa.array(np.concatenate(values), pa.int32())
            columns.append(pa.ListArray.from_arrays(pa.array(offsets), flat, type=field.type))
        else:
            columns.append(pa.array(values, field.type))
    return pa.RecordBatch.from_arrays(columns, schema=CHUNK_SCHEMA)
