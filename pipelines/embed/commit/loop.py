"""When to commit: a thread of its own, so that neither a slow unit delays a commit nor a commit the units."""

import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from pipelines.embed.work.wire import Finished


class CommitLoop:
    """Commits what it is given: after some seconds, after so many units, and what is left at the end.

    A context manager. However its block ends, finished units are committed first; a Ctrl-C reaches the main
    thread only, so it never cuts a commit short. A second Ctrl-C while the end is waited for does not wait.
    """

    def __init__(
        self, commit: Callable[[Sequence[Finished]], None], seconds: float, units: int | None = None
    ) -> None:
        """Prepares the loop.

        Args:
            commit: Called from the loop's thread alone, never twice at a time.
            seconds: Longest wait of a finished unit for its commit.
            units: Commit as soon as so many wait; None sets no number.
        """
        self._commit = commit
        self._seconds = seconds
        self._units = units
        self._changed = threading.Condition()
        self._waiting: list[Finished] = []
        self._first_at = 0.0
        self._closing = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="embed-commits", daemon=True)

    def add(self, unit: Finished) -> None:
        """Takes a finished unit.

        Raises:
            EmbedlakeError: An earlier commit failed; nothing is committed any more.
        """
        with self._changed:
            if self._error is not None:
                raise self._error
            if not self._waiting:
                self._first_at = time.monotonic()
            self._waiting.append(unit)
            self._changed.notify()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()
        if self._error is None or self._error is error:
            return
        if error is None:
            raise self._error
        error.add_note(f"finished units could not be committed either: {self._error}")

    def _run(self) -> None:
        try:
            while units := self._next():
                self._commit(units)
        except BaseException as error:
            self._error = error

    def _next(self) -> list[Finished]:
        """Waits until a commit is due; nothing is left to commit ever where it gives an empty list."""
        with self._changed:
            while not self._closing and not self._due():
                wait = self._first_at + self._seconds - time.monotonic() if self._waiting else None
                self._changed.wait(wait)
            units, self._waiting = self._waiting, []
            return units

    def _due(self) -> bool:
        if not self._waiting:
            return False
        full = self._units is not None and len(self._waiting) >= self._units
        return full or time.monotonic() - self._first_at >= self._seconds
