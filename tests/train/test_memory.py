"""Memory of the cached step: that of a micro-batch, whatever the batch."""

import subprocess
import sys

import pytest

_PROGRAM = """
import resource, sys
import numpy as np, torch
from transformers import NomicBertConfig, NomicBertModel
from pipelines.encoder.ragged import Ragged
from pipelines.train.cached import contrastive_step
from pipelines.train.config import Micro
from pipelines.train.objective import Objective
from pipelines.train.recipe import ObjectiveConfig
from pipelines.train.pairs import PairBatch
from pipelines.train.tower import TransformerTower
from pipelines.train.workers import Workers

count, keep = int(sys.argv[1]), int(sys.argv[2])
torch.set_num_threads(1)
torch.manual_seed(0)
config = NomicBertConfig(vocab_size=200, hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
                         intermediate_size=96)
tower = TransformerTower(NomicBertModel(config).train(), torch.device("cpu"), bfloat16=False)
rng = np.random.default_rng(0)
rows = lambda: Ragged.of([rng.integers(3, 200, 24) for _ in range(count)])
ids = np.arange(count, dtype=np.int64)
batch = PairBatch(0, "s", rows(), rows(), Ragged.of([]), ids, ids, ids[:0])
objective = Objective(ObjectiveConfig(dimensions=(64, 32, 16)), 64, True)
contrastive_step(tower, batch, objective, Workers(), Micro(4096, keep), seed=0)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def peak_mib(pairs: int, keep_tokens: int = 0) -> int:
    command = [sys.executable, "-c", _PROGRAM, str(pairs), str(keep_tokens)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_batch() -> None:
    small, large = peak_mib(256), peak_mib(4096)
    assert large <= 1.2 * small, f"{small} MiB with 256 pairs, {large} MiB with 4,096"
    assert peak_mib(4096, keep_tokens=10**9) > 1.5 * large, "this would not show what it is about"
