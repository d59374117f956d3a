"""The demo: the documentation of the installed packages, through the very commands that a user types."""

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from time import monotonic

from rich.console import Console

from jobs.console import ConsoleProgress
from jobs.demo_corpus import write_demo_corpus
from jobs.guard import guarded
from jobs.search import hits_table
from jobs.settings import Settings, load_settings
from pipelines.encoder.conf import ModelConf, load_model_conf
from pipelines.lake import Lake
from pipelines.lake.vector_source import EMBEDDINGS
from pipelines.publish.config import PublishConfig
from pipelines.search.queries import QueryEncoder, load_encoder
from pipelines.search.search import Searcher

_DIM = 64
_PUBLISH = ["--dim", str(_DIM), "--rotate", "--release", "demo"]
_QUERIES = (
    "how do I remove duplicate rows from a table",
    "roll back a table to an earlier snapshot",
    "prevent overfitting by randomly switching off neurons",
)


def run(profile: str, lake: Path | None, assignments: Sequence[str], documents: int) -> None:
    """Writes the corpus, then curate, embed, publish, status and searches, each printed before it is run.

    Raises:
        SystemExit: With the exit code of the first command that fails.
    """
    console = Console()
    started = monotonic()
    place = lake or Path("embedlake-data")
    corpus = place / "demo-corpus"
    console.print("embedlake demo: the documentation of the installed packages, made searchable\n")
    progress = ConsoleProgress(Console(stderr=True))
    with progress.step("reading docstrings", None, "documents"):
        written = write_demo_corpus(corpus, documents)
    console.print(
        f"{written.count:,} docstrings of {len(written.sources)} packages in {corpus} "
        f"({written.exact_twins:,} exact and {written.near_twins:,} near twins among them)"
    )
    options = ["--profile", profile] if profile != "local" else []
    options += ["--lake", str(place)] if profile == "local" else []
    options += [word for assignment in assignments for word in ("--set", assignment)]
    for command in (["curate", str(corpus)], ["embed"], ["publish", *_PUBLISH], ["status"]):
        _run(console, [*command, *options])
    settings = load_settings(profile, place if profile == "local" else None, assignments)
    _search(console, progress, settings, options)
    console.print(f"\ndone in {monotonic() - started:.0f} s. Now ask it yourself:")
    line = shlex.join(["embedlake", "search", "your question", "--dim", "128", *options])
    console.print(f"  {line}", highlight=False, soft_wrap=True)


def _search(console: Console, progress: ConsoleProgress, settings: Settings, options: Sequence[str]) -> None:
    """What the commands print, by one process: each would load the model anew."""
    with guarded(False, settings.lake):
        lake, conf = Lake.open(settings.lake), load_model_conf(settings.model)
        loaded: list[QueryEncoder] = []

        def load_once(conf: ModelConf, precision: str) -> QueryEncoder:
            if not loaded:
                loaded.append(load_encoder(conf, precision))
            return loaded[0]

        small = PublishConfig(dim=_DIM).table_name(conf.name, _DIM)
        for table, queries in ((EMBEDDINGS, _QUERIES), (small, _QUERIES[-1:])):
            searcher = Searcher.open(lake, conf, progress=progress, table=table, loader=load_once)
            own = ["--table", table] if table != EMBEDDINGS else []
            for query in queries:
                _show(console, ["search", query, "--top", "3", *own, *options])
                console.print(hits_table(query, searcher.search(query, k=3)))


def _show(console: Console, words: Sequence[str]) -> None:
    console.print(f"\n[bold]$ {shlex.join(['embedlake', *words])}[/]", highlight=False, soft_wrap=True)
    sys.stdout.flush()


def _run(console: Console, words: list[str]) -> None:
    _show(console, words)
    width = {"COLUMNS": str(console.width)}
    done = subprocess.run(
        [sys.executable, "-m", "jobs.cli", *words], env={**os.environ, **width}, check=False
    )
    if done.returncode:
        raise SystemExit(done.returncode)
