"""The drivers of a seed, as the tool sees them: processes that tell events and can be killed at any."""

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.driver import Arguments
from tests.faults.schedule import Event

_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Told:
    """A line of a driver.

    Attributes:
        driver: Whose.
        event: An event that it stands still in until `Driver.release`; None for other lines and at its end.
        ticket: For `Driver.release`.
        line: What it says, for a person; None at its end.
    """

    driver: "Driver"
    event: Event | None = None
    ticket: int = 0
    line: str | None = None


@dataclass
class Driver:
    """One process.

    Attributes:
        number: Of the seed, from 1.
        process: Itself.
        killed: Whether the tool has killed it.
    """

    number: int
    process: "subprocess.Popen[str]"
    killed: bool = False

    def release(self, ticket: int) -> None:
        """Lets it go on from an event; nothing where it has ended."""
        self.write(str(ticket))

    def write(self, line: str) -> None:
        """A line to its standard input, if it still lives."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.write(f"{line}\n")
            self.process.stdin.flush()

    def kill(self) -> None:
        """Ends it as a crash would."""
        self.killed = True
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Spare:
    """A process that has imported all and waits to become a driver: the import takes seconds.

    Attributes:
        log: Gets the standard error of all.
    """

    def __init__(self, log: Path) -> None:
        self.log = log
        self._process: subprocess.Popen[str] | None = None

    def prepare(self) -> None:
        """Has one, from now on."""
        if self._process is None:
            with self.log.open("ab") as log:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "tests.faults.driver"],
                    cwd=_ROOT,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                    start_new_session=True,
                )

    def take(self) -> "subprocess.Popen[str]":
        """It, or a new one."""
        self.prepare()
        process, self._process = self._process, None
        assert process is not None
        return process

    def close(self) -> None:
        """Ends it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@dataclass
class Drivers:
    """Starts them, and gathers what they tell.

    Attributes:
        arguments: Of each.
        spare: Where they come from.
        told: What they tell, as it comes.
        alive: Those that have not ended.
        started: How many there were.
    """

    arguments: Arguments
    spare: Spare
    told: "queue.Queue[Told]" = field(default_factory=queue.Queue)
    alive: list[Driver] = field(default_factory=list)
    started: int = 0

    def start(self) -> Driver:
        """One more."""
        self.started += 1
        driver = Driver(self.started, self.spare.take())
        driver.write(self.arguments.to_json())
        self.alive.append(driver)
        threading.Thread(target=self._read, args=(driver,), daemon=True).start()
        return driver

    def where(self) -> list[str]:
        """Where those that are alive stand: their threads' innermost calls, once they have said them."""
        before = self.spare.log.stat().st_size
        for driver in self.alive:
            driver.process.send_signal(signal.SIGUSR1)
        time.sleep(1.0)
        said = self.spare.log.read_bytes()[before:].decode(errors="replace").splitlines()
        calls = [at for at, line in enumerate(said) if line.startswith(("Thread", "Current thread"))]
        return [" < ".join(line.strip() for line in said[at + 1 : at + 7]) for at in calls]

    def close(self) -> None:
        """Kills what is left."""
        for driver in self.alive:
            driver.kill()
        self.alive.clear()

    def _read(self, driver: Driver) -> None:
        assert driver.process.stdout is not None
        for line in driver.process.stdout:
            kind, _, rest = line.rstrip("\n").partition(" ")
            if kind == "event":
                name, ticket = rest.split()
                self.told.put(Told(driver, Event[name], int(ticket)))
            else:
                self.told.put(Told(driver, line=rest))
        driver.process.wait()
        self.told.put(Told(driver))
