"""The command `embedlake search`; `jobs.cli` registers it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.guard import guarded
from jobs.options import AsJson, Model
from pipelines.errors import ConfigError

if TYPE_CHECKING:
    from jobs.cli import Job


def search(
    context: typer.Context,
    query: Annotated[str | None, typer.Argument(help="What to look for.")] = None,
    k: Annotated[int, typer.Option("-k", "--top", min=1, help="How many chunks.")] = 10,
    dim: Annotated[
        int | None, typer.Option(min=1, help="Dimension to compare in; that of the vectors if not given.")
    ] = None,
    source: Annotated[str | None, typer.Option(help="Only this source.")] = None,
    where: Annotated[
        str | None, typer.Option(help="Only rows that match, such as \"lang = 'nl'\"; of a serving table.")
    ] = None,
    table: Annotated[str, typer.Option(help="A serving table, instead of the embeddings.")] = "embeddings",
    as_of: Annotated[
        str | None, typer.Option("--as-of", help="A release, or a snapshot's id; now if not given.")
    ] = None,
    funnel: Annotated[
        bool, typer.Option("--funnel", help="Shortlist by short vectors, compare only those in full.")
    ] = False,
    index: Annotated[
        bool, typer.Option("--index", help="By the indexes of 'embedlake index', where they are not old.")
    ] = False,
    queries: Annotated[
        Path | None, typer.Option(help="Queries of a file: a line each, or .jsonl with _id and text.")
    ] = None,
    model: Model = None,
    as_json: AsJson = False,
) -> None:
    """Find the chunks nearest to a query, exactly or by a funnel, now or as of a release."""
    from jobs.search import Asked, read_queries, run

    job: Job = context.obj
    with guarded(job.debug):
        if (query is None) == (queries is None):
            raise ConfigError("a search takes a query, or --queries FILE", "Give one of the two")
        asked = read_queries(queries) if queries else {"1": query or ""}
        settings = job.settings(model=model)
        with guarded(job.debug, settings.lake):
            wanted = Asked(asked, k, dim, source, where, table, as_of, funnel, index)
            run(settings, wanted, as_json, is_batch=queries is not None)


def index(
    context: typer.Context,
    table: Annotated[str, typer.Option(help="A serving table, instead of the embeddings.")] = "embeddings",
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Build those too that are not old.")] = False,
    model: Model = None,
    as_json: AsJson = False,
) -> None:
    """Build search indexes of a table's partitions: of those that have none, or changed since."""
    from jobs.search import build_index

    job: Job = context.obj
    with guarded(job.debug):
        settings = job.settings(model=model)
        with guarded(job.debug, settings.lake):
            build_index(settings, table, rebuild, as_json)
