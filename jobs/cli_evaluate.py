"""`embedlake evaluate`: its commands, their options, and nothing else."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.guard import guarded
from jobs.options import EPILOG, Model

if TYPE_CHECKING:
    from jobs.cli import Job

evaluate = typer.Typer(
    help="How good the model is at each dimension, by judgements of people.", no_args_is_help=True
)

Dims = Annotated[
    str | None, typer.Option(help="Dimensions, such as 384,128,32; the model's own if not given.")
]
Types = Annotated[
    str | None,
    typer.Option(help="Of float32, float16, int8, binary, binary+rerank, with commas; all if not given."),
]
Precision = Annotated[
    str | None,
    typer.Option(help="float32, bfloat16, or auto: the model's own. float32 if not given, as published."),
]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")]
MarkdownFile = Annotated[
    Path | None, typer.Option("--markdown", help="Write the table to this file besides.")
]


@evaluate.command("retrieval", epilog=EPILOG)
def retrieval(
    context: typer.Context,
    corpus: Annotated[Path, typer.Option(help="JSON lines: _id, text, title.")],
    queries: Annotated[Path, typer.Option(help="JSON lines: _id, text.")],
    qrels: Annotated[Path, typer.Option(help="Tab-separated: query-id, corpus-id, score.")],
    dims: Dims = None,
    types: Types = None,
    gain: Annotated[
        str | None,
        typer.Option(help="graded, binary (any code but 0 is 1), or auto: graded unless one is negative."),
    ] = None,
    title: Annotated[bool, typer.Option("--title", help="Put titles before the texts.")] = False,
    rotate: Annotated[
        bool, typer.Option("--rotate", help="Rotate the vectors to the corpus before slicing.")
    ] = False,
    precision: Precision = None,
    model: Model = None,
    json_file: JsonFile = None,
    markdown_file: MarkdownFile = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw quality against bytes to this name, .png and .svg.")
    ] = None,
) -> None:
    """Find documents for judged queries (BEIR's layout), by exact search; and by BM25 beside it."""
    from jobs.evaluate import Outputs, run_retrieval

    job: Job = context.obj
    with guarded(job.debug):
        settings = job.settings(
            model=model,
            evaluate__dims=_listed(dims),
            evaluate__types=_listed(types),
            evaluate__gain=gain,
            evaluate__title=title or None,
            evaluate__rotate=rotate or None,
            evaluate__precision=precision,
        )
        run_retrieval(settings, corpus, queries, qrels, Outputs(json_file, markdown_file, plot))


@evaluate.command("pairs", epilog=EPILOG)
def pairs(
    context: typer.Context,
    sources: Annotated[
        str | None, typer.Option(help="Sources of pairs, with commas; all with held-out pairs if not given.")
    ] = None,
    dims: Dims = None,
    types: Types = None,
    precision: Precision = None,
    model: Model = None,
    json_file: JsonFile = None,
    markdown_file: MarkdownFile = None,
) -> None:
    """Find the documents of the lake's held-out pairs, each among all of its source."""
    from jobs.evaluate import Outputs, run_pairs

    job: Job = context.obj
    with guarded(job.debug):
        settings = job.settings(
            model=model,
            evaluate__dims=_listed(dims),
            evaluate__types=_listed(types),
            evaluate__precision=precision,
        )
        with guarded(job.debug, settings.lake):
            run_pairs(settings, _listed(sources), Outputs(json_file, markdown_file, None))


@evaluate.command("mteb", epilog=EPILOG)
def mteb(
    context: typer.Context,
    tasks: Annotated[str, typer.Option(help="Names of MTEB tasks, such as NFCorpus,STSBenchmark.")],
    dims: Dims = None,
    precision: Precision = None,
    model: Model = None,
    json_file: JsonFile = None,
    markdown_file: MarkdownFile = None,
) -> None:
    """Run tasks of the mteb library with the model and its prefixes; their data come from the hub."""
    from jobs.evaluate import Outputs, run_mteb

    job: Job = context.obj
    with guarded(job.debug):
        settings = job.settings(model=model, evaluate__dims=_listed(dims), evaluate__precision=precision)
        run_mteb(settings, _listed(tasks) or [], Outputs(json_file, markdown_file, None))


@evaluate.command("recall", epilog=EPILOG)
def recall(
    context: typer.Context,
    table: Annotated[
        str | None, typer.Option(help="A serving table, measured as it is beside the types and funnels.")
    ] = None,
    as_of: Annotated[str | None, typer.Option("--as-of", help="A release of that table.")] = None,
    queries: Annotated[
        Path | None,
        typer.Option(help="Queries of a file, .jsonl or a line each; else some of the lake's own vectors."),
    ] = None,
    k: Annotated[int, typer.Option("-k", "--top", min=1, help="Size of the answers.")] = 10,
    rows: Annotated[int, typer.Option(min=2, help="Most vectors to look through, held in memory.")] = 200_000,
    sample: Annotated[int, typer.Option(min=1, help="Most queries from the lake's own vectors.")] = 200,
    seed: Annotated[int, typer.Option(help="Decides which rows and queries.")] = 0,
    shortlists: Annotated[str, typer.Option(help="Shortlists of funnels.")] = "100,500,3000",
    dims: Dims = None,
    rotate: Annotated[
        bool, typer.Option("--rotate", help="Rotate the vectors to these rows before slicing.")
    ] = False,
    model: Model = None,
    json_file: JsonFile = None,
    markdown_file: MarkdownFile = None,
) -> None:
    """Measure what dimensions, types and funnels find of the exact answer, on the lake's own vectors."""
    from jobs.evaluate import Outputs, RecallAsked, run_recall

    job: Job = context.obj
    with guarded(job.debug):
        settings = job.settings(model=model, evaluate__dims=_listed(dims), evaluate__rotate=rotate or None)
        with guarded(job.debug, settings.lake):
            sizes = [int(word) for word in _listed(shortlists) or [] if word.isdigit()]
            asked = RecallAsked(table, as_of, queries, k, rows, sample, seed, tuple(sizes))
            run_recall(settings, asked, Outputs(json_file, markdown_file, None))


def _listed(text: str | None) -> list[str] | None:
    """The words between commas."""
    return None if text is None else [word.strip() for word in text.split(",") if word.strip()]
