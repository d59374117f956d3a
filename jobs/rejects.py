"""The rejects job: shows what could not be used, and tries it again."""

import json
from collections import Counter
from dataclasses import asdict
from itertools import islice

from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobs import curate
from jobs.settings import Settings
from pipelines.curate.ledger.rejects import STAGES, rejects_of, replay_of
from pipelines.lake import Lake

ALL_STAGES = (*STAGES, "embed")


def list_rejects(
    settings: Settings, stage: str | None, reason: str | None, source: str | None, limit: int, as_json: bool
) -> None:
    """Prints how many rejects there are of each reason, and the first of them."""
    stages = (stage,) if stage else ALL_STAGES
    lake = Lake.open(settings.lake)
    if as_json:
        for one in islice(rejects_of(lake, stages, reason, source), limit):
            print(json.dumps(asdict(one), ensure_ascii=False))  # noqa: T201 - for programs
        return
    counts: Counter[tuple[str, str, str]] = Counter()
    shown = Table(title="rejects", title_justify="left")
    for name in ("stage", "reason", "key", "detail", "excerpt"):
        shown.add_column(name, overflow="ellipsis", no_wrap=name in ("stage", "reason"))
    for one in rejects_of(lake, stages, reason, source):
        counts[one.stage, one.reason, one.source] += 1
        if shown.row_count < limit:
            cells = (one.stage, one.reason, one.key, one.detail or "", (one.excerpt or "")[:60])
            shown.add_row(*(Text(cell) for cell in cells))
    console = Console()
    if not counts:
        console.print("no rejects")
        return
    console.print(shown)
    summary = Table(title="by reason", title_justify="left")
    for name in ("stage", "reason", "source", "rejects"):
        summary.add_column(name, justify="right" if name == "rejects" else "left")
    for (of_stage, of_reason, of_source), count in counts.most_common():
        summary.add_row(of_stage, of_reason, Text(of_source), f"{count:,}")
    console.print(summary)


def replay(settings: Settings, reason: str | None, source: str | None, as_json: bool) -> None:
    """Reads the files of the rejects again, by the present settings, and prints what became of them."""
    again = replay_of(Lake.open(settings.lake), reason, source)
    curate.run(settings, again.inputs, as_json=as_json, only=again.files)
