"""The status job: what the lake holds, and whether every row is accounted for."""

import json
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobs.console import ConsoleProgress
from jobs.settings import Settings
from pipelines.embed.status import model_counts
from pipelines.lake import Lake
from pipelines.lake.counts import document_counts, live_rows
from pipelines.lake.faults import explained
from pipelines.lake.serving import published, releases, serving_tables
from pipelines.lake.training_counts import pair_counts, run_steps
from pipelines.progress import Progress


def run(settings: Settings, as_json: bool) -> None:
    """Prints the counts; those of documents and those of each model come from different tables."""
    lake = Lake.open(settings.lake)
    counts = status_of(lake, ConsoleProgress(Console(stderr=True)))
    if as_json:
        print(json.dumps(counts))  # noqa: T201 - for programs
    else:
        _print(counts, Console())


def status_of(lake: Lake, progress: Progress) -> dict[str, Any]:
    """Counts of the lake; `balanced` tells that nothing was lost or doubled.

    documents = kept + duplicates + rejects, and for each model chunks = rows + pending + rejects. Each number
    is counted by itself; none is derived from the others.
    """
    with progress.step("counting documents and chunks", None, "tables"):
        documents = document_counts(lake)
    models = model_counts(lake, progress)
    balanced = documents.documents == documents.kept + documents.duplicates + documents.rejects and all(
        documents.chunks == model.rows + model.pending + model.rejects for model in models.values()
    )
    return {
        "documents": documents.documents,
        "kept": documents.kept,
        "duplicates": documents.duplicates,
        "rejects": documents.rejects,
        "chunks": documents.chunks,
        "embeddings": {
            key: {"rows": model.rows, "pending": model.pending, "rejects": model.rejects}
            for key, model in models.items()
        },
        "serving": {name: _serving(lake, name) for name in serving_tables(lake)},
        **_training(lake),
        "balanced": balanced,
    }


def _serving(lake: Lake, name: str) -> dict[str, Any]:
    """What a serving table holds, and whether the embeddings have changed since it was published."""
    table = lake.table(name)
    with explained(lake.config):
        state = published(table)
        if state is None:
            return {}
        return {
            "model": state.model,
            "dim": state.dim,
            "type": state.type,
            "rotated": state.rotated,
            "rows": live_rows(table),
            "releases": list(releases(table)),
            "current": state.embeddings == lake.table("embeddings").metadata.current_snapshot_id,
        }


def _training(lake: Lake) -> dict[str, Any]:
    with explained(lake.config):
        pairs = {source: asdict(counts) for source, counts in pair_counts(lake).items()}
        return {"pairs": pairs, "runs": run_steps(lake)}


def _pairs_table(pairs: dict[str, Any]) -> Table:
    shown = Table(title="pairs", title_justify="left")
    shown.add_column("source", no_wrap=True)
    for name in ("kept", "held out", "others"):
        shown.add_column(name, justify="right")
    shown.add_column("consistent", overflow="fold")
    shown.add_column("with negatives mined", overflow="fold")
    for source, counts in pairs.items():
        outcomes = counts["outcomes"]
        kept, held_out = outcomes.get("kept", 0), outcomes.get("held_out", 0)
        others = sum(outcomes.values()) - kept - held_out
        asked = (
            "\n".join(f"{count:,} {question}" for question, count in counts[name].items())
            for name in ("consistent", "negatives")
        )
        shown.add_row(
            Text(source), f"{kept:,}", f"{held_out:,}", f"{others:,}", *(Text(text) for text in asked)
        )
    return shown


def _serving_table(tables: dict[str, Any]) -> Table:
    shown = Table(title="serving tables", title_justify="left")
    shown.add_column("table", no_wrap=True)
    shown.add_column("vectors")
    shown.add_column("rows", justify="right")
    shown.add_column("releases", overflow="fold")
    shown.add_column("state", no_wrap=True)
    for name, one in tables.items():
        vectors = f"{one['dim']} x {one['type']}{', rotated' if one['rotated'] else ''}"
        state = "current" if one["current"] else "behind"
        releases = Text(", ".join(one["releases"]))
        shown.add_row(Text(name), vectors, f"{one['rows']:,}", releases, state)
    return shown


def _print(counts: dict[str, Any], console: Console) -> None:
    table = Table(title="documents", title_justify="left")
    for name in ("documents", "kept", "duplicates", "rejects", "chunks"):
        table.add_column(name, justify="right")
    table.add_row(*(f"{counts[name]:,}" for name in ("documents", "kept", "duplicates", "rejects", "chunks")))
    console.print(table)
    models = Table(title="embeddings", title_justify="left")
    models.add_column("model")
    for name in ("rows", "pending", "rejects"):
        models.add_column(name, justify="right")
    for key, model in counts["embeddings"].items():
        models.add_row(Text(key), *(f"{model[name]:,}" for name in ("rows", "pending", "rejects")))
    if counts["embeddings"]:
        console.print(models)
    else:
        console.print("no embeddings yet: run 'embedlake embed'")
    if counts["serving"]:
        console.print(_serving_table(counts["serving"]))
    if counts["pairs"]:
        console.print(_pairs_table(counts["pairs"]))
    for run, step in counts["runs"].items():
        console.print(f"training run {run}: {step:,} steps", highlight=False, markup=False)
    console.print(
        "balanced: every document and chunk is accounted for"
        if counts["balanced"]
        else "[bold red]not balanced[/]: rows are missing or doubled, or a job is writing right now"
    )
