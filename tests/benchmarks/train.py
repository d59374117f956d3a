"""Training: tokens a second, beside sentence-transformers' trainer with the same model, batches and cores.

Both make the same steps: batches of pairs of docstrings, contrast at five dimensions, gradients cached. Each
is a process of its own, turns alternate, the fastest of each counts. The first step of a turn is not timed.
"""

import argparse
import json
import os
import subprocess
import sys
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from pipelines.config import parse
from pipelines.encoder.conf import load_model_conf, model_folder
from pipelines.encoder.fingerprint import multiplies_bfloat16
from pipelines.encoder.tokenizer import Tokenizer
from pipelines.lake import LakeConfig
from pipelines.train.config import TrainConfig
from pipelines.train.prepared import Prepared
from pipelines.train.recipe import ContrastiveRecipe
from pipelines.train.worker import Trainer, WorkerJob
from pipelines.train.workers import Workers
from tests.benchmarks.peer import accelerate_folder
from tests.benchmarks.small.texts import docstring_pairs

_BATCH, _STEPS, _TOKENS, _TURNS = 256, 4, 64, 2
_DIMS = (384, 256, 128, 64, 32)
_PEER_MINI_BATCHES = (32, 64, 128)
_TEMPERATURE = 0.05


def main() -> None:
    """Prints the rows of `python -m tests.benchmarks`; with `--only`, the seconds of one of the two."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only")
    only = parser.parse_args().only
    if only:
        kind, _, size = only.partition("-")
        seconds = _ours() if kind == "ours" else _theirs(int(size))
        print(json.dumps(seconds))  # noqa: T201
        return
    kinds = ["ours", *(f"theirs-{size}" for size in _PEER_MINI_BATCHES)]
    best = dict.fromkeys(kinds, float("inf"))
    for _ in range(_TURNS):
        for kind in kinds:
            best[kind] = min(best[kind], _turn(kind))
    tokens = sum(len(row) for batch in _batches()[1:] for side in _ids(batch) for row in side)
    ours, theirs = best["ours"], min(seconds for kind, seconds in best.items() if kind != "ours")
    peers = ", ".join(f"{kind.partition('-')[2]}: {tokens / best[kind]:,.0f}" for kind in kinds[1:])
    what = f"{_STEPS - 1} steps of {_BATCH} pairs, {tokens:,} tokens, dimensions {_DIMS}, {_cores()} threads"
    rows = [
        {
            "what": f"MiniLM, {what}, {'bfloat16' if _bfloat16() else 'float32'}",
            "figure": f"{tokens / ours:,.0f} tokens/s",
            "beside": "sentence-transformers' trainer, CachedMultipleNegativesRankingLoss in MatryoshkaLoss, "
            f"by mini-batch {peers} tokens/s ({theirs / ours:.2f}x, wanted 1.3x)",
        }
    ]
    print(json.dumps(rows))  # noqa: T201


def _turn(kind: str) -> float:
    command = [sys.executable, "-m", "tests.benchmarks.train", "--only", kind]
    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(accelerate_folder())]))
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return float(done.stdout.strip().splitlines()[-1])


def _batches() -> list[list[tuple[str, str]]]:
    pairs = [(pair.query, pair.document) for pair in islice(docstring_pairs(), 20_000)]
    order = np.random.default_rng(0).permutation(len(pairs))[: _STEPS * _BATCH]
    return [[pairs[i] for i in order[step * _BATCH : (step + 1) * _BATCH]] for step in range(_STEPS)]


def _ids(batch: list[tuple[str, str]]) -> tuple[list[Any], list[Any]]:
    tokenizer = Tokenizer.load(load_model_conf("minilm"))
    return (
        tokenizer.model_inputs([query for query, _ in batch], "", _TOKENS),
        tokenizer.model_inputs([document for _, document in batch], "", _TOKENS),
    )


def _ours() -> float:
    """Seconds of the timed steps, tokenising included: the product does it once, before the run."""
    torch.set_num_threads(_cores())
    recipe = parse(
        ContrastiveRecipe,
        {
            "name": "bench",
            "stage": "finetune",
            "start": "minilm",
            "batch": _BATCH,
            "max_tokens": _TOKENS,
            "sources": [{"name": "docstring"}],
            "objective": {"temperature": _TEMPERATURE, "dimensions": _DIMS},
            "optimiser": {"peak": 1e-5, "warmup_steps": 1},
        },
        "the benchmark",
    )
    config = TrainConfig()
    job = WorkerJob(
        lake=LakeConfig(dir=Path("unused")),
        recipe=recipe,
        prepared=Prepared("bench", _STEPS, _BATCH, 1),
        micro=config.micro("cpu"),
        device="cpu",
        bfloat16=_bfloat16(),
        threads=None,
        gradient_checkpointing=False,
        checkpoint_steps=1000,
        keep_checkpoints=1,
    )
    trainer = Trainer(job, Workers(), torch.device("cpu"))
    batches, began = _batches(), 0.0
    for step, batch in enumerate(batches):
        if step == 1:
            began = perf_counter()
        trainer.train(_rows(step, batch))
    return perf_counter() - began


def _rows(step: int, batch: list[tuple[str, str]]) -> pa.Table:
    rows = []
    for slot, (query, document) in enumerate(zip(*_ids(batch), strict=True)):
        code = step * _BATCH + slot
        rows.append(
            {
                "step": step,
                "slot": slot,
                "unit": "docstring",
                "input_ids": np.concatenate((query, document)),
                "lengths": [len(query), len(document)],
                "hashes": [2 * code, 2 * code + 1],
                "guide": None,
            }
        )
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    typed = {
        "input_ids": pa.array(columns["input_ids"], pa.list_(pa.int32())),
        "lengths": pa.array(columns["lengths"], pa.list_(pa.int32())),
        "guide": pa.nulls(len(rows), pa.list_(pa.float32())),
    }
    return pa.table({**columns, **typed})


def _theirs(mini_batch: int) -> float:
    """Seconds of the timed steps of their trainer: tokenising is in its collator."""
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
    from sentence_transformers.losses import CachedMultipleNegativesRankingLoss, MatryoshkaLoss
    from sentence_transformers.training_args import SentenceTransformerTrainingArguments
    from transformers import TrainerCallback

    torch.set_num_threads(_cores())
    model = SentenceTransformer(
        str(model_folder(load_model_conf("minilm"))), device="cpu", local_files_only=True
    )
    model.max_seq_length = _TOKENS
    pairs = [pair for batch in _batches() for pair in batch]
    data = Dataset.from_dict(
        {"anchor": [query for query, _ in pairs], "positive": [text for _, text in pairs]}
    )
    inner = CachedMultipleNegativesRankingLoss(model, scale=1 / _TEMPERATURE, mini_batch_size=mini_batch)
    loss = MatryoshkaLoss(model, inner, matryoshka_dims=list(_DIMS))
    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(perf_counter())

    with TemporaryDirectory() as out:
        arguments = SentenceTransformerTrainingArguments(
            output_dir=out,
            per_device_train_batch_size=_BATCH,
            num_train_epochs=1,
            use_cpu=True,
            bf16=_bfloat16(),
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            learning_rate=1e-5,
        )
        trainer = SentenceTransformerTrainer(
            model=model, args=arguments, train_dataset=data, loss=loss, callbacks=[Clock()]
        )
        trainer.train()
    return ends[-1] - ends[0]


def _bfloat16() -> bool:
    return multiplies_bfloat16(Path("/proc/cpuinfo").read_text(encoding="utf-8"))


def _cores() -> int:
    return len(os.sched_getaffinity(0))


if __name__ == "__main__":
    main()
