"""What a Spark application did, step by step, from its event log."""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import time

from pipelines.progress import Silent, Step

_TASK_END = "SparkListenerTaskEnd"


@dataclass
class Cost:
    """What a step's tasks took together.

    Attributes:
        seconds: Wall-clock time of the step.
        core_seconds: Time that tasks ran.
        shuffled: Bytes written for shuffles.
        largest: Bytes that the largest task read from a shuffle.
        spilled: Bytes that did not fit in memory and went to disk.
    """

    seconds: float = 0.0
    core_seconds: float = 0.0
    shuffled: int = 0
    largest: int = 0
    spilled: int = 0


@dataclass
class Clock(Silent):
    """A progress that remembers when each step began and ended, as `time()` tells it."""

    steps: list[tuple[str, float, float]] = field(default_factory=list)

    @contextmanager
    def step(self, label: str, total: int | None, unit: str) -> Iterator[Step]:
        """Times the step."""
        started = time()
        with super().step(label, total, unit) as step:
            yield step
        self.steps.append((label, started, time()))

    def seconds(self, label: str) -> float:
        """Time of all steps of that name."""
        return sum(end - start for name, start, end in self.steps if name == label)


def event_log(folder: Path) -> dict[str, str]:
    """Settings that make Spark write its events, uncompressed, into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    return {
        "spark.eventLog.enabled": "true",
        "spark.eventLog.dir": folder.as_uri(),
        "spark.eventLog.compress": "false",
        "spark.eventLog.rolling.enabled": "false",
    }


def costs(folder: Path, steps: Sequence[tuple[str, float, float]]) -> dict[str, Cost]:
    """The cost of each step, of the tasks that began in it; of steps with one name together."""
    result: dict[str, Cost] = defaultdict(Cost)
    for label, start, end in steps:
        result[label].seconds += end - start
    for task in _tasks(folder):
        launched = task["Task Info"]["Launch Time"] / 1000
        at = next((name for name, start, end in steps if start <= launched <= end), None)
        metrics = task.get("Task Metrics")
        if at is None or metrics is None:
            continue
        read = metrics["Shuffle Read Metrics"]
        cost = result[at]
        cost.core_seconds += metrics["Executor Run Time"] / 1000
        cost.shuffled += metrics["Shuffle Write Metrics"]["Shuffle Bytes Written"]
        cost.largest = max(cost.largest, read["Remote Bytes Read"] + read["Local Bytes Read"])
        cost.spilled += metrics["Disk Bytes Spilled"]
    return dict(result)


def _tasks(folder: Path) -> Iterator[dict]:  # type: ignore[type-arg] # Spark's own events
    for file in folder.iterdir():
        with file.open(encoding="utf-8") as lines:
            for line in lines:
                if _TASK_END in line[:60]:
                    yield json.loads(line)
