"""The `embedlake` command. Each command parses its options and hands over to the job's module."""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from jobs.cli_evaluate import evaluate
from jobs.cli_maintain import maintain
from jobs.cli_publish import publish
from jobs.cli_search import index, search
from jobs.cli_serve import serve
from jobs.cli_train import filter_, mine, pairs, train
from jobs.guard import guarded
from jobs.options import EPILOG as _EPILOG
from jobs.options import AsJson, Model
from jobs.settings import Settings, load_settings

# option -> whether it takes a value
_GLOBAL = {"--profile": True, "--lake": True, "--set": True, "--debug": False}


class _GlobalsAnywhere(TyperGroup):
    """Lets the global options stand before or after the command's name."""

    # typer does not export the click that it carries, whose Context this is
    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]  # see above
        """Moves the global options to the front, where click expects them."""
        front: list[str] = []
        rest: list[str] = []
        words = iter(args)
        for word in words:
            name, equals, _ = word.partition("=")
            if word == "--":
                rest += [word, *words]
            elif name in _GLOBAL:
                front.append(word)
                if _GLOBAL[name] and not equals:
                    front += [value for value in [next(words, None)] if value is not None]
            else:
                rest.append(word)
        return super().parse_args(ctx, front + rest)


app = typer.Typer(
    cls=_GlobalsAnywhere,
    name="embedlake",
    help="From a corpus to versioned, searchable Matryoshka embeddings in an Iceberg lakehouse.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Job:
    """What the global options say; settings are loaded by the command, with its own options."""

    def __init__(self, profile: str, lake: Path | None, assignments: list[str], debug: bool) -> None:
        self.profile, self.lake, self.assignments, self.debug = profile, lake, assignments, debug

    def settings(self, **options: Any) -> Settings:
        """The settings, with the command's options by dotted name (`__` for the dot)."""
        named = {key.replace("__", "."): value for key, value in options.items()}
        return load_settings(self.profile, self.lake, self.assignments, options=named)


@app.callback()
def root(
    context: typer.Context,
    profile: Annotated[
        str,
        typer.Option(envvar="EMBEDLAKE_PROFILE", help="local, s3, cluster (conf/profiles), or a YAML file."),
    ] = "local",
    lake: Annotated[
        Path | None, typer.Option(envvar="EMBEDLAKE_LAKE", help="Folder of a local lake.", show_default=False)
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="A.B=C", help="A setting; may be repeated. EMBEDLAKE_A__B=C is the same."
        ),
    ] = None,
    debug: Annotated[
        bool, typer.Option(envvar="EMBEDLAKE_DEBUG", help="Print tracebacks and the libraries' logs.")
    ] = False,
) -> None:
    """Options that every command takes."""
    context.obj = Job(profile, lake, assignments or [], debug)


def main() -> None:
    """The entry point of the `embedlake` command."""
    app()


@app.command(epilog=_EPILOG)
def doctor(context: typer.Context, as_json: AsJson = False) -> None:
    """Check this machine and the lake; say how to mend what is missing."""
    from jobs.doctor import run

    job: Job = context.obj
    with guarded(job.debug):
        settings = job.settings()
        with guarded(job.debug, settings.lake):
            raise SystemExit(run(settings, Console(), as_json))


@app.command(epilog=_EPILOG)
def curate(
    context: typer.Context,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(help="Folders, files or s3:// URIs; Iceberg tables as iceberg:namespace.table."),
    ] = None,
    model: Model = None,
    format: Annotated[
        str | None,
        typer.Option(help="parquet, jsonl, csv, tsv, warc or text; by the files' endings if not given."),
    ] = None,
    id_column: Annotated[str | None, typer.Option(help="Column of the document's id (doc_id).")] = None,
    text_column: Annotated[str | None, typer.Option(help="Column of its text (text).")] = None,
    source_column: Annotated[str | None, typer.Option(help="Column of its source (source).")] = None,
    arrival_column: Annotated[
        str | None, typer.Option(help="Column of when it came (arrived_at); the run's time if there is none.")
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="Source of documents that name none (the input's name).")
    ] = None,
    deletes: Annotated[
        list[str] | None, typer.Option(help="File of ids to delete; one a line, or the id column.")
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="The input is all of its sources: what it lacks is deleted.")
    ] = False,
    allow_empty: Annotated[
        bool, typer.Option("--allow-empty", help="With --full: an empty input deletes all of its source.")
    ] = False,
    rebuild: Annotated[
        bool,
        typer.Option(
            "--rebuild", help="Judge and cut all documents of the lake anew, after settings changed."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Read a corpus, normalise, reject, deduplicate, chunk and tokenise it into the lake."""
    from jobs.curate import run
    from pipelines.curate.removals import Removals

    job: Job = context.obj
    with guarded(job.debug):
        settings = job.settings(
            model=model,
            curate__format=format,
            curate__columns__id=id_column,
            curate__columns__text=text_column,
            curate__columns__source=source_column,
            curate__columns__arrival=arrival_column,
            curate__source=source,
        )
        with guarded(job.debug, settings.lake):
            run(settings, inputs or [], Removals(tuple(deletes or ()), full, allow_empty), rebuild, as_json)


Limit = Annotated[int | None, typer.Option(min=1, help="No more than so many chunks.")]
OfSource = Annotated[str | None, typer.Option("--source", help="Only chunks of this source.")]
Since = Annotated[
    datetime | None,
    typer.Option(
        formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="Only chunks that were written after this time (UTC)."
    ),
]
Where = Annotated[
    str | None, typer.Option(help="Only chunks that match, such as \"n_tokens < 100 and source = 'wiki'\".")
]


@app.command(epilog=_EPILOG)
def plan(
    context: typer.Context,
    model: Model = None,
    limit: Limit = None,
    source: OfSource = None,
    since: Since = None,
    where: Where = None,
    as_json: AsJson = False,
) -> None:
    """Say what 'embed' would do, and how many hours and what cost that is on each accelerator."""
    from jobs.plan import run
    from pipelines.embed.plan.plan import Wanted

    job: Job = context.obj
    with guarded(job.debug):
        settings = job.settings(model=model)
        with guarded(job.debug, settings.lake):
            run(settings, Wanted(source, since, limit, where), as_json)


@app.command(epilog=_EPILOG)
def embed(
    context: typer.Context,
    model: Model = None,
    limit: Limit = None,
    source: OfSource = None,
    since: Since = None,
    where: Where = None,
    as_json: AsJson = False,
) -> None:
    """Embed the chunks that the model has not embedded yet."""
    from jobs.embed import run
    from pipelines.embed.plan.plan import Wanted

    job: Job = context.obj
    with guarded(job.debug):
        settings = job.settings(model=model)
        with guarded(job.debug, settings.lake):
            run(settings, Wanted(source, since, limit, where), as_json)


app.command(epilog=_EPILOG)(publish)


app.command(epilog=_EPILOG)(search)
app.command(epilog=_EPILOG)(index)
app.command(epilog=_EPILOG)(serve)
app.add_typer(evaluate, name="evaluate")

rejects = typer.Typer(help="What could not be used, and why; and trying it again.", no_args_is_help=True)
app.add_typer(rejects, name="rejects")
Reason = Annotated[str | None, typer.Option(help="Only of this reason, such as empty_text.")]
Source = Annotated[str | None, typer.Option(help="Only of this source.")]


@rejects.command("list", epilog=_EPILOG)
def rejects_list(
    context: typer.Context,
    stage: Annotated[
        str | None, typer.Option(help="read (files), curate (documents) or embed (chunks).")
    ] = None,
    reason: Reason = None,
    source: Source = None,
    limit: Annotated[int, typer.Option(min=0, help="How many to show; all are counted.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Show the rejects, and how many there are of each reason."""
    from jobs.rejects import list_rejects

    job: Job = context.obj
    with guarded(job.debug):
        settings = job.settings()
        with guarded(job.debug, settings.lake):
            list_rejects(settings, stage, reason, source, limit, as_json)


@rejects.command("replay", epilog=_EPILOG)
def rejects_replay(
    context: typer.Context,
    reason: Reason = None,
    source: Source = None,
    model: Model = None,
    as_json: AsJson = False,
) -> None:
    """Read the files of the rejects again: mended since, or by other settings, they may be documents now."""
    from jobs.rejects import replay

    job: Job = context.obj
    with guarded(job.debug):
        settings = job.settings(model=model)
        with guarded(job.debug, settings.lake):
            replay(settings, reason, source, as_json)


@app.command(epilog=_EPILOG)
def status(context: typer.Context, as_json: AsJson = False) -> None:
    """Count what the lake holds and what is pending, and check that every row is accounted for."""
    from jobs.status import run

    job: Job = context.obj
    with guarded(job.debug):
        settings = job.settings()
        with guarded(job.debug, settings.lake):
            run(settings, as_json)


app.command(epilog=_EPILOG)(maintain)
app.command(epilog=_EPILOG)(pairs)
app.command("filter", epilog=_EPILOG)(filter_)
app.command(epilog=_EPILOG)(mine)
app.add_typer(train, name="train")


@app.command(epilog=_EPILOG)
def demo(
    context: typer.Context,
    documents: Annotated[int, typer.Option(min=100, help="About how many documents.")] = 3000,
) -> None:
    """The documentation of the installed packages: curate, embed, publish, status and four searches."""
    from jobs.demo import run

    job: Job = context.obj
    with guarded(job.debug):
        run(job.profile, job.lake, job.assignments, documents)


if __name__ == "__main__":
    main()
