"""Lakes with batches for small runs, and recipes for them."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.config import parse
from pipelines.lake import Lake
from pipelines.lake.commit import append_files
from pipelines.lake.datafiles import write_data_file
from pipelines.lake.training_tables import BATCHES
from pipelines.train.prepared import Prepared
from pipelines.train.recipe import ContrastiveRecipe, MlmRecipe

SMALL = {"layers": 2, "hidden": 32, "heads": 4, "inner": 48, "vocabulary": 30528, "positions": 64}


def contrastive(**changed: Any) -> ContrastiveRecipe:
    """A recipe for a tiny nomic_bert of random weights."""
    values = {
        "name": "tiny",
        "stage": "finetune",
        "architecture": SMALL,
        "tokenizer": "minilm",
        "batch": 16,
        "max_tokens": 24,
        "negatives": 2,
        "sources": [{"name": "s", "negatives": "mined"}],
        "objective": {"temperature": 0.05, "dimensions": [32, 16, 8]},
        "optimiser": {"peak": 1e-3, "schedule": "linear", "warmup_steps": 4},
    }
    return parse(ContrastiveRecipe, {**values, **changed}, "a test")


def masked_lm(**changed: Any) -> MlmRecipe:
    """A recipe for the same by masking."""
    values = {
        "name": "tiny-mlm",
        "stage": "mlm",
        "architecture": SMALL,
        "tokenizer": "minilm",
        "tokens": 24,
        "batch": 8,
        "steps": 12,
        "optimiser": {"peak": 1e-3, "warmup_steps": 2},
    }
    return parse(MlmRecipe, {**values, **changed}, "a test")


def write_batches(
    lake: Lake,
    steps: int,
    batch: int,
    texts: int,
    *,
    shards: int = 2,
    segment: int = 5,
    seed: int = 0,
    guide: int = 0,
) -> Prepared:
    """Random rows of `texts` texts each, of one length where it is 1; as the prepare step lays them out."""
    rng = np.random.default_rng(seed)
    lake.ensure_namespace()
    lake.create(BATCHES)
    table = lake.table(BATCHES.name)
    files = []
    for first in range(0, steps, segment):
        for shard in range(shards):
            rows = []
            for step in range(first, min(first + segment, steps)):
                for slot in range(shard * batch // shards, (shard + 1) * batch // shards):
                    topic = int(rng.integers(1000, 29000))
                    lengths = [24] if texts == 1 else rng.integers(4, 24, texts).tolist()
                    ids = [topic + int(x) for length in lengths for x in rng.integers(0, 50, length)]
                    rows.append(
                        {
                            "data": "d",
                            "segment": first // segment,
                            "shard": shard,
                            "step": step,
                            "slot": slot,
                            "unit": "s",
                            "input_ids": ids,
                            "lengths": lengths,
                            "hashes": [] if texts == 1 else rng.integers(0, 2**60, texts).tolist(),
                            "guide": rng.normal(size=texts * guide).tolist() if guide else None,
                        }
                    )
            order = rng.permutation(len(rows))
            shuffled = pa.Table.from_pylist([rows[i] for i in order])
            files.append(write_data_file(table, _typed(shuffled), "batches"))
    append_files(table, files, {})
    return Prepared("d", steps, batch, shards)


def _typed(rows: pa.Table) -> pa.Table:
    at, kind = rows.schema.get_field_index("guide"), pa.list_(pa.float32())
    column = rows.column("guide")
    typed = pa.nulls(len(rows), kind) if column.null_count else column.cast(kind)
    return rows.set_column(at, "guide", typed)


def weights(folder: Path) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    """Of an exported model."""
    from safetensors.numpy import load_file

    found: dict[str, np.ndarray[Any, np.dtype[np.float32]]] = load_file(folder / "model.safetensors")
    return found
