"""All tables of the lake: schemas with column docs, partitions, orders, properties. The one place."""

from dataclasses import dataclass, field
from typing import Any

from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.sorting import NullOrder, SortDirection, SortField, SortOrder
from pyiceberg.transforms import BucketTransform, IdentityTransform, Transform
from pyiceberg.types import (
    DoubleType,
    FloatType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    NestedField,
    StringType,
    TimestamptzType,
)

# Properties that the lake keeps on its tables, beside Iceberg's own.
TOKENIZER_PROPERTY = "embedlake.tokenizer"  # chunks: fingerprint of the tokenizer of `input_ids`
CHUNKING_PROPERTY = "embedlake.chunking"  # chunks: how documents were cut, as JSON
CURATION_PROPERTY = "embedlake.curation"  # documents: what decided who is a duplicate, as JSON
LINES_PROPERTY = "embedlake.lines"  # boilerplate: how lines got their keys, as JSON
FOLLOWED_PROPERTY = "embedlake.followed"  # documents: sequence number up to which the other tables follow
MODEL_PROPERTY = "embedlake.model."  # embeddings: + model key -> the model's identity, as JSON

_COMMON = {
    "format-version": "2",
    "write.parquet.compression-codec": "zstd",
    "write.parquet.compression-level": "1",
    # Many jobs share a table; Spark and pyiceberg both rebase an append. 4, the default, ran out in tests
    # of facts.md with six writers, 20 did not.
    "commit.retry.num-retries": "20",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "100",
}


# A change of few rows writes those rows, and not their files anew; readers leave the old ones out.
_ROW_CHANGES = {"write.merge.mode": "merge-on-read", "write.delete.mode": "merge-on-read"}


@dataclass(frozen=True)
class TableSpec:
    """A table's definition, engine-free.

    Attributes:
        name: Name within the namespace.
        doc: What a row is.
        schema: Iceberg schema, every column documented. Catalogues may renumber field ids on create.
        partitions: (column, transform, partition field's name), in order.
        order: Columns that a data file is sorted by, ascending.
        properties: Table properties at creation.
    """

    name: str
    doc: str
    schema: Schema
    partitions: tuple[tuple[str, str, str], ...] = ()
    order: tuple[str, ...] = ()
    properties: dict[str, str] = field(default_factory=dict)

    def partition_spec(self, buckets: int) -> PartitionSpec:
        """The Iceberg partition spec, with `bucket` transforms of the given size."""
        fields = []
        for number, (column, transform, name) in enumerate(self.partitions):
            source_id = self.schema.find_field(column).field_id
            made: Transform[Any, Any] = IdentityTransform()
            if transform == "bucket":
                made = BucketTransform(buckets)
            fields.append(
                PartitionField(source_id=source_id, field_id=1000 + number, transform=made, name=name)
            )
        return PartitionSpec(*fields)

    def sort_order(self) -> SortOrder:
        """The Iceberg sort order of a file."""
        return SortOrder(
            *(
                SortField(
                    source_id=self.schema.find_field(column).field_id,
                    transform=IdentityTransform(),
                    direction=SortDirection.ASC,
                    null_order=NullOrder.NULLS_FIRST,
                )
                for column in self.order
            )
        )

    def table_properties(self) -> dict[str, str]:
        """Properties at creation: the common ones, the table's own, and its doc."""
        return _COMMON | {"comment": self.doc} | self.properties


def _schema(*columns: tuple[str, IcebergType, bool, str]) -> Schema:
    return Schema(
        *(
            NestedField(field_id=number, name=name, field_type=type_, required=required, doc=doc)
            for number, (name, type_, required, doc) in enumerate(columns, start=1)
        )
    )


def _metadata(first_id: int) -> MapType:
    return MapType(first_id, StringType(), first_id + 1, StringType(), value_required=False)


_STRING, _INT = StringType(), IntegerType()

CHUNKS = TableSpec(
    name="chunks",
    doc="One row per chunk of a kept document, tokenised. A data file is a unit of embedding work.",
    schema=_schema(
        (
            "chunk_id",
            _STRING,
            True,
            "Hash of doc_id, ordinal, text and tokenizer: unchanged text keeps its id",
        ),
        ("doc_id", _STRING, True, "The document, as the corpus names it"),
        ("source", _STRING, True, "The part of the corpus that the document comes from"),
        ("ordinal", _INT, True, "Position of the chunk in its document, from 0"),
        (
            "text",
            _STRING,
            True,
            "The chunk's text: characters char_start to char_end of the normalised document",
        ),
        ("text_hash", _STRING, True, "128-bit BLAKE2b of the chunk's text: equal text embeds equally"),
        ("char_start", _INT, True, "First character, in Unicode code points of the normalised document"),
        ("char_end", _INT, True, "One past the last character"),
        (
            "input_ids",
            ListType(101, _INT, element_required=True),
            True,
            "Token ids of the text alone, without prefix and special tokens",
        ),
        ("n_tokens", _INT, True, "Length of input_ids"),
        ("metadata", _metadata(102), False, "The document's further columns, as strings"),
    ),
    partitions=(("source", "identity", "source"), ("doc_id", "bucket", "doc_bucket")),
    # Sorted by length, a unit's batches hold rows of one length: little padding.
    order=("n_tokens",),
    properties=_ROW_CHANGES
    | {
        "write.distribution-mode": "hash",
        "write.metadata.metrics.column.text": "none",
        # The count of a list's elements is a file's tokens: a plan knows them without opening it.
        "write.metadata.metrics.column.input_ids.element": "counts",
        # A slice of a file is read without the rest of it.
        "write.parquet.row-group-size-bytes": str(16 * 2**20),
    },
)

DOCUMENTS = TableSpec(
    name="documents",
    doc="The ledger, and the truth that chunks, duplicates and rejects follow: one row per document.",
    schema=_schema(
        ("doc_id", _STRING, True, "The document; for a reject beside an accepted one, its id, # and a hash"),
        ("given_id", _STRING, True, "The id as the corpus gave it, or what stands for it: file and row"),
        ("source", _STRING, True, "The part of the corpus that the document comes from"),
        ("arrival", TimestamptzType(), True, "When this text first came, by the corpus or else by the run"),
        ("text_hash", _STRING, True, "128-bit BLAKE2b of the normalised text; of a reject, of what it was"),
        ("version", _STRING, True, "128-bit BLAKE2b of text, source and metadata: another one is a change"),
        ("n_chars", _INT, True, "Length of the normalised text in Unicode code points"),
        ("outcome", _STRING, True, "kept, duplicate or rejected; deleted until the other tables follow"),
        ("kept_doc_id", _STRING, False, "Of a duplicate: the first kept document that it resembles"),
        ("kind", _STRING, False, "Of a duplicate: exact or near"),
        ("similarity", DoubleType(), False, "Of a duplicate: Jaccard similarity over shingles; 1 if exact"),
        ("stage", _STRING, True, "curate (a document) or read (a file)"),
        ("reason", _STRING, False, "Of a reject: a short fixed word"),
        ("detail", _STRING, False, "Of a reject: what exactly was wrong"),
        ("excerpt", _STRING, False, "Of a reject: the first characters of the text"),
        ("input", _STRING, True, "The input that it was read from, as given to the run"),
        ("file", _STRING, True, "The file that it was read from"),
        ("position", LongType(), True, "Its place in the file: row, byte or line, as the format has it"),
        ("bands", ListType(101, LongType(), element_required=True), False, "Keys of the MinHash bands"),
        ("text", _STRING, False, "The normalised text; null of a reject"),
        ("metadata", _metadata(102), False, "The document's further columns, as strings"),
    ),
    partitions=(("source", "identity", "source"), ("doc_id", "bucket", "doc_bucket")),
    properties=_ROW_CHANGES
    | {
        "write.distribution-mode": "hash",
        # A file is read whole by one task of the next step.
        "write.target-file-size-bytes": str(64 * 2**20),
        "write.metadata.metrics.default": "none",
        "write.metadata.metrics.column.source": "full",
        "write.metadata.metrics.column.outcome": "full",
    },
)

DUPLICATES = TableSpec(
    name="duplicates",
    doc="One row per removed document, with the kept one that stands for it.",
    schema=_schema(
        ("doc_id", _STRING, True, "The removed document"),
        ("source", _STRING, True, "The part of the corpus that it comes from"),
        ("kept_doc_id", _STRING, True, "A document that is kept"),
        ("kind", _STRING, True, "exact or near"),
        ("similarity", DoubleType(), True, "Verified Jaccard similarity over shingles; 1.0 where exact"),
    ),
    partitions=(("source", "identity", "source"),),
    properties=_ROW_CHANGES | {"write.distribution-mode": "hash"},
)

REJECTS = TableSpec(
    name="rejects",
    doc="One row per thing that could not be used, with its reason and what is needed to try it again.",
    schema=_schema(
        ("key", _STRING, True, "What was rejected: a file, a document's id, or model and chunk_id"),
        ("stage", _STRING, True, "read (a file), curate (a document) or embed (a chunk)"),
        ("source", _STRING, True, "The part of the corpus that it comes from"),
        ("reason", _STRING, True, "A short fixed word: empty_text, corrupt_file, duplicate_id, …"),
        ("detail", _STRING, False, "What exactly was wrong"),
        ("excerpt", _STRING, False, "The first characters of the text"),
        (
            "payload",
            _STRING,
            False,
            "JSON with what a replay needs: the file and row, or the chunk and model",
        ),
    ),
    partitions=(("stage", "identity", "stage"),),
    properties=_ROW_CHANGES | {"write.distribution-mode": "hash"},
)

EMBEDDINGS = TableSpec(
    name="embeddings",
    doc="One row per chunk and model: the full-dimension vector, normalised. Smaller ones are slices of it.",
    schema=_schema(
        ("chunk_id", _STRING, True, "The chunk"),
        (
            "model",
            _STRING,
            True,
            "The model's key, name@fingerprint; its dimension is in the table's properties",
        ),
        ("doc_id", _STRING, True, "The chunk's document"),
        ("source", _STRING, True, "The part of the corpus that the document comes from"),
        ("text_hash", _STRING, True, "Of the chunk's text: an equal text need not be embedded again"),
        (
            "embedding",
            ListType(101, FloatType(), element_required=True),
            True,
            "float32, full dimension, L2 norm 1: slice and renormalise for a smaller dimension",
        ),
        (
            "unit",
            _STRING,
            True,
            "The rows of `chunks` that the row's file was made from: a data file's id, and where they are "
            "only some of its rows, `:first-last`; one value a file, so that statistics tell what is done",
        ),
    ),
    partitions=(
        ("model", "identity", "model"),
        ("source", "identity", "source"),
        ("doc_id", "bucket", "doc_bucket"),
    ),
    properties=_ROW_CHANGES
    | {
        # facts.md: 50,000 x 768 float32 as zstd-1 + byte-stream split is 2,601 bytes a vector and the
        # fastest to write and to read; a dictionary and statistics of the vector column are of no use.
        "write.metadata.metrics.column.embedding.element": "none",
        "write.metadata.metrics.column.unit": "full",
        "write.metadata.metrics.column.chunk_id": "none",
        "write.metadata.metrics.column.text_hash": "none",
        # A delete of gone chunks and the engine's appends do not disturb each other.
        "write.merge.isolation-level": "snapshot",
    },
)

BOILERPLATE = TableSpec(
    name="boilerplate",
    doc="What has been learnt of each source: one row that says so, and one per line that it repeats.",
    schema=_schema(
        ("source", _STRING, True, "The part of the corpus; with any row here it is learnt"),
        (
            "key",
            LongType(),
            False,
            "xxh3-64 of the line; null in the row that says that the source is learnt",
        ),
        (
            "documents",
            LongType(),
            True,
            "Different texts that held the line; with a null key, all that there were",
        ),
        ("line", _STRING, False, "The line's first 200 characters, for people; null with a null key"),
    ),
)

TABLES = (CHUNKS, DOCUMENTS, DUPLICATES, REJECTS, EMBEDDINGS, BOILERPLATE)
BY_NAME = {table.name: table for table in TABLES}
