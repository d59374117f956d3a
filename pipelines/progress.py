"""How a stage tells what it is doing, without knowing who listens."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Step(Protocol):
    """One step of a stage, with a total that is true from the start."""

    def done(self, amount: int, note: str = "") -> None:
        """So much of the total is done, counted from the step's beginning.

        Args:
            amount: In the step's unit.
            note: How it goes, in a few words.
        """


class Progress(Protocol):
    """What a stage reports to."""

    def step(self, label: str, total: int | None, unit: str) -> AbstractContextManager[Step]:
        """Begins a step.

        Args:
            label: What is being done, for a person: `embedding`, `writing chunks`.
            total: How much there is to do; None where that cannot be known before the end.
            unit: Of the total, or of what will be done: `rows`, `files`, `tasks`.
        """

    def say(self, line: str) -> None:
        """A line worth keeping: a decision taken, a count."""


class _SilentStep:
    def done(self, amount: int, note: str = "") -> None:
        """Forgets it."""


class Silent:
    """Tells nobody."""

    @contextmanager
    def step(self, label: str, total: int | None, unit: str) -> Iterator[Step]:
        """A step that nobody sees."""
        yield _SilentStep()

    def say(self, line: str) -> None:
        """Forgets it."""
