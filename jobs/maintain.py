"""The maintain job."""

import json
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobs.console import ConsoleProgress, amount
from jobs.settings import Settings
from pipelines.lake import Lake
from pipelines.maintain.report import MaintainReport, TableReport
from pipelines.maintain.run import maintain

# Steps were left to the next run: no failure, and not all that was asked.
INCOMPLETE = 3


def run(settings: Settings, tables: Sequence[str], dry_run: bool, as_json: bool) -> int:
    """Maintains tables and prints what was done.

    Returns:
        The exit status: 3 where a step kept losing its race against other jobs and was left out.
    """
    progress = ConsoleProgress(Console(stderr=True))
    lake = Lake.open(settings.lake)
    report = maintain(lake, settings.maintain, settings.spark, progress, tables, dry_run)
    if as_json:
        print(json.dumps(report.as_dict()))  # noqa: T201 - for programs
    else:
        _print(report, Console())
    return 0 if report.is_complete else INCOMPLETE


def _print(report: MaintainReport, console: Console) -> None:
    title = "what maintain would do" if report.dry_run else "what maintain did"
    shown = Table(title=title, title_justify="left")
    shown.add_column("table")
    for name in ("files", "bytes", "rewritten", "deletes", "manifests", "snapshots", "orphans", "seconds"):
        shown.add_column(name, justify="right")
    for table in report.tables:
        shown.add_row(Text(table.name), *_cells(table))
    console.print(shown)
    for table in report.tables:
        if table.rows:
            console.print(f"{table.name}: {table.rows:,} rows that nothing needs any more", highlight=False)
        for step, reason in table.skipped.items():
            line = f"{table.name}: {step} left to the next run ({reason})"
            console.print(line, highlight=False, markup=False, soft_wrap=True)


def _cells(table: TableReport) -> list[str]:
    before, after = table.before, table.after
    gone = f"-{table.snapshots:,}" if table.snapshots else "0"
    branches = f" and {table.branches:,} branches" if table.branches else ""
    orphans = f"-{table.orphans:,} ({amount(table.orphan_bytes, 'bytes')})" if table.orphans else "0"
    return [
        _change(f"{before.data:,}", f"{after.data:,}"),
        _change(amount(before.size, "bytes"), amount(after.size, "bytes")),
        f"{table.rewritten:,}",
        _change(f"{before.deletes:,}", f"{after.deletes:,}"),
        _change(f"{before.manifests:,}", f"{after.manifests:,}"),
        gone + branches,
        orphans,
        f"{table.seconds:.1f}",
    ]


def _change(before: str, after: str) -> str:
    return before if before == after else f"{before} → {after}"
