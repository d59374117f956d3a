"""What each worker of a run does: its share of every batch, and with the others one step."""
# ruff: noqa: N806  (tensor names carry their shape: loss_K)

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipelines.encoder.conf import TOKENIZER_FILE
from pipelines.errors import EmbedlakeError, TrainingError
from pipelines.lake import Lake, LakeConfig
from pipelines.redact import redact
from pipelines.train import feed
from pipelines.train.cached import contrastive_step
from pipelines.train.checkpoints import Checkpoints
from pipelines.train.config import Micro
from pipelines.train.head import fit_head
from pipelines.train.mlm import SequenceBatch, masked_lm_step, read_vocabulary
from pipelines.train.objective import Objective
from pipelines.train.pairs import PairBatch
from pipelines.train.prepared import Prepared
from pipelines.train.recipe import MlmRecipe, Recipe
from pipelines.train.start import load_embedder, load_masked_lm, starting_point
from pipelines.train.state import Position, packed, position_of, unpacked
from pipelines.train.tower import TransformerTower, parameter_groups
from pipelines.train.workers import Workers


@dataclass(frozen=True)
class WorkerJob:
    """What every worker is told.

    Attributes:
        lake: Where batches and checkpoints are.
        recipe: What to train.
        prepared: Its batches.
        micro: How a worker cuts its share.
        device: `cpu` or `cuda`.
        bfloat16: Whether the forward pass is.
        threads: CPU threads of a worker; None leaves them.
        gradient_checkpointing: Whether layers are computed again backwards.
        checkpoint_steps: From one checkpoint to the next.
        keep_checkpoints: How many stay.
    """

    lake: LakeConfig
    recipe: Recipe
    prepared: Prepared
    micro: Micro
    device: str
    bfloat16: bool
    threads: int | None
    gradient_checkpointing: bool
    checkpoint_steps: int
    keep_checkpoints: int


@dataclass(frozen=True)
class StepReport:
    """One step, as the first worker tells it.

    Attributes:
        step: From 0.
        unit: The batch's source, or `source/cluster`.
        losses: At each dimension, of the whole batch; one for `mlm`.
        gradient_norm: Before it is clipped.
        rate: Learning rate.
        tokens: That all workers read.
        seconds: Of the step.
        held_out: Loss of what is not trained on, after the step; None where it was not looked at.
    """

    step: int
    unit: str
    losses: tuple[float, ...]
    gradient_norm: float
    rate: float
    tokens: int
    seconds: float
    held_out: float | None = None


Tell = Callable[[StepReport], None]


class Trainer:
    """A worker's model and optimiser, and the steps that change them."""

    def __init__(self, job: WorkerJob, workers: Workers, device: torch.device) -> None:
        self.job, self.workers = job, workers
        recipe = job.recipe
        start = starting_point(recipe)
        self.model: nn.Module
        head: nn.Linear | None = None
        if isinstance(recipe, MlmRecipe):
            self.model = load_masked_lm(recipe, start, device)
            encoder: Any = self.model.nomic_bert
            self._vocabulary = read_vocabulary(start.tokenizer_folder / TOKENIZER_FILE)
        else:
            self.model = embedder = load_embedder(recipe, start, device)
            encoder, head = embedder.encoder, embedder.head
            layer_norm = start.conf.layer_norm if recipe.layer_norm is None else recipe.layer_norm
            self._objective = Objective(recipe.objective, start.conf.dimension, layer_norm)
        if job.gradient_checkpointing:
            encoder.gradient_checkpointing_enable()
        self.tower = TransformerTower(encoder, device, job.bfloat16, head)
        optimiser = recipe.optimiser
        own = None if isinstance(recipe, MlmRecipe) else recipe.head
        share = own.peak / optimiser.peak if own else 1.0
        self.optimiser = torch.optim.AdamW(
            parameter_groups(self.model, optimiser.weight_decay, share),
            lr=optimiser.peak,
            betas=optimiser.betas,
            eps=optimiser.eps,
        )
        self.step = 0

    def resume(self, data: bytes) -> None:
        """Goes on from a checkpoint."""
        unpacked(data, self.model, self.optimiser)
        self.step = position_of(data).step

    def fit_head(self) -> None:
        """Has the first worker fit the head, if the recipe says so, and gives it to all."""
        recipe, prepared = self.job.recipe, self.job.prepared
        if isinstance(recipe, MlmRecipe) or recipe.head is None or not recipe.head.fit_steps:
            return
        head = self.tower.head
        assert head is not None  # the recipe has one
        if self.workers.rank == 0:
            everything = feed.Share(0, 1, prepared.batch, prepared.shards)

            def read() -> Iterator[PairBatch]:
                steps = range(prepared.steps)
                return map(feed.pairs, feed.step_rows(self.job.lake, prepared.data, everything, steps))

            fit_head(head, read, self._objective, recipe.head)
        else:
            head.weight.data.zero_()
        self.workers.sum_([head.weight.data])

    def checkpoint(self) -> bytes:
        """The state after the steps done."""
        return packed(
            self.model,
            self.optimiser,
            Position(self.step, self.job.recipe.fingerprint(), self.job.prepared.data),
        )

    def train(self, rows: Any) -> StepReport:
        """One step.

        Args:
            rows: This worker's share of the batch; see `pipelines.train.feed`.

        Raises:
            TrainingError: The loss or the gradient is no number; the weights are as they were.
        """
        began, recipe, job = time.monotonic(), self.job.recipe, self.job
        rate = recipe.optimiser.rate(self.step, job.prepared.steps)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["share"]
        unit = rows.column("unit")[0].as_py()
        if isinstance(recipe, MlmRecipe):
            sequences = feed.sequences(rows)
            tokens = sequences.tokens
            loss_K = self._masked(sequences, recipe.mask)
        else:
            batch = feed.pairs(rows)
            tokens = batch.tokens
            seed = recipe.seed * 2**32 + self.step
            loss_K = contrastive_step(self.tower, batch, self._objective, self.workers, job.micro, seed)
        trained = [p for group in self.optimiser.param_groups for p in group["params"]]
        for parameter in trained:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        told = torch.cat((loss_K, loss_K.new_tensor([float(tokens)]))).to(self.tower.device)
        self.workers.sum_([told, *(_grad(parameter) for parameter in trained)])
        norm = float(nn.utils.clip_grad_norm_(trained, recipe.optimiser.clip or float("inf")))
        *losses, all_tokens = told.tolist()
        if not torch.isfinite(told).all() or not isfinite(norm):
            raise TrainingError(
                f"step {self.step} of '{recipe.name}', a batch of {unit}, has a loss of {sum(losses)} and a "
                f"gradient of norm {norm}",
                "The last good checkpoint is kept. Look at the batch's texts, or lower optimiser.peak",
            )
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        report = StepReport(
            self.step, unit, tuple(losses), norm, rate, int(all_tokens), time.monotonic() - began
        )
        self.step += 1
        return report

    def held_out_loss(self) -> float | None:
        """Of the sequences that are not trained on, the same at every step; None where there are none."""
        recipe, prepared = self.job.recipe, self.job.prepared
        if not isinstance(recipe, MlmRecipe) or not recipe.held_out:
            return None
        share = feed.Share(self.workers.rank, self.workers.size, prepared.batch, prepared.shards)
        steps = range(prepared.steps, prepared.steps + recipe.held_out)
        total = torch.zeros(1)
        for rows in feed.step_rows(self.job.lake, prepared.data, share, steps):
            with torch.no_grad():
                total += self._masked(feed.sequences(rows), recipe.eval_mask)
        total = total.to(self.tower.device)
        self.workers.sum_([total])
        return float(total) / recipe.held_out

    def _masked(self, sequences: SequenceBatch, share: float) -> Tensor:
        return masked_lm_step(
            self.model,
            self.tower,
            sequences,
            share,
            self._vocabulary,
            self.workers,
            self.job.micro.batch_tokens,
            self.job.recipe.seed,
        )


def run_worker(job: WorkerJob, workers: Workers, device: torch.device, tell: Tell) -> None:
    """Trains from the newest checkpoint to the end, and leaves a checkpoint of that.

    Killed anywhere, it goes on from the last checkpoint as if it had not been: every draw follows from the
    recipe's seed and the step.

    Args:
        job: What to do.
        workers: All of them.
        device: Of this one.
        tell: Called by the first worker after each step.

    Raises:
        TrainingError: See `Trainer.train`.
    """
    trainer = Trainer(job, workers, device)
    checkpoints = Checkpoints(Lake.open(job.lake), job.recipe.name)
    newest = checkpoints.newest()
    if newest is not None:
        trainer.resume(newest)
    else:
        trainer.fit_head()
    prepared = job.prepared
    share = feed.Share(workers.rank, workers.size, prepared.batch, prepared.shards)
    for rows in feed.step_rows(job.lake, prepared.data, share, range(trainer.step, prepared.steps)):
        report = trainer.train(rows)
        stop = trainer.step % job.checkpoint_steps == 0 or trainer.step == prepared.steps
        if stop:
            report = replace(report, held_out=trainer.held_out_loss())
        if workers.rank:
            continue
        tell(report)
        if stop:
            checkpoints.save(trainer.step, trainer.checkpoint(), job.keep_checkpoints)
    if trainer.step != prepared.steps:
        raise TrainingError(
            f"the batches of '{job.recipe.name}' end at step {trainer.step} of {prepared.steps}",
            "The table 'batches' was changed meanwhile: run again",
        )


def _grad(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None  # zeros where nothing came
    return parameter.grad


def ray_worker(given: dict[str, Any]) -> None:
    """`run_worker` as Ray Train calls it; what a user can mend is told, and not tried again."""
    import ray
    import ray.train.torch

    job, board = given["job"], given["board"]
    # Ray Train gives workers a folder of their own; a lake or model may be named by a relative path.
    if Path(given["folder"]).is_dir():
        os.chdir(given["folder"])
    context = ray.train.get_context()
    workers = Workers(context.get_world_rank(), context.get_world_size())
    if job.threads is not None:
        torch.set_num_threads(job.threads)
    device = torch.device("cpu")
    if job.device == "cuda":
        device = ray.train.torch.get_device()

    def tell(report: StepReport) -> None:
        board.report.remote(report)

    try:
        run_worker(job, workers, device, tell)
    except EmbedlakeError as error:
        ray.get(board.fail.remote(error))
    except Exception as error:
        ray.get(board.complain.remote(_root(error)))
        raise
    ray.get(board.done.remote())


def _root(error: BaseException) -> str:
    """What an error began with, in one line."""
    while (cause := getattr(error, "cause", None) or error.__cause__) is not None:
        error = cause
    lines = [line for line in str(error).splitlines() if line.strip()]
    return redact(f"{type(error).__name__}: {lines[-1].strip() if lines else ''}")[:300]
