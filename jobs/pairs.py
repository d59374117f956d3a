"""The pairs job."""

import json
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from jobs.console import ConsoleProgress
from jobs.settings import Settings
from pipelines.config import load_yaml, parse
from pipelines.lake import Lake
from pipelines.pairs.config import PairsConfig
from pipelines.pairs.run import PairsReport, make_pairs


def run(settings: Settings, sources: Path, as_json: bool) -> None:
    """Makes the pairs of the sources in a file and prints what became of the rows."""
    config = parse(PairsConfig, load_yaml(sources), str(sources))
    progress = ConsoleProgress(Console(stderr=True))
    report = make_pairs(Lake.open(settings.lake), config, settings.spark, progress)
    if as_json:
        print(json.dumps(asdict(report)))  # noqa: T201 - for programs
    else:
        _print(report, Console())


def _print(report: PairsReport, console: Console) -> None:
    outcomes = sorted({outcome for source in report.sources for outcome in source.outcomes} - {"kept"})
    table = Table(title=f"pairs, {report.seconds:.0f} s", title_justify="left")
    table.add_column("source", no_wrap=True)
    for name in ("rows read", "kept", *outcomes):
        table.add_column(name.replace("_", " "), justify="right", overflow="fold")
    table.add_column("written")
    for source in report.sources:
        counts = (source.read, *(source.outcomes.get(name, 0) for name in ("kept", *outcomes)))
        table.add_row(
            source.source, *(f"{count:,}" for count in counts), "anew" if source.changed else "as before"
        )
    console.print(table)
