"""`embedlake train`: its commands, their options, and nothing else."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.guard import guarded
from jobs.options import EPILOG, AsJson

if TYPE_CHECKING:
    from jobs.cli import Job
    from pipelines.train.recipe import Stage

train = typer.Typer(
    help="Train an embedder: masked language model, contrastive pretraining, Matryoshka finetuning.",
    no_args_is_help=True,
)

RecipeFile = Annotated[Path, typer.Option("--recipe", help="YAML; see conf/recipes.")]
Plan = Annotated[bool, typer.Option("--plan", help="Say what it would take, and run nothing.")]
Restart = Annotated[
    bool, typer.Option("--restart", help="Begin anew: checkpoints and batches of an earlier run are dropped.")
]
Teacher = Annotated[str | None, typer.Option(help="Who judges: a name in conf/models, or a YAML file.")]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Processes that share each batch; one per GPU if not given.")
]


def _add(stage: "Stage", what: str) -> None:
    @train.command(stage, help=what, epilog=EPILOG)
    def command(
        context: typer.Context,
        recipe: RecipeFile,
        plan: Plan = False,
        restart: Restart = False,
        workers: Workers = None,
        as_json: AsJson = False,
    ) -> None:
        _run(context, stage, recipe, plan, restart, workers, as_json)


_add("mlm", "Train a masked language model on the lake's chunks.")
_add("pretrain", "Train an embedder on weak pairs.")
_add("finetune", "Finetune an embedder on pairs with hard negatives, at several dimensions at once.")


def pairs(
    context: typer.Context,
    sources: Annotated[Path, typer.Option(help="YAML: which columns of which tables are pairs.")],
    as_json: AsJson = False,
) -> None:
    """Make weak pairs of two columns of tables, without duplicates and without evaluation queries."""
    from jobs.pairs import run

    job: Job = context.obj
    with guarded(job.debug):
        settings = job.settings()
        with guarded(job.debug, settings.lake):
            run(settings, sources, as_json)


def filter_(context: typer.Context, teacher: Teacher = None, as_json: AsJson = False) -> None:
    """Keep the pairs whose query finds its own document among those of its source."""
    from jobs.mine import run_filter

    job: Job = context.obj
    with guarded(job.debug):
        settings = job.settings(mine__teacher=teacher)
        with guarded(job.debug, settings.lake):
            run_filter(settings, as_json)


def mine(context: typer.Context, teacher: Teacher = None, as_json: AsJson = False) -> None:
    """Find hard negatives of the pairs that 'filter' has kept."""
    from jobs.mine import run_mine

    job: Job = context.obj
    with guarded(job.debug):
        settings = job.settings(mine__teacher=teacher)
        with guarded(job.debug, settings.lake):
            run_mine(settings, as_json)


def _run(
    context: typer.Context,
    stage: "Stage",
    recipe: Path,
    only_plan: bool,
    restart: bool,
    workers: int | None,
    as_json: bool,
) -> None:
    from jobs.train import plan, run

    job: Job = context.obj
    with guarded(job.debug):
        settings = job.settings(train__workers=workers)
        if only_plan:
            plan(settings, stage, recipe, as_json)
            return
        with guarded(job.debug, settings.lake):
            run(settings, stage, recipe, restart, as_json)
