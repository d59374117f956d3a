"""Judges raw records one by one: each becomes a document in normal form, or a reject with its reason."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import pyarrow as pa

from pipelines.curate.read.arrival import Moment, moment
from pipelines.curate.read.readers import FileFault, RawRecord
from pipelines.curate.rules.boilerplate import SourceLines
from pipelines.curate.rules.language import LanguageConfig, language_fault, language_of
from pipelines.curate.rules.mend import mended
from pipelines.curate.rules.quality import quality_fault
from pipelines.curate.rules.quality_config import QualityConfig
from pipelines.curate.values import encodes, excerpt_of, string_of, strings_of
from pipelines.dedup.signing import Signer
from pipelines.text import is_blank, normalise, text_hash

# The Arrow and the Spark form of a judged record; `reason` is null where it is a document.
RECORD_SCHEMA = pa.schema(
    [
        pa.field("doc_id", pa.string()),
        pa.field("source", pa.string()),
        pa.field("arrival", pa.timestamp("us", tz="UTC")),
        pa.field("text", pa.string()),
        pa.field("text_hash", pa.string()),
        pa.field("version", pa.string()),
        pa.field("n_chars", pa.int32()),
        pa.field("metadata", pa.map_(pa.string(), pa.string())),
        pa.field("input", pa.string()),
        pa.field("file", pa.string()),
        pa.field("position", pa.int64()),
        pa.field("stage", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("detail", pa.string()),
        pa.field("excerpt", pa.string()),
        pa.field("bands", pa.list_(pa.int64())),
    ]
)
RECORD_DDL = (
    "doc_id string, source string, arrival timestamp, text string, text_hash string, version string, "
    "n_chars int, metadata map<string,string>, input string, file string, position bigint, stage string, "
    "reason string, detail string, excerpt string, bands array<bigint>"
)


@dataclass(frozen=True)
class Origin:
    """Where a record comes from.

    Attributes:
        input: The input as given to the run.
        file: The file's URI; for a table, the data file's name.
        source: Of records that name none.
        arrival: Of records that carry none.
    """

    input: str
    file: str
    source: str
    arrival: Moment


@dataclass(slots=True)  # frozen, it takes three times as long to make
class Record:
    """A judged record; the fields are the columns of `RECORD_SCHEMA`, without `bands`."""

    doc_id: str
    source: str
    arrival: Moment
    text: str | None
    text_hash: str
    version: str
    n_chars: int
    metadata: dict[str, str | None] | None
    input: str
    file: str
    position: int
    stage: str = "curate"
    reason: str | None = None
    detail: str | None = None
    excerpt: str | None = None


@dataclass(frozen=True)
class Rules:
    """What a record must be to be a document.

    Attributes:
        arrival: The column of its arrival.
        quality: Of its text.
        language: Of its text.
        lines: What its text is without, before it is judged.
    """

    arrival: str | None = None
    quality: QualityConfig = field(default_factory=QualityConfig)
    language: LanguageConfig = field(default_factory=LanguageConfig)
    lines: SourceLines | None = None


@dataclass(slots=True)
class _Read:
    """What a record says, before any rule of texts: one in normal form, or the reason why there is none."""

    doc_id: str | None
    source: str
    arrival: Moment
    metadata: dict[str, Any]
    given: Any
    normal: str
    reason: str | None
    detail: str | None


def source_of(raw: RawRecord, origin: Origin) -> str:
    """The source that the record names, else that of where it comes from."""
    return (string_of(raw.source) or "").strip() or origin.source


def readable_text(raw: RawRecord, origin: Origin, rules: Rules) -> str | None:
    """The normal form of the text of a record that only the rules could reject; None of any other."""
    read = _read(raw, origin, rules)
    return read.normal if read.reason is None else None


def judge(raw: RawRecord, origin: Origin, rules: Rules) -> Record:
    """The document in `raw`, normalised; or why there is none.

    A record without an id is known by its file and position.
    """
    read = _read(raw, origin, rules)
    reason, detail, normal = read.reason, read.detail, read.normal
    if reason is None:
        if rules.lines is not None:
            normal = rules.lines.without(normal, read.source)
        reason, detail = _text_fault(normal, rules)
        if reason is None:
            strings = strings_of(read.metadata)
            if rules.language.annotate:
                strings["language"] = language_of(normal, rules.language.min_confidence)
            digest = text_hash(normal)
            apart = _apart_from_text(read.source, tuple(sorted(strings.items())))
            version = text_hash(f'["{digest}", {apart}]')
            return Record(
                read.doc_id or "", read.source, read.arrival, normal, digest, version, len(normal), strings,
                origin.input, origin.file, raw.position,
            )  # fmt: skip
    excerpt = excerpt_of(read.given)
    doc_id = read.doc_id
    identity = doc_id if doc_id and doc_id.strip() else f"{origin.file}#{raw.position}"
    digest = text_hash(f"{reason}\0{excerpt}")
    return Record(
        identity, read.source, read.arrival, None, digest, digest, 0, None, origin.input, origin.file,
        raw.position, "curate", reason, detail, excerpt,
    )  # fmt: skip


def _read(raw: RawRecord, origin: Origin, rules: Rules) -> _Read:
    doc_id = string_of(raw.id)
    metadata = dict(raw.metadata or {})
    came, fault = moment(metadata.pop(rules.arrival, None) if rules.arrival else None)
    text, reason, detail = _text(raw.text, raw.fault)
    if reason is None and not (doc_id or "").strip():
        reason, detail = (
            "missing_id",
            "the record has no id" if raw.id is None else "the id is blank or not UTF-8",
        )
    if reason is None and fault:
        reason, detail = "bad_arrival", fault
    normal = ""
    if reason is None and isinstance(text, str):
        # Mending comes first: it needs the controls that the normal form is without.
        normal = normalise(mended(text) if rules.quality.fix_encoding else text)
        reason = "blank_text" if is_blank(normal) else None
    source = source_of(raw, origin)
    return _Read(doc_id, source, came or origin.arrival, metadata, text, normal, reason, detail)


@lru_cache(maxsize=1024)
def _apart_from_text(source: str, metadata: tuple[tuple[str, str | None], ...]) -> str:
    """What a version is made of beside the text, as JSON: the same for many documents, mostly."""
    return f"{json.dumps(source)}, {json.dumps(metadata)}"


def judge_fault(fault: FileFault, size: int, origin: Origin) -> Record:
    """The reject of a file of `size` bytes that could not be read to its end."""
    digest = text_hash(f"{fault.reason}\0{size}")
    return Record(
        origin.file, origin.source, origin.arrival, None, digest, digest, 0, None, origin.input, origin.file,
        0, "read", fault.reason, fault.detail, None,
    )  # fmt: skip


def to_batches(
    records: Iterator[Record], sign: Signer | None, batch_chars: int = 16 << 20
) -> Iterator[pa.RecordBatch]:
    """Arrow batches of the records: up to 1,000 rows, and ended by the record that passes `batch_chars`."""
    held: list[Record] = []
    chars = 0
    for record in records:
        held.append(record)
        chars += record.n_chars
        if chars >= batch_chars or len(held) >= 1000:
            yield _batch(held, sign)
            held, chars = [], 0
    if held:
        yield _batch(held, sign)


def _text_fault(text: str, rules: Rules) -> tuple[str, str | None] | tuple[None, None]:
    if is_blank(text):  # it was not, before the lines went that its source repeats
        return "boilerplate_only", None
    return quality_fault(text, rules.quality) or language_fault(text, rules.language) or (None, None)


def _text(text: Any, fault: tuple[str, str] | None) -> tuple[Any, str | None, str | None]:
    """The text, decoded where it can be, with the reason and detail of what is wrong with it."""
    if fault:
        return text, *fault
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8")
        except UnicodeDecodeError as error:
            return text, "invalid_utf8", f"{error.reason} at byte {error.start}"
    if text is None:
        return text, "null_text", None
    if not isinstance(text, str):
        return text, "text_not_string", f"the text is of type {type(text).__name__}"
    if not encodes(text):
        return text, "invalid_utf8", "an unpaired surrogate"
    return (text, None, None) if text else (text, "empty_text", None)


def _batch(records: list[Record], sign: Signer | None) -> pa.RecordBatch:
    columns: list[pa.Array] = []
    for column in RECORD_SCHEMA:
        if column.name == "bands":
            columns.append(_bands(columns[RECORD_SCHEMA.get_field_index("text")], sign))
            continue
        values = [getattr(record, column.name) for record in records]
        if column.name == "metadata":
            values = [None if value is None else list(value.items()) for value in values]
        columns.append(pa.array(values, column.type))
    return pa.RecordBatch.from_arrays(columns, schema=RECORD_SCHEMA)


def _bands(texts: pa.Array, sign: Signer | None) -> pa.Array:
    if sign is None:
        return pa.nulls(len(texts), pa.list_(pa.int64()))
    # A reject has no text, and an empty one has no shingles.
    return sign(texts.fill_null("") if texts.null_count else texts)
