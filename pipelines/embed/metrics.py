"""What a run is doing, counted as it goes: for the console, for Prometheus and for the table `runs`."""

import threading
import time
from dataclasses import dataclass, field

from pipelines.embed.work.wire import Finished


@dataclass
class Metrics:
    """Counts of one run; safe to read from another thread.

    Attributes:
        rows: Rows written, rejects included.
        tokens: What the model has read.
        padded_tokens: The same, padding included.
        copied_rows: Rows that got the vector of an equal text.
        units: Units, or parts of them, written.
        rejects: Rows that could not be embedded.
        busy_seconds: Of all encoders together.
        in_flight: Units on their way.
        encoders: Encoders that are ready.
        retries: Units tried again, by what had gone wrong.
        hardware: Names of what the encoders run on.
        encoding_from: Unix time at which the first unit was taken up; None before.
    """

    rows: int = 0
    tokens: int = 0
    padded_tokens: int = 0
    copied_rows: int = 0
    units: int = 0
    rejects: int = 0
    busy_seconds: float = 0.0
    in_flight: int = 0
    encoders: int = 0
    retries: dict[str, int] = field(default_factory=dict)
    hardware: set[str] = field(default_factory=set)
    encoding_from: float | None = None
    ready_since: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def finished(self, unit: Finished) -> None:
        """A unit is written."""
        with self._lock:
            self.rows += unit.rows
            self.tokens += unit.tokens
            self.padded_tokens += unit.padded
            self.copied_rows += unit.copied
            self.units += 1
            self.rejects += unit.rejects.num_rows
            self.busy_seconds += unit.busy
            if unit.began:
                self.encoding_from = min(self.encoding_from or unit.began, unit.began)

    def set_flight(self, in_flight: int, encoders: int) -> None:
        """So many units are on their way, and so many encoders ready."""
        with self._lock:
            self.in_flight, self.encoders = in_flight, encoders

    def retried(self, fault: str) -> None:
        """A unit is tried again."""
        with self._lock:
            self.retries[fault] = self.retries.get(fault, 0) + 1

    def encoder_ready(self, worker: str, hardware: str) -> None:
        """An encoder has its model in memory."""
        with self._lock:
            self.hardware.add(hardware)
            self.ready_since[worker] = time.time()
