"""One embed job in a process of its own: `python -m tests.faults.driver`.

Its first line of standard input is its `Arguments`, so it can be there, all imported, before it is needed. It
tells each event in a line of standard output and stands still in it until a line of standard input gives
the event's ticket back: so whoever watches can do something at that very moment, or end this process.
"""

import faulthandler
import itertools
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pipelines.embed.run as stage
import pipelines.lake.commit as commits
from pipelines.cluster.config import RayConfig
from pipelines.cluster.session import load_ray
from pipelines.embed.config import EmbedConfig
from pipelines.errors import EmbedlakeError
from pipelines.lake import Lake, LakeConfig
from tests.faults.model import Digests, model_conf
from tests.faults.schedule import Event

FAILED = 3  # exit status after an error that says how to mend it


@dataclass(frozen=True)
class Arguments:
    """What a driver is told.

    Attributes:
        lake: A `LakeConfig` as JSON.
        address: Of the Ray cluster.
        embed: An `EmbedConfig` as JSON.
        tally: See `Digests`.
        seconds: See `Digests`.
        poison: See `Digests`.
    """

    lake: str
    address: str
    embed: str
    tally: str
    seconds: float
    poison: dict[str, int]

    def to_json(self) -> str:
        """For its standard input."""
        return json.dumps(asdict(self))


class Teller:
    """Tells events and waits for their tickets; a stage's `Progress` too."""

    def __init__(self) -> None:
        # A line of its own each: Ray's threads print, too, and theirs must not get into ours.
        self._channel = os.dup(1)
        os.dup2(2, 1)
        self._tickets = itertools.count(1)
        self._waiting: dict[int, threading.Event] = {}
        self._lock = threading.Lock()
        threading.Thread(target=self._listen, daemon=True).start()

    def tell(self, event: Event) -> None:
        """Tells one, and returns when it may go on."""
        heard = threading.Event()
        with self._lock:
            ticket = next(self._tickets)
            self._waiting[ticket] = heard
        self._write(f"event {event.name} {ticket}")
        heard.wait()

    def _write(self, line: str) -> None:
        with self._lock:
            os.write(self._channel, f"{line}\n".encode())

    def _listen(self) -> None:
        for line in sys.stdin:
            with self._lock:
                heard = self._waiting.pop(int(line), None)
            if heard is not None:
                heard.set()

    @contextmanager
    def step(self, label: str, total: int | None, unit: str) -> Iterator["_Step"]:
        """Only units are events."""
        yield _Step(self if label == "embedding" else None)

    def say(self, line: str) -> None:
        """What is about to be embedded is an event; all is told."""
        self._write(f"say {' '.join(line.split())}")
        if line.startswith("embedding "):
            self.tell(Event.PLANNED)


@dataclass(frozen=True)
class _Step:
    teller: Teller | None

    def done(self, amount: int, note: str = "") -> None:
        """A unit is written."""
        if self.teller:
            self.teller.tell(Event.WRITTEN)


def _between(
    teller: Teller, function: Callable[..., Any], before: Event | None, after: Event | None
) -> Callable[..., Any]:
    def told(*args: Any, **kwargs: Any) -> Any:
        if before:
            teller.tell(before)
        result = function(*args, **kwargs)
        if after:
            teller.tell(after)
        return result

    return told


def main() -> int:
    """One run."""
    faulthandler.register(signal.SIGUSR1)  # says where it stands, in its standard error
    load_ray()
    line = sys.stdin.readline()
    if not line:  # not needed after all
        return 0
    arguments = Arguments(**json.loads(line))
    teller = Teller()
    surveys = itertools.count()
    survey: Callable[..., Any] = vars(stage)["survey"]

    def surveyed(*args: Any, **kwargs: Any) -> Any:
        if next(surveys):
            teller.tell(Event.ENDING)
        return survey(*args, **kwargs)

    once = _between(teller, commits._append_once, Event.COMMITTING, Event.COMMITTED)
    setattr(commits, "_append_once", once)  # noqa: B010 - mypy forbids the plain form
    setattr(stage, "survey", surveyed)  # noqa: B010
    factory = Digests(Path(arguments.tally), arguments.seconds, arguments.poison)
    try:
        report = stage.embed(
            Lake.open(LakeConfig.model_validate_json(arguments.lake)),
            model_conf(),
            EmbedConfig.model_validate_json(arguments.embed),
            RayConfig(address=arguments.address),
            teller,
            factory=factory,
        )
    except EmbedlakeError as error:
        teller.say(f"{type(error).__name__}: {error}")
        return FAILED
    except Exception:
        teller.say(traceback.format_exc()[-1500:].replace("\n", " | "))
        return 1
    teller.say(str(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
