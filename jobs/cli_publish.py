"""The command `embedlake publish`; `jobs.cli` registers it."""

from typing import TYPE_CHECKING, Annotated

import typer

from jobs.guard import guarded
from jobs.options import AsJson, Model
from pipelines.errors import ConfigError

if TYPE_CHECKING:
    from jobs.cli import Job


def publish(
    context: typer.Context,
    table: Annotated[
        str | None, typer.Option(help="The serving table; by model, dimension and type if not given.")
    ] = None,
    dim: Annotated[
        int | None, typer.Option(min=1, help="Dimension of its vectors; the model's full one if not given.")
    ] = None,
    type: Annotated[str | None, typer.Option(help="float32, float16, int8 (usual) or binary.")] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option("--column", help="Column of chunks to copy: text, metadata, metadata.KEY, … Repeat it."),
    ] = None,
    partition_by: Annotated[
        list[str] | None,
        typer.Option("--partition-by", help="A column, bucket(column, N) or truncate(column, N). Repeat it."),
    ] = None,
    sort_by: Annotated[
        list[str] | None, typer.Option("--sort-by", help="Column to sort files by (doc_id). Repeat it.")
    ] = None,
    rotate: Annotated[
        bool | None,
        typer.Option("--rotate/--no-rotate", help="Rotate to the corpus before slicing.", show_default=False),
    ] = None,
    release: Annotated[str | None, typer.Option(help="Name what is published, by an Iceberg tag.")] = None,
    rollback: Annotated[
        str | None, typer.Option(help="Make this release or snapshot the table again; publishes nothing.")
    ] = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Publish every row again.")] = False,
    refit: Annotated[bool, typer.Option("--refit", help="Fit the rotation again, and publish all.")] = False,
    model: Model = None,
    as_json: AsJson = False,
) -> None:
    """Bring a serving table up to the embeddings: new, replaced and deleted chunks, in one commit."""
    from jobs.publish import roll_back_to, run

    job: Job = context.obj
    with guarded(job.debug):
        settings = job.settings(
            model=model,
            publish__table=table,
            publish__dim=dim,
            publish__type=type,
            publish__columns=columns or None,
            publish__partition_by=partition_by or None,
            publish__sort_by=sort_by or None,
            publish__rotate=rotate,
        )
        with guarded(job.debug, settings.lake):
            if rollback is not None:
                if release or rebuild or refit:
                    raise ConfigError(
                        "--rollback publishes nothing", "Leave out --release, --rebuild, --refit"
                    )
                roll_back_to(settings, rollback, as_json)
            else:
                run(settings, release, rebuild, refit, as_json)
