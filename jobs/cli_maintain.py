"""The command `embedlake maintain`; `jobs.cli` registers it."""

from typing import TYPE_CHECKING, Annotated

import typer

from jobs.guard import guarded

if TYPE_CHECKING:
    from jobs.cli import Job


def maintain(
    context: typer.Context,
    tables: Annotated[
        list[str] | None,
        typer.Option("--table", help="Only this table; may be repeated. All tables of the lake if none is."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Change nothing; say what would be done.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Join small files, fold deletes in, expire old snapshots and remove orphan files; beside running jobs.

    Exits with 3 where others' commits kept a step from being done: the next run does it.
    """
    from jobs.maintain import run

    job: Job = context.obj
    with guarded(job.debug):
        settings = job.settings()
        with guarded(job.debug, settings.lake):
            raise SystemExit(run(settings, tables or [], dry_run, as_json))
