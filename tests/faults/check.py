"""What the tables must hold in the end, row for row."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.embed.plan.survey import survey
from pipelines.encoder.tokenizer import Tokenizer
from pipelines.lake import Lake
from tests.faults.changes import TABLES, files_of
from tests.faults.model import poison_ids, vector_of

_EXAMPLES = 3


def wrong(lake: Lake, model: str, tokenizer: Tokenizer, max_tokens: int) -> list[str]:
    """What is lost, doubled, stale or false; nothing where each chunk has its one row.

    Args:
        lake: Whose run has ended.
        model: The model's key.
        tokenizer: Its tokenizer.
        max_tokens: What it reads at most.
    """
    columns = ("chunk_id", "input_ids", "source", "doc_id", "text_hash")
    chunks = {row["chunk_id"]: row for row in _rows(lake, "chunks", columns)}
    inputs = {id: tokenizer.model_input(row["input_ids"], "") for id, row in chunks.items()}
    poison = {
        id for id, ids_L in inputs.items() if _is_poison(ids_L, poison_ids(tokenizer), tokenizer, max_tokens)
    }
    embedded = _rows(lake, "embeddings", ("chunk_id", "model", "source", "doc_id", "text_hash", "embedding"))
    rejected = [
        row
        for row in _rows(lake, "rejects", ("key", "stage", "reason", "detail", "payload"))
        if row["stage"] == "embed"
    ]
    found = _compared("embedding", (row["chunk_id"] for row in embedded), set(chunks) - poison)
    found += _compared("reject", (json.loads(row["payload"])["chunk_id"] for row in rejected), poison)
    said = [
        f"{row['reason']}: {row['detail']}"
        for row in rejected
        if json.loads(row["payload"])["chunk_id"] not in poison
    ]
    found += _examples("reason of such a reject", said)
    found += _examples("embedding of another model", [r["chunk_id"] for r in embedded if r["model"] != model])
    keys = [row["key"] for row in rejected if not row["key"].startswith(f"{model}/")]
    found += _examples("reject of another model", keys)
    false, misplaced = [], []
    for row in embedded:
        chunk = chunks.get(row["chunk_id"])
        if chunk is None:
            continue
        if not np.array_equal(
            np.array(row["embedding"], dtype=np.float32), vector_of(inputs[row["chunk_id"]])
        ):
            false.append(row["chunk_id"])
        if any(row[name] != chunk[name] for name in ("source", "doc_id", "text_hash")):
            misplaced.append(row["chunk_id"])
    found += _examples("false vector", false) + _examples("false column beside a vector", misplaced)
    plan = survey(lake, model)
    if plan.pending_rows:
        found.append(f"the plan sees {plan.pending_rows} pending rows")
    if plan.stale:
        found.append(f"the plan sees stale rows: {sum(map(len, plan.stale.values()))}")
    if plan.doubled:
        found.append(f"the plan sees both: {sum(map(len, plan.doubled.values()))}")
    for name in TABLES:
        table = lake.table(name)
        absent = [path for path in files_of(table) if not table.io.new_input(path).exists()]
        found += _examples(f"file of {name} that is referred to and not there", absent)
    return found


def _rows(lake: Lake, name: str, columns: tuple[str, ...]) -> list[dict[str, Any]]:
    rows: pa.Table = lake.table(name).scan(selected_fields=columns).to_arrow()
    found: list[dict[str, Any]] = rows.to_pylist()
    return found


def _is_poison(
    ids_L: np.ndarray[tuple[int], np.dtype[np.int32]],  # noqa: N803 - the name carries its shape
    words: Mapping[str, int],
    tokenizer: Tokenizer,
    max_tokens: int,
) -> bool:
    known = bool(((ids_L >= 0) & (ids_L < tokenizer.vocab_size)).all())
    return not known or len(ids_L) > max_tokens or bool(np.isin(ids_L, list(words.values())).any())


def _compared(what: str, there: Iterable[str], wanted: set[str]) -> list[str]:
    counts = Counter(there)
    return [
        *_examples(f"{what} lost", wanted - set(counts)),
        *_examples(f"{what} doubled", [id for id, count in counts.items() if count > 1]),
        *_examples(f"{what} of a chunk that should have none", set(counts) - wanted),
    ]


def _examples(what: str, found: Iterable[str]) -> list[str]:
    ids = sorted(found)
    return [f"{len(ids)} x {what}, such as {', '.join(ids[:_EXAMPLES])}"] if ids else []
