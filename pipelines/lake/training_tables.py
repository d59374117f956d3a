"""The tables that training needs, made when it first does: pairs, what a teacher says of them, batches."""

from pyiceberg.types import (
    BinaryType,
    BooleanType,
    FloatType,
    IntegerType,
    ListType,
    LongType,
    StringType,
)

from pipelines.lake.table_spec import TableSpec, schema

LABELLED_BY_PROPERTY = "embedlake.labelled_by"  # pairs: models that evaluation sets came from, as JSON

_STRING, _INT = StringType(), IntegerType()

PAIRS = TableSpec(
    name="pairs",
    doc="Weak pairs: a text and one that it should find, one row each, with what became of it.",
    schema=schema(
        ("pair_id", _STRING, True, "128-bit BLAKE2b of source, query and document"),
        ("source", _STRING, True, "As the pairs' configuration names it"),
        ("query", _STRING, True, "Normalised text"),
        ("document", _STRING, True, "Normalised text"),
        ("query_hash", _STRING, True, "128-bit BLAKE2b of the query: equal for equal queries"),
        ("document_hash", _STRING, True, "Likewise of the document"),
        ("part", _STRING, False, "What must not be torn apart by a split, such as the package"),
        ("objective", _STRING, True, "search, clustering or classification"),
        ("query_prefix", _STRING, True, "Before the query, without ': '"),
        ("document_prefix", _STRING, True, "Before the document"),
        ("ordinal", LongType(), True, "Place in the source as it was read"),
        ("copies", _INT, True, "Rows of the table that were this pair"),
        ("outcome", _STRING, True, "kept, near_duplicate, contaminated, held_out or rejected"),
        ("detail", _STRING, False, "The pair that stands for it, the evaluation query, or the reason"),
    ),
    partitions=(("source", "identity", "source"),),
    properties={
        "write.distribution-mode": "hash",
        "write.metadata.metrics.default": "none",
        "write.metadata.metrics.column.outcome": "full",
    },
)

_WINDOWED = (
    ("source", "identity", "source"),
    ("asked", "identity", "asked"),
    ("window", "identity", "window"),
)

JUDGEMENTS = TableSpec(
    name="judgements",
    doc="What a teacher says of pairs: the place of a pair's document among those of its window.",
    schema=schema(
        ("pair_id", _STRING, True, "The pair"),
        ("source", _STRING, True, "Of the pair"),
        ("asked", _STRING, True, "The teacher's key for documents, and how far down one may stand"),
        ("window", _INT, True, "Of the source"),
        ("rank", LongType(), False, "From 1; null where a side has no vector"),
        ("score", FloatType(), False, "Inner product of query and document"),
        ("kept", BooleanType(), True, "Whether the rank is low enough"),
    ),
    partitions=_WINDOWED,
    properties={"write.metadata.metrics.default": "none"},
)

NEGATIVES = TableSpec(
    name="negatives",
    doc="Hard negatives of pairs: documents of the source that a teacher finds near the query.",
    schema=schema(
        ("pair_id", _STRING, True, "The pair"),
        ("source", _STRING, True, "Of the pair"),
        ("asked", _STRING, True, "What of judgements, and a hash of the settings"),
        ("window", _INT, True, "Of the source"),
        ("score", FloatType(), True, "Inner product of query and own document"),
        (
            "documents",
            ListType(101, LongType(), element_required=True),
            True,
            "Nearest first: the first 60 bits of their document_hash",
        ),
        ("scores", ListType(102, FloatType(), element_required=True), True, "Of the same with the query"),
    ),
    partitions=_WINDOWED,
    properties={"write.metadata.metrics.default": "none"},
)

BATCHES = TableSpec(
    name="batches",
    doc="Training batches in the order that they are read: one row per pair, or per packed sequence.",
    schema=schema(
        ("data", _STRING, True, "Fingerprint of what the batches were made from, and how"),
        ("segment", _INT, True, "So many steps one after the other: a reader's unit"),
        ("shard", _INT, True, "Part of each step's slots: workers read only those that are theirs"),
        ("step", _INT, True, "Of the run, from 0"),
        ("slot", _INT, True, "Place in the step's batch, from 0"),
        ("unit", _STRING, True, "What the batch is drawn from: a source, or source/cluster"),
        (
            "input_ids",
            ListType(101, _INT, element_required=True),
            True,
            "Whole model inputs, one text after the other: a packed sequence; or query, document, negatives",
        ),
        ("lengths", ListType(102, _INT, element_required=True), True, "Of the texts in input_ids"),
        (
            "hashes",
            ListType(103, LongType(), element_required=True),
            True,
            "Of the same texts, equal for equal ones; none of a sequence",
        ),
        (
            "guide",
            ListType(104, FloatType(), element_required=True),
            False,
            "The guide's vectors of the same texts, one after the other",
        ),
    ),
    partitions=(
        ("data", "identity", "data"),
        ("segment", "identity", "segment"),
        ("shard", "identity", "shard"),
    ),
    order=("step", "slot"),
    properties={
        "write.distribution-mode": "hash",
        "write.metadata.metrics.default": "none",
        "write.metadata.metrics.column.step": "full",
    },
)

CHECKPOINTS = TableSpec(
    name="checkpoints",
    doc="States of training runs, in pieces: weights, moments, position; one commit each.",
    schema=schema(
        ("run", _STRING, True, "Name of the model that comes out"),
        ("step", LongType(), True, "Steps done"),
        ("digest", _STRING, True, "128-bit BLAKE2b of all pieces' data"),
        ("piece", _INT, True, "From 0"),
        ("pieces", _INT, True, "How many there are"),
        ("data", BinaryType(), True, "A piece of a safetensors file"),
    ),
    partitions=(("run", "identity", "run"), ("step", "identity", "step")),
    properties={"write.metadata.metrics.default": "none", "write.metadata.metrics.column.piece": "full"},
)
