"""The train job."""

import json
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from jobs.console import ConsoleProgress
from jobs.mine import embedded
from jobs.settings import Settings
from pipelines.encoder.accelerators import ASSUMED_SHARE, accelerators
from pipelines.errors import ConfigError, ModelError
from pipelines.lake import Lake
from pipelines.lake.beside import Teacher
from pipelines.train.checkpoints import Checkpoints
from pipelines.train.pack import prepare_sequences
from pipelines.train.plan import TrainPlan, plan_training
from pipelines.train.prepare import prepare_pairs
from pipelines.train.prepared import forget
from pipelines.train.recipe import MlmRecipe, Recipe, Stage, load_recipe
from pipelines.train.run import check_recipe, train
from pipelines.train.start import model_sizes, starting_point
from pipelines.train.stock import Stock, stock


def plan(settings: Settings, stage: Stage, file: Path, as_json: bool) -> None:
    """Prints what a run of the recipe would take."""
    recipe = load_recipe(file, stage)
    workers = settings.train.workers or 1
    device = "cuda" if settings.train.device == "cuda" else "cpu"
    there = _stock(settings, recipe)
    found = plan_training(
        recipe,
        model_sizes(recipe),
        settings.train.micro(device),
        workers,
        accelerators(),
        there.pairs,
        there.mean_tokens,
    )
    if as_json:
        print(json.dumps(asdict(found)))  # noqa: T201 - for programs
    else:
        _print(found, workers, Console())


def run(settings: Settings, stage: Stage, file: Path, restart: bool, as_json: bool) -> None:
    """Prepares the recipe's batches, trains its model, and prints where it is."""
    recipe = load_recipe(file, stage)
    progress = ConsoleProgress(Console(stderr=True))
    lake = Lake.open(settings.lake)
    start = starting_point(recipe)
    if restart:
        Checkpoints(lake, recipe.name).delete()
        forget(lake, recipe.name)
    check_recipe(lake, recipe)
    if isinstance(recipe, MlmRecipe):
        prepared = prepare_sequences(lake, recipe, start, settings.spark, progress)
    else:

        def asked(model: str) -> Teacher:
            return embedded(lake, settings, model, progress)

        prepared = prepare_pairs(lake, recipe, start, settings.spark, progress, asked)
    report = train(lake, recipe, prepared, settings.train, settings.ray, progress)
    if as_json:
        print(json.dumps(asdict(report)))  # noqa: T201 - for programs
    else:
        loss = "" if report.loss is None else f", loss {report.loss:.4f} over the last steps"
        Console().print(
            f"{report.name}: {report.steps:,} steps, {report.resumed:,} of them before; "
            f"{report.tokens:,} tokens in {report.seconds:.0f} s, {report.tokens_per_second:,.0f} tokens/s"
            f"{loss}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )


def _stock(settings: Settings, recipe: Recipe) -> Stock:
    """What the lake has; a lake that has not been made yet has nothing."""
    root = settings.lake.root
    if isinstance(recipe, MlmRecipe) or (root is not None and not root.exists()):
        return Stock({}, {})
    try:
        tokenizer = starting_point(recipe).tokenizer
        return stock(Lake.open(settings.lake), recipe, tokenizer.overhead)
    except (ModelError, ConfigError):  # it is trained by a recipe before, and is not there yet
        return Stock({}, {})


def _print(plan: TrainPlan, workers: int, console: Console) -> None:
    table = Table(title=f"{plan.name}: {plan.stage}, recipe {plan.fingerprint}", title_justify="left")
    table.add_column("source", no_wrap=True)
    if plan.stage == "mlm":
        for source in plan.sources:
            table.add_row(source.name)
    else:
        for name in ("pairs", "batches"):
            table.add_column(name, justify="right")
        table.add_column("prefixes", overflow="fold")
        table.add_column("negatives")
        for source in plan.sources:
            prefixes = " → ".join(dict.fromkeys(source.prefixes)) or "none"
            counts = (_count(source.pairs), _count(source.batches))
            table.add_row(source.name, *counts, prefixes, source.negatives)
        table.add_section()
        table.add_row("all", _count(plan.pairs), _count(plan.steps), "", "")
    console.print(table)
    what = "sequences" if plan.stage == "mlm" else "pairs"
    bound = "" if plan.measured else " at most (every text as long as the recipe lets it be)"
    for line in (
        f"{_count(plan.pairs)} {what}, {plan.batch:,} a step: {_count(plan.steps)} steps",
        f"{_count(plan.tokens)} tokens{bound}",
        f"{plan.parameters:,} parameters; about {plan.worker_bytes / 2**30:.1f} GiB for each of {workers} "
        f"worker{'s' * (workers != 1)} (estimated)",
    ):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if not plan.hours:
        return
    hours = Table(title="accelerator-hours", title_justify="left")
    hours.add_column("accelerator", no_wrap=True)
    hours.add_column("hours" if plan.measured else "hours, at most", justify="right")
    hours.add_column("cost", justify="right")
    for row in plan.hours:
        cost = "" if row.cost is None else _rounded(row.cost)
        hours.add_row(row.accelerator, _rounded(row.hours), cost)
    console.print(hours)
    console.print(
        f"the model's FLOPs at {ASSUMED_SHARE:.0%} of peak, an assumption; prices: conf/accelerators.yaml",
        highlight=False,
        soft_wrap=True,
    )


def _rounded(number: float) -> str:
    """With one digit behind the point, or as many as tell a small number from nothing."""
    return f"{number:,.1f}" if number >= 1 else f"{number:.2g}"


def _count(number: int | None) -> str:
    return "what the lake has" if number is None else f"{number:,}"
