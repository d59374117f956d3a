"""A lake with batches, and runs of it."""

from pathlib import Path
from typing import Any

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pipelines.cluster.config import RayConfig
from pipelines.lake import Lake, LakeConfig
from pipelines.train.config import Micro, TrainConfig
from pipelines.train.recipe import Recipe
from pipelines.train.run import TrainReport, train
from pipelines.train.worker import StepReport, WorkerJob, run_worker
from pipelines.train.workers import Workers
from tests.told import Told
from tests.train.lakes import write_batches

HERE: dict[str, Any] = {
    "micro": Micro(200, 200),
    "device": "cpu",
    "bfloat16": False,
    "threads": None,
    "gradient_checkpointing": False,
    "checkpoint_steps": 5,
    "keep_checkpoints": 2,
}
SENTENCES = [
    "A small planet.",
    "Sort a table by several columns, descending",
    "heat transfer through a boundary layer at high speed, measured in a wind tunnel",
    "Zürich",
    "an empty list has no first element",
]


class Stopped(Exception):  # noqa: N818 - it stands for a kill
    """In place of a kill, in the middle of a run."""


class Place:
    """A lake with batches, and where runs of it write."""

    def __init__(self, folder: Path, steps: int, batch: int, texts: int, **layout: Any) -> None:
        self.folder = folder
        self.lake = Lake.open(LakeConfig(dir=folder / "lake"))
        self.prepared = write_batches(self.lake, steps, batch, texts, **layout)

    def train(self, recipe: Recipe, workers: int = 1, **config: Any) -> TrainReport:
        settings = TrainConfig(
            workers=workers,
            precision="float32",
            threads=1,
            out=self.folder / "models",
            logs=self.folder / "logs",
            **{"checkpoint_steps": 5, **config},
        )
        return train(self.lake, recipe, self.prepared, settings, RayConfig(), Told())

    def train_here(self, recipe: Recipe, stop_after: int | None = None, **config: Any) -> list[StepReport]:
        """One worker in this process, without Ray Train, and without a model at the end."""
        reports: list[StepReport] = []
        job = WorkerJob(
            lake=self.lake.config.model_copy(update={"dir": self.lake.config.root}),
            recipe=recipe,
            prepared=self.prepared,
            **{**HERE, **config},
        )

        def told(report: StepReport) -> None:
            reports.append(report)
            if len(reports) == stop_after:
                raise Stopped

        run_worker(job, Workers(), torch.device("cpu"), told)
        return reports

    def losses(self, name: str, tag: str = "train/loss") -> list[float]:
        events = EventAccumulator(str(self.folder / "logs" / name))
        events.Reload()
        return [event.value for event in events.Scalars(tag)]
