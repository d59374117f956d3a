"""The job's words: bars on a terminal, plain lines elsewhere; progress to stderr, results to stdout."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock, Timer
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
        if task.total is None:  # a step of which nothing can be counted shows its time alone
            return Text(amount(task.completed, unit) if task.completed else "", style="progress.download")
        done = amount(task.completed, unit).removesuffix(f" {unit}")
        return Text(f"{done} of {amount(task.total, unit)}", style="progress.download")


class ConsoleProgress:
    """Reports a stage's steps on a console (see `pipelines.progress`).

    Attributes:
        console: Where to.
        quiet_seconds: Elsewhere than on a terminal a step that ends sooner is not told.
    """

    def __init__(self, console: Console, quiet_seconds: float = 2.0) -> None:
        self.console = console
        self.quiet_seconds = quiet_seconds

    @contextmanager
    def step(self, label: str, total: int | None, unit: str) -> Iterator[Step]:
        """A bar on a terminal; elsewhere a line at first, one every ten seconds, and one at the end."""
        maker = self._bar if self.console.is_terminal else self._lines
        with maker(label, total, unit) as step:
            yield step

    def say(self, line: str) -> None:
        """Prints the line, without credentials."""
        self.console.print(redact(line), markup=False, emoji=False, highlight=False, soft_wrap=True)

    @contextmanager
    def _bar(self, label: str, total: int | None, unit: str) -> Iterator[Step]:
        columns: list[ProgressColumn] = [TextColumn("{task.description}"), BarColumn(bar_width=24)]
        columns += [] if total is None else [TaskProgressColumn()]
        columns += [_Amounts(), TimeElapsedColumn()]
        columns += [] if total is None else [TextColumn("left"), TimeRemainingColumn()]
        columns += [TextColumn("{task.fields[note]}", style="dim", markup=False)]
        with Progress(*columns, console=self.console) as bar:
            task = bar.add_task(f"{label:<30}", total=total, unit=unit, note="")

            class Bar:
                def done(self, amount: int, note: str = "") -> None:
                    bar.update(task, completed=amount, note=note)

            yield Bar()

    @contextmanager
    def _lines(self, label: str, total: int | None, unit: str) -> Iterator[Step]:
        step = _PlainStep(self.say, label, total, unit)
        timer = Timer(self.quiet_seconds, step.begin)
        timer.daemon = True
        timer.start()
        try:
            yield step
        finally:
            timer.cancel()
        if monotonic() - step.started >= self.quiet_seconds:
            step.end()


class _PlainStep:
    """A step in lines; its rate counts from the first report, since what comes before is starting up."""

    def __init__(self, say: Callable[[str], None], label: str, total: int | None, unit: str) -> None:
        self._say, self._label, self._total, self._unit = say, label, total, unit
        self._said = self.started = monotonic()
        self._first: tuple[float, int] | None = None
        self._begun = False
        self._lock = Lock()

    def begin(self) -> None:
        """The first line, once, whoever comes first: the timer's thread, or a line that must follow it."""
        with self._lock:
            if not self._begun:
                total = "" if self._total is None else f": {amount(self._total, self._unit)}"
                self._say(f"{self._label}{total}")
                self._begun = True

    def end(self) -> None:
        self.begin()
        self._say(f"{self._label}: done in {monotonic() - self.started:.1f} s")

    def done(self, count: int, note: str = "") -> None:
        now = monotonic()
        if self._first is None and count:
            self._first = (now, count)
        if now - self._said < _PLAIN_SECONDS or self._first is None:
            return
        self._said = now
        self.begin()
        told = f"{self._label}: {amount(count, self._unit)}{self._rest(now, count)}"
        self._say(f"{told}; {note}" if note else told)

    def _rest(self, now: float, count: int) -> str:
        if self._total is None:
            return ""
        of = f" of {amount(self._total, self._unit).removesuffix(f' {self._unit}')}"
        assert self._first is not None  # `done` has set it
        since, at = self._first
        if count <= at:
            return of
        left = (now - since) * max(self._total - count, 0) / (count - at)
        return f"{of}, {left:.0f} s left"
