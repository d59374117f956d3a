"""A training run in a process of its own, to be killed: `python -m tests.train.drive LAKE OUT WORKERS`."""

import sys
from pathlib import Path

from rich.console import Console

from jobs.console import ConsoleProgress
from pipelines.cluster.config import RayConfig
from pipelines.lake import Lake, LakeConfig
from pipelines.train.config import TrainConfig
from pipelines.train.prepared import Prepared
from pipelines.train.run import train
from tests.train.lakes import contrastive

STEPS = 40


def main(lake: str, out: str, workers: str) -> None:
    config = TrainConfig(
        workers=int(workers),
        precision="float32",
        threads=1,
        checkpoint_steps=4,
        out=Path(out),
        logs=Path(out) / "logs",
    )
    train(
        Lake.open(LakeConfig(dir=Path(lake))),
        contrastive(dropout=0.1),
        Prepared("d", STEPS, 16, 2),
        config,
        RayConfig(object_store_memory=100 * 2**20),
        ConsoleProgress(Console(stderr=True)),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
