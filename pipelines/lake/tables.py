"""All tables of the lake but those of training: schemas with column docs, partitions, orders, properties."""

from pyiceberg.types import (
    BinaryType,
    DoubleType,
    FloatType,
    IntegerType,
    ListType,
    LongType,
    StringType,
    TimestamptzType,
)

from pipelines.lake.table_spec import TableSpec, metadata, schema

# Properties that the lake keeps on its tables, beside Iceberg's own.
TOKENIZER_PROPERTY = "embedlake.tokenizer"  # chunks: fingerprint of the tokenizer of `input_ids`
CHUNKING_PROPERTY = "embedlake.chunking"  # chunks: how documents were cut, as JSON
CURATION_PROPERTY = "embedlake.curation"  # documents: what decided who is a duplicate, as JSON
LINES_PROPERTY = "embedlake.lines"  # boilerplate: how lines got their keys, as JSON
FOLLOWED_PROPERTY = "embedlake.followed"  # documents: sequence number up to which the other tables follow
STAGE_PROPERTY = "embedlake.stage"  # in a snapshot's summary: the stage that made it
PUBLISHED_PROPERTY = "embedlake.published"  # serving tables: what was published last, as JSON
MODEL_PROPERTY = "embedlake.model."  # embeddings: + model key -> the model's identity, as JSON

# A change of few rows writes those rows, and not their files anew; readers leave the old ones out.
_ROW_CHANGES = {"write.merge.mode": "merge-on-read", "write.delete.mode": "merge-on-read"}


_STRING, _INT = StringType(), IntegerType()

CHUNKS = TableSpec(
    name="chunks",
    doc="One row per chunk of a kept document, tokenised. A data file is a unit of embedding work.",
    schema=schema(
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
        ("metadata", metadata(102), False, "The document's further columns, as strings"),
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
    schema=schema(
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
        ("metadata", metadata(102), False, "The document's further columns, as strings"),
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
    schema=schema(
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
    schema=schema(
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
    schema=schema(
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
        # The vector column is split by bytes (`datafiles.py`); statistics of it are of no use.
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
    schema=schema(
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

RUNS = TableSpec(
    name="runs",
    doc="Two rows per run of a job that had something to do: when it starts, and when it ends if not killed.",
    schema=schema(
        ("run_id", _STRING, True, "Also in the summaries of the snapshots that it made"),
        ("job", _STRING, True, "embed"),
        ("model", _STRING, False, "The model's key"),
        ("started_at", TimestamptzType(), True, "When it began"),
        ("ended_at", TimestamptzType(), True, "When it ended"),
        ("outcome", _STRING, True, "started, and then done, failed or stopped (by a signal)"),
        ("detail", _STRING, False, "What a failed run said"),
        ("hardware", _STRING, False, "What its encoders ran on, by the name that the device has"),
        ("encoders", _INT, True, "How many became ready"),
        ("rows", LongType(), True, "Rows committed"),
        ("rejects", LongType(), True, "Rows rejected"),
        ("copied_rows", LongType(), True, "Of the rows, those with the vector of an equal text"),
        ("needless_rows", LongType(), True, "Rows left to another run"),
        ("units", LongType(), True, "Units of work written"),
        ("commits", LongType(), True, "Snapshots made"),
        ("retries", LongType(), True, "Units tried again"),
        ("tokens", LongType(), True, "What the model read, specials and prefixes included"),
        ("padded_tokens", LongType(), True, "The same, padding included"),
        ("seconds", DoubleType(), True, "Of the whole run"),
        ("encoding_seconds", DoubleType(), True, "From the first unit taken up to the last commit"),
        ("busy_seconds", DoubleType(), True, "That encoders were at work, all together"),
    ),
)

ROTATIONS = TableSpec(
    name="rotations",
    doc="One row per publication with a rotation: the matrix, and what the vectors were like until then.",
    schema=schema(
        ("run_id", _STRING, True, "The publication; the serving table's snapshot names it"),
        ("rotation_id", _STRING, True, "Hash of the matrix: equal ones are one rotation"),
        ("table_name", _STRING, True, "The serving table"),
        ("model", _STRING, True, "The model's key"),
        ("dimension", _INT, True, "D: the full dimension of its vectors"),
        ("matrix", BinaryType(), True, "D x D float32, little-endian, row by row: x becomes matrix @ x"),
        ("rows", LongType(), True, "Vectors in the moment"),
        ("moment", BinaryType(), True, "Sum of x xT over them: its upper triangle, float64, little-endian"),
    ),
    properties={"write.metadata.metrics.default": "none", "write.metadata.metrics.column.run_id": "full"},
)

INDEXES = TableSpec(
    name="indexes",
    doc="Search indexes in pieces, each of a partition of a table of vectors, as its files were.",
    schema=schema(
        ("table_name", _STRING, True, "The table of vectors"),
        ("partition", _STRING, True, "The partition's values, as JSON"),
        ("model", _STRING, True, "The model's key"),
        ("dim", _INT, True, "Dimension of the vectors"),
        ("files", _STRING, True, "Hash of the partition's data files and files of deletes"),
        ("snapshot_id", LongType(), True, "The table's snapshot when it was built"),
        ("index_id", _STRING, True, "128-bit BLAKE2b of all pieces' data"),
        ("kind", _STRING, True, "As FAISS' index_factory takes it"),
        ("rows", LongType(), True, "Vectors in it"),
        ("piece", _INT, True, "From 0"),
        ("pieces", _INT, True, "How many there are"),
        (
            "data",
            BinaryType(),
            True,
            "A piece of: the index' length, the index, its rows' keys as Arrow IPC",
        ),
    ),
    partitions=(("table_name", "identity", "table_name"),),
    properties={"write.metadata.metrics.default": "none", "write.metadata.metrics.column.partition": "full"},
)

TABLES = (CHUNKS, DOCUMENTS, DUPLICATES, REJECTS, EMBEDDINGS, BOILERPLATE, RUNS, ROTATIONS, INDEXES)
BY_NAME = {table.name: table for table in TABLES}
