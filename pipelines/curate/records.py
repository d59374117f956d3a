"""Judges raw records one by one: each becomes a document in normal form, or a reject with its reason."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipelines.curate.discover import InputFile
from pipelines.curate.normalise import is_blank, normalise, text_hash
from pipelines.curate.readers import FileFault, RawRecord

_EXCERPT_CHARS = 200

# The Arrow and the Spark form of a judged record; `reason` is null where it is a document.
RECORD_SCHEMA = pa.schema(
    [
        pa.field("doc_id", pa.string()),
        pa.field("source", pa.string()),
        pa.field("text", pa.string()),
        pa.field("text_hash", pa.string()),
        pa.field("n_chars", pa.int32()),
        pa.field("metadata", pa.map_(pa.string(), pa.string())),
        pa.field("file", pa.string()),
        pa.field("position", pa.int64()),
        pa.field("stage", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("detail", pa.string()),
        pa.field("excerpt", pa.string()),
    ]
)
RECORD_DDL = (
    "doc_id string, source string, text string, text_hash string, n_chars int, metadata map<string,string>, "
    "file string, position bigint, stage string, reason string, detail string, excerpt string"
)


@dataclass(frozen=True)
class Record:
    """A judged record; the fields are the columns of `RECORD_SCHEMA`."""

    doc_id: str
    source: str
    text: str | None
    text_hash: str
    n_chars: int
    metadata: dict[str, str | None] | None
    file: str
    position: int
    stage: str = "curate"
    reason: str | None = None
    detail: str | None = None
    excerpt: str | None = None


def judge(raw: RawRecord, file: str, default_source: str) -> Record:
    """The document in `raw`, normalised; or why there is none.

    A record without an id is known by its file and position.
    """
    doc_id = _string(raw.id)
    source = (_string(raw.source) or "").strip() or default_source
    text = raw.text
    reason, detail = raw.fault or (None, None)
    if reason is None and not (doc_id or "").strip():
        reason, detail = (
            "missing_id",
            "the record has no id" if raw.id is None else "the id is blank or not UTF-8",
        )
    if reason is None and isinstance(text, bytes):
        try:
            text = text.decode("utf-8")
        except UnicodeDecodeError as error:
            reason, detail = "invalid_utf8", f"{error.reason} at byte {error.start}"
    if reason is None:
        if text is None:
            reason = "null_text"
        elif not isinstance(text, str):
            reason, detail = "text_not_string", f"the text is of type {type(text).__name__}"
        elif not _encodes(text):
            reason, detail = "invalid_utf8", "an unpaired surrogate"
        elif not text:
            reason = "empty_text"
        else:
            normal = normalise(text)
            if normal and not is_blank(normal):
                metadata = _strings(raw.metadata)
                digest = text_hash(normal)
                return Record(doc_id or "", source, normal, digest, len(normal), metadata, file, raw.position)
            reason = "blank_text"
    excerpt = _excerpt(text)
    identity = doc_id if doc_id and doc_id.strip() else f"{file}#{raw.position}"
    digest = text_hash(f"{reason}\0{excerpt}")
    return Record(
        identity, source, None, digest, 0, None, file, raw.position, "curate", reason, detail, excerpt
    )


def judge_fault(fault: FileFault, file: InputFile) -> Record:
    """The reject of a file that could not be read to its end."""
    return Record(
        file.uri, file.source, None, text_hash(f"{fault.reason}\0{file.size}"), 0, None, file.uri, 0, "read",
        fault.reason, fault.detail, None,
    )  # fmt: skip


def to_batches(records: Iterator[Record], batch_chars: int = 16 << 20) -> Iterator[pa.RecordBatch]:
    """Arrow batches of the records: up to 1,000 rows, and ended by the record that passes `batch_chars`."""
    held: list[Record] = []
    chars = 0
    for record in records:
        held.append(record)
        chars += record.n_chars
        if chars >= batch_chars or len(held) >= 1000:
            yield _batch(held)
            held, chars = [], 0
    if held:
        yield _batch(held)


def _batch(records: list[Record]) -> pa.RecordBatch:
    columns = []
    for field in RECORD_SCHEMA:
        values = [getattr(record, field.name) for record in records]
        if field.name == "metadata":
            values = [None if value is None else list(value.items()) for value in values]
        columns.append(pa.array(values, field.type))
    return pa.RecordBatch.from_arrays(columns, schema=RECORD_SCHEMA)


def _string(value: Any) -> str | None:
    """A key as a string; None where it is null, or bytes that are not UTF-8."""
    if value is None or (isinstance(value, float) and value != value):
        return None
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return None
    text = value if isinstance(value, str) else str(value)
    return text if _encodes(text) else None


def _encodes(text: str) -> bool:
    """Whether `text` has a UTF-8 form: JSON can spell an unpaired surrogate, which has none."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _strings(metadata: dict[str, Any] | None) -> dict[str, str | None]:
    return {name: _metadata_value(value) for name, value in (metadata or {}).items()}


def _metadata_value(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return None if value is None else value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, bool | int | float):
        return str(value)
    return json.dumps(value, ensure_ascii=False, default=str).encode("utf-8", "replace").decode("utf-8")


def _excerpt(text: Any) -> str | None:
    if text is None:
        return None
    shown = text[: 4 * _EXCERPT_CHARS].decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
    return normalise(shown[: 2 * _EXCERPT_CHARS].encode("utf-8", "replace").decode("utf-8"))[:_EXCERPT_CHARS]
