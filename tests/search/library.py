"""A small lake with whole documents, cut by the real chunker, for those who read what they have found."""

from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

from pipelines.curate.chunk import chunk_document
from pipelines.curate.config import ChunkConfig
from pipelines.encoder.model import Encoder
from pipelines.lake import Lake, LakeConfig
from pipelines.lake.commit import append_files
from pipelines.lake.config import SparkConfig
from pipelines.lake.datafiles import write_data_file
from pipelines.publish.config import PublishConfig
from pipelines.publish.report import Request
from pipelines.publish.run import publish
from tests.chunks import sentence
from tests.embed.inline import embed_inline
from tests.faults.changes import _by_partition
from tests.lake.samples import typed

SERVING, RELEASE = "serving_minilm_128_int8", "spring"

# Each summit is one code point and two units of UTF-16: offsets differ from those that a browser counts.
ALPS = (
    "🏔🏔🏔 The huts of the high valley are closed from October until the snow has melted in late May.\n\n"
    "🏔🏔🏔 A marmot whistles when an eagle circles over its burrow, and the whole colony runs to hide.\n\n"
    "🏔🏔🏔 Glaciers carve bowls into granite, which fill with cold blue water after the ice has gone.\n\n"
    "🏔🏔🏔 The last cable car goes down at five, and whoever misses it walks for three hours.\n"
)
MARKUP = (
    "How to write a web page: put <b>bold</b> words in tags, "
    "<script>document.title = 'owned'</script> runs a script, and "
    "<img src=x onerror=\"document.title = 'owned'\"> loads an image.\n"
)
_TEXTS = {
    ("nature", "alps"): (ALPS, {"title": "Notes on the Alps", "lang": "en"}),
    ("web", "markup"): (MARKUP, {"title": "<i>Markup</i>", "lang": "en"}),
    **{
        (("notes", "manual")[number % 2], f"doc-{number:02d}"): (
            f"{sentence(2 * number)}\n\n{sentence(2 * number + 1)}\n",
            {"title": f"Note {number}", "lang": "nl" if number % 3 else "en"},
        )
        for number in range(10)
    },
}


def made_library(config: LakeConfig, encoder: Encoder) -> Lake:
    """Writes, embeds and publishes it. Beside the documents there is one of which no text is kept."""
    lake = Lake.open(config)
    lake.ensure_tables()
    lake.bind_tokenizer(encoder.tokenizer.fingerprint)
    documents, chunks = [], []
    for (source, doc_id), (text, metadata) in _TEXTS.items():
        documents.append(_document(source, doc_id, text, list(metadata.items())))
        chunks += _chunks(encoder, documents[-1])
    documents.append(_document("nature", "empty", None, []))
    _append(lake, "documents", documents)
    _append(lake, "chunks", chunks)
    embed_inline(lake, encoder)
    serving = PublishConfig(dim=128, columns=("metadata.lang",))
    publish(lake, serving, SparkConfig(), Request(encoder.key, encoder.conf, RELEASE))
    return lake


def _append(lake: Lake, name: str, rows: list[dict[str, Any]]) -> None:
    table = lake.table(name)
    parts = _by_partition(table, typed(name, rows))
    append_files(table, [write_data_file(table, part, "test") for part in parts], {})


def _document(source: str, doc_id: str, text: str | None, metadata: list[tuple[str, str]]) -> dict[str, Any]:
    return {
        "doc_id": doc_id,
        "given_id": doc_id,
        "source": source,
        "arrival": datetime(2026, 5, 1, tzinfo=UTC),
        "text_hash": _hash(text or ""),
        "version": _hash(f"{source} {text}"),
        "n_chars": len(text or ""),
        "outcome": "kept" if text else "rejected",
        "stage": "curate",
        "reason": None if text else "empty_text",
        "input": "library",
        "file": "library/part.jsonl",
        "position": 0,
        "text": text,
        "metadata": metadata,
    }


def _chunks(encoder: Encoder, document: dict[str, Any]) -> list[dict[str, Any]]:
    text = document["text"]
    made = chunk_document(text, encoder.tokenizer, ChunkConfig(max_tokens=40), overhead=2)
    return [
        {
            "chunk_id": _hash(f"{document['doc_id']} {chunk.ordinal}"),
            "doc_id": document["doc_id"],
            "source": document["source"],
            "ordinal": chunk.ordinal,
            "text": text[chunk.char_start : chunk.char_end],
            "text_hash": _hash(text[chunk.char_start : chunk.char_end]),
            "char_start": chunk.char_start,
            "char_end": chunk.char_end,
            "input_ids": chunk.input_ids.tolist(),
            "n_tokens": len(chunk.input_ids),
            "metadata": document["metadata"],
        }
        for chunk in made
    ]


def _hash(text: str) -> str:
    return blake2b(text.encode(), digest_size=16).hexdigest()
