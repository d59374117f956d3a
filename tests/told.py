"""A stage's progress, kept for a test to look at."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Told:
    """Keeps what a stage reports, and may do something when a part of it is done."""

    lines: list[str] = field(default_factory=list)
    steps: list[tuple[str, int | None, str]] = field(default_factory=list)
    amounts: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    at_done: Callable[[int], None] = lambda amount: None

    @contextmanager
    def step(self, label: str, total: int | None, unit: str) -> Iterator["Told"]:
        self.steps.append((label, total, unit))
        yield self

    def done(self, amount: int, note: str = "") -> None:
        self.amounts.append(amount)
        self.notes.append(note)
        self.at_done(amount)

    def say(self, line: str) -> None:
        self.lines.append(line)
