"""A training run as one call: workers by Ray Train, checkpoints in the lake, the model at the end."""

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.cluster.config import RayConfig
from pipelines.cluster.session import RaySession, load_ray
from pipelines.encoder.fingerprint import multiplies_bfloat16
from pipelines.errors import EmbedlakeError, EnvironmentFault, TrainingError
from pipelines.lake import Lake
from pipelines.lake.training_tables import CHECKPOINTS
from pipelines.progress import Progress, Step
from pipelines.train.board import Board, Scalars
from pipelines.train.checkpoints import Checkpoints
from pipelines.train.config import TrainConfig
from pipelines.train.export import export
from pipelines.train.prepared import Prepared
from pipelines.train.recipe import MlmRecipe, Recipe
from pipelines.train.start import starting_point
from pipelines.train.state import position_of
from pipelines.train.worker import StepReport, WorkerJob, ray_worker

_LOOK_SECONDS = 0.5


@dataclass(frozen=True)
class TrainReport:
    """What a run did.

    Attributes:
        name: Of the model.
        model: The model.yaml that it wrote.
        steps: Of the run.
        resumed: Steps that were done before.
        tokens: That the model read this time.
        seconds: This time.
        tokens_per_second: Over this time's steps.
        loss: Mean of the last steps, up to 50; None where none was left to do.
        held_out: Loss of what is not trained on, the last that was told.
    """

    name: str
    model: str
    steps: int
    resumed: int
    tokens: int
    seconds: float
    tokens_per_second: float
    loss: float | None
    held_out: float | None


def train(
    lake: Lake,
    recipe: Recipe,
    prepared: Prepared,
    config: TrainConfig,
    ray_config: RayConfig,
    progress: Progress,
) -> TrainReport:
    """Trains a recipe's model on its batches, from where an earlier run stopped, and writes it.

    Killed anywhere, driver or worker, and run again, the weights are those of a run that was not. Killed
    after the last step, only the model is written.

    Args:
        lake: With the batches; checkpoints go there.
        recipe: What to train.
        prepared: Its batches.
        config: On what.
        ray_config: The Ray that runs it.
        progress: Told of steps.

    Raises:
        TrainingError: The loss is no number, or the checkpoints are of another recipe or other batches.
        ModelError: The model that it begins with cannot be loaded.
        EnvironmentFault: Ray cannot be had, or workers died too often.
    """
    began = time.monotonic()
    start = starting_point(recipe)
    lake.ensure_namespace()
    lake.create(CHECKPOINTS)
    checkpoints = Checkpoints(lake, recipe.name)
    resumed = _position(checkpoints, recipe, prepared)
    told = _Told(progress, resumed, prepared.steps)
    if resumed < prepared.steps:
        names = _loss_names(recipe, start.conf.dimension)
        told.scalars = Scalars(config.logs / recipe.name, resumed, names)
        try:
            _run(lake, recipe, prepared, config, ray_config, told)
        finally:
            told.scalars.close()
    checkpoint = checkpoints.newest()
    if checkpoint is None or position_of(checkpoint).step != prepared.steps:
        raise TrainingError(f"the last checkpoint of '{recipe.name}' is gone", "Run again")
    model = export(recipe, start, checkpoint, config.out)
    progress.say(f"the model is in {model.parent}; use it with --model {model}")
    last = told.losses[-50:]
    return TrainReport(
        name=recipe.name,
        model=str(model),
        steps=prepared.steps,
        resumed=resumed,
        tokens=told.tokens,
        seconds=time.monotonic() - began,
        tokens_per_second=told.tokens / told.seconds if told.seconds else 0.0,
        loss=sum(last) / len(last) if last else None,
        held_out=told.held_out,
    )


def check_recipe(lake: Lake, recipe: Recipe) -> None:
    """Refuses a recipe whose name has checkpoints of another, before batches are made for it.

    Raises:
        TrainingError: It has.
    """
    newest = Checkpoints(lake, recipe.name).newest()
    if newest is not None:
        _check_same("another recipe", recipe.name, position_of(newest).recipe, recipe.fingerprint())


def _position(checkpoints: Checkpoints, recipe: Recipe, prepared: Prepared) -> int:
    """Steps that are done.

    Raises:
        TrainingError: By another recipe, or on other batches.
    """
    newest = checkpoints.newest()
    if newest is None:
        return 0
    position = position_of(newest)
    _check_same("another recipe", recipe.name, position.recipe, recipe.fingerprint())
    _check_same("other batches", recipe.name, position.data, prepared.data)
    return position.step


def _check_same(what: str, run: str, theirs: str, ours: str) -> None:
    if theirs != ours:
        raise TrainingError(
            f"the checkpoints of '{run}' are of {what} ({theirs}, now {ours})",
            "Give the recipe another name, or begin anew with --restart",
        )


def _loss_names(recipe: Recipe, dimension: int) -> tuple[str, ...]:
    if isinstance(recipe, MlmRecipe):
        return ("tokens",)
    return tuple(str(dim) for dim in recipe.objective.dimensions or (dimension,))


class _Told:
    """Sums of what the workers have told, and where it goes."""

    def __init__(self, progress: Progress, first_step: int, steps: int) -> None:
        self.progress, self.first_step, self.steps = progress, first_step, steps
        self.scalars: Scalars | None = None
        self.losses: list[float] = []
        self.held_out: float | None = None
        self.tokens, self.seconds = 0, 0.0

    def take(self, step: Step, reports: list[StepReport]) -> None:
        for report in reports:
            self.losses.append(sum(report.losses))
            self.held_out = self.held_out if report.held_out is None else report.held_out
            self.tokens += report.tokens
            self.seconds += report.seconds
            if self.scalars is not None:
                self.scalars.add(report)
            step.done(report.step + 1 - self.first_step, note(report))


def note(report: StepReport) -> str:
    """A step in one line."""
    parts = [f"loss {sum(report.losses):.4f}"]
    if len(report.losses) > 1:
        parts.append("(" + " ".join(f"{loss:.3f}" for loss in report.losses) + ")")
    rate = report.tokens / max(report.seconds, 1e-9)
    parts.append(
        f"gradient {report.gradient_norm:.2f}, rate {report.rate:.1e}, {rate:,.0f} tokens/s, {report.unit}"
    )
    if report.held_out is not None:
        parts.append(f"(held out {report.held_out:.4f})")
    return " ".join(parts)


def _run(
    lake: Lake,
    recipe: Recipe,
    prepared: Prepared,
    config: TrainConfig,
    ray_config: RayConfig,
    told: _Told,
) -> None:
    with RaySession(ray_config) as session:
        with told.progress.step("starting Ray", None, "seconds"):
            session.start()
        device = config.device if config.device != "auto" else ("cuda" if session.has_gpu() else "cpu")
        nodes = session.nodes()
        cpus, gpus = sum(node.cpus for node in nodes), sum(node.gpus for node in nodes)
        workers = config.workers or (max(1, int(gpus)) if device == "cuda" else 1)
        if device == "cuda" and gpus < workers:
            raise EnvironmentFault(
                f"{workers} workers need a GPU each, and the Ray cluster has {gpus:g}",
                "Lower train.workers, or set train.device to cpu",
            )
        job = WorkerJob(
            # What reads the batches is in a folder of its own too.
            lake=lake.config.model_copy(update={"dir": lake.config.root}),
            recipe=recipe,
            prepared=prepared,
            micro=config.micro(device),
            device=device,
            bfloat16=_bfloat16(config, device),
            threads=config.threads or (max(1, int(cpus) // workers) if device == "cpu" else None),
            gradient_checkpointing=config.gradient_checkpointing,
            checkpoint_steps=config.checkpoint_steps,
            keep_checkpoints=config.keep_checkpoints,
        )
        told.progress.say(
            f"training '{recipe.name}' ({recipe.stage}): steps {told.first_step:,} to {prepared.steps:,}, "
            f"{prepared.batch:,} rows each, {workers} worker{'s' * (workers != 1)} on {device}, "
            f"{'bfloat16' if job.bfloat16 else 'float32'}"
        )
        _fit(lake, job, workers, cpus, config.failures, told)


def _fit(lake: Lake, job: WorkerJob, workers: int, cpus: float, failures: int, told: _Told) -> None:
    ray = load_ray()
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    board = ray.remote(num_cpus=0)(Board).remote()
    # Half a CPU where they are few: what reads the batches must find a place too.
    share = min(1.0, cpus / workers / 2)
    resources = {"CPU": share} | ({"GPU": 1} if job.device == "cuda" else {})
    trainer = TorchTrainer(
        ray_worker,
        train_loop_config={"job": job, "board": board, "folder": str(Path.cwd())},
        torch_config=TorchConfig(backend="nccl" if job.device == "cuda" else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=workers, use_gpu=job.device == "cuda", resources_per_worker=resources
        ),
        run_config=RunConfig(
            name=f"embedlake-{job.recipe.name}",
            storage_path=_ray_storage(lake),
            failure_config=FailureConfig(max_failures=failures),
        ),
    )
    outcome: list[Any] = []
    thread = threading.Thread(target=_fitted, args=(trainer, outcome), daemon=True)
    thread.start()
    error: EmbedlakeError | None = None
    with told.progress.step("training", job.prepared.steps - told.first_step, "steps") as step:
        while thread.is_alive():
            thread.join(_LOOK_SECONDS)
            reports, error = ray.get(board.take.remote())
            told.take(step, reports)
    if error is not None:
        raise error
    if outcome:
        raise EnvironmentFault(
            f"the workers of '{job.recipe.name}' ended {failures + 1} times: "
            f"{ray.get(board.complaint.remote()) or _last_line(outcome[0])}",
            "What was checkpointed is kept: run again, with fewer train.batch_tokens if memory ran out",
        )


def _fitted(trainer: Any, outcome: list[Any]) -> None:
    try:
        trainer.fit()
    except BaseException as error:  # its own types, and SystemExit where Ray is ended under it
        outcome.append(error)


def _last_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else type(error).__name__


def _ray_storage(lake: Lake) -> str:
    """Where Ray Train keeps its own small files: beside a local lake; on a cluster, its default."""
    root = lake.config.root
    return str((root or Path.home()) / "ray_train")


def _bfloat16(config: TrainConfig, device: str) -> bool:
    if config.precision != "auto":
        return config.precision == "bfloat16"
    if device == "cuda":
        return True
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.is_file() and multiplies_bfloat16(cpuinfo.read_text(encoding="utf-8"))
