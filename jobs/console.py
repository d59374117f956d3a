"""The job's words: bars on a terminal, plain lines elsewhere; progress to stderr, results to stdout."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from pipelines.progress import Step
from pipelines.redact import redact

_PLAIN_SECONDS = 10.0  # between two plain lines of one step


def amount(number: float, unit: str) -> str:
    """A number for a person: `12,345 rows`, `1.5 MiB`."""
    if unit != "bytes":
        return f"{int(number):,} {unit}"
    size = float(number)
    for name in ("B", "KiB", "MiB", "GiB"):
        if round(size, 1) < 1024:
            return f"{size:.0f} {name}" if name == "B" else f"{size:.1f} {name}"
        size /= 1024
    return f"{size:.1f} TiB"


class _Amounts(ProgressColumn):
    def render(self, task: Task) -> Text:
        unit = task.fields["unit"]
        total = "?" if task.total is None else amount(task.total, unit)
        done = amount(task.completed, unit).removesuffix(f" {unit}")
        return Text(f"{done} of {total}", style="progress.download")


class ConsoleProgress:
    """Reports a stage's steps on a console (see `pipelines.progress`)."""

    def __init__(self, console: Console) -> None:
        self.console = console

    @contextmanager
    def step(self, label: str, total: int | None, unit: str) -> Iterator[Step]:
        """A bar on a terminal; elsewhere a line at the start, every ten seconds, and at the end."""
        maker = self._bar if self.console.is_terminal else self._lines
        with maker(label, total, unit) as step:
            yield step

    def say(self, line: str) -> None:
        """Prints the line, without credentials."""
        self.console.print(redact(line), markup=False, emoji=False, highlight=False, soft_wrap=True)

    @contextmanager
    def _bar(self, label: str, total: int | None, unit: str) -> Iterator[Step]:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            _Amounts(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self.console) as bar:
            task = bar.add_task(f"{label:<28}", total=total, unit=unit)

            class Bar:
                def done(self, amount: int) -> None:
                    bar.update(task, completed=amount)

            yield Bar()

    @contextmanager
    def _lines(self, label: str, total: int | None, unit: str) -> Iterator[Step]:
        started = monotonic()
        of = "" if total is None else f" of {amount(total, unit)}"
        say = self.say
        say(f"{label}{of.replace(' of ', ': ')}")

        class Lines:
            last = started

            def done(self, count: int) -> None:
                now = monotonic()
                if now - self.last < _PLAIN_SECONDS or not count:
                    return
                self.last = now
                left = (
                    "" if total is None else f", {(now - started) * max(total - count, 0) / count:.0f} s left"
                )
                say(f"{label}: {amount(count, unit)}{of}{left}")

        yield Lines()
        say(f"{label}: done in {monotonic() - started:.1f} s")
