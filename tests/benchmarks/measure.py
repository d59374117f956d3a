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
    """

    seconds: float = 0.0
    peak_mib: float = 0.0
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
    total = 0.0
    for process in [root, *root.children(recursive=True)]:
        try:
            total += process.memory_full_info().pss / _MIB
        except psutil.Error:
            continue  # it has just ended
    return total


def _watch(result: Measured) -> None:
    root = psutil.Process()
    while True:
        result.peak_mib = max(result.peak_mib, tree_mib(root))
        if result._ended.wait(_SAMPLE_SECONDS):
            return
