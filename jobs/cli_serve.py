"""The command `embedlake serve`; `jobs.cli` registers it."""

from typing import TYPE_CHECKING, Annotated

import typer

from jobs.guard import guarded
from jobs.options import Model

if TYPE_CHECKING:
    from jobs.cli import Job


def serve(
    context: typer.Context,
    host: Annotated[
        str | None, typer.Option(help="Interface to listen on; 127.0.0.1 if not given: only this machine.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Its port; 8765 if not given.")] = None,
    model: Model = None,
) -> None:
    """Serve a page to search the lake in a browser, and the same as JSON for programs."""
    from jobs.serve import run

    job: Job = context.obj
    with guarded(job.debug):
        settings = job.settings(model=model, search__host=host, search__port=port)
        with guarded(job.debug, settings.lake):
            run(settings)
