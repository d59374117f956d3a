"""The search job."""

import json
from dataclasses import asdict

from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobs.console import ConsoleProgress
from jobs.settings import Settings
from pipelines.encoder.conf import load_model_conf
from pipelines.lake import Lake
from pipelines.search.search import Hit
from pipelines.search.search import search as search_lake

_SHOWN_CHARS = 240


def run(settings: Settings, query: str, k: int, dim: int | None, source: str | None, as_json: bool) -> None:
    """Searches the lake and prints the nearest chunks."""
    model = load_model_conf(settings.model)
    lake = Lake.open(settings.lake)
    progress = ConsoleProgress(Console(stderr=True))
    hits = search_lake(lake, model, query, k=k, dim=dim, source=source, progress=progress)
    if as_json:
        print(json.dumps([asdict(hit) for hit in hits], ensure_ascii=False))  # noqa: T201 - for programs
    else:
        Console().print(hits_table(query, hits))


def hits_table(query: str, hits: list[Hit]) -> Table:
    """The hits as a table for a terminal."""
    table = Table(title=Text(f"“{query}”"), title_justify="left", show_lines=True, expand=True)
    table.add_column("score", justify="right", no_wrap=True)
    table.add_column("source", no_wrap=True)
    table.add_column("document", overflow="fold", ratio=2)
    table.add_column("text", overflow="fold", ratio=5)
    for hit in hits:
        text = " ".join(hit.text.split())
        shown = text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"
        # As Text: a document's brackets are no markup.
        table.add_row(f"{hit.score:.3f}", Text(hit.source), Text(hit.doc_id), Text(shown))
    return table
