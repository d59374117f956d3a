"""What every benchmark measures: wall-clock seconds, and the peak memory of all its processes together."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import TypeVar

import psutil

T = TypeVar("T")
_SAMPLE_SECONDS = 0.2
_MIB = 2**20


@dataclass
class Measured:
    """Filled in when the block ends.

    Attributes:
        seconds: Wall-clock time.
        peak_mib: Largest sum of proportional set sizes of this process and all below it, sampled 5 times a
            second; shared memory is counted once.
        peak_java_mib: Of the JVMs among them.
        peak_python_mib: Of all others.
    """

    seconds: float = 0.0
    peak_mib: float = 0.0
    peak_java_mib: float = 0.0
    peak_python_mib: float = 0.0
    _ended: threading.Event = field(default_factory=threading.Event)


@contextmanager
def measured() -> Iterator[Measured]:
    """Measures the block."""
    result = Measured()
    watcher = threading.Thread(target=_watch, args=(result,), daemon=True)
    started = perf_counter()
    watcher.start()
    try:
        yield result
    finally:
        result.seconds = perf_counter() - started
        result._ended.set()
        watcher.join()


def fastest(times: int, action: Callable[[], T]) -> tuple[float, T]:
    """Seconds of the fastest of several runs, and what the last gave."""
    best = float("inf")
    for _ in range(times):
        started = perf_counter()
        value = action()
        best = min(best, perf_counter() - started)
    return best, value


def tree_mib(root: psutil.Process) -> float:
    """Proportional set size of a process and all below it, in MiB."""
    return sum(_by_kind(root).values())


def _by_kind(root: psutil.Process) -> dict[str, float]:
    total = {"java": 0.0, "python": 0.0}
    for process in [root, *root.children(recursive=True)]:
        try:
            total["java" if process.name() == "java" else "python"] += process.memory_full_info().pss / _MIB
        except psutil.Error:
            continue  # it has just ended
    return total


def _watch(result: Measured) -> None:
    root = psutil.Process()
    while True:
        now = _by_kind(root)
        result.peak_mib = max(result.peak_mib, sum(now.values()))
        result.peak_java_mib = max(result.peak_java_mib, now["java"])
        result.peak_python_mib = max(result.peak_python_mib, now["python"])
        if result._ended.wait(_SAMPLE_SECONDS):
            return
