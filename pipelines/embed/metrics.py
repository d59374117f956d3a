"""What a run is doing, counted as it goes: for the console, for Prometheus and for the table `runs`."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from pipelines.embed.work.wire import Finished
from pipelines.errors import EnvironmentFault


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
        commits: Snapshots made.
        busy_seconds: Of all encoders together.
        in_flight: Units on their way: with an encoder, before it or after it.
        encoders: Encoders that are ready now.
        started: Encoders that became ready in all.
        retries: Units tried again, by what had gone wrong.
        hardware: Names of what the encoders run on.
        encoding_from: Unix time at which the first unit was taken up; None before.
        pending_tokens: Of the plan, what is not written yet.
        planned_tokens: Of the plan.
    """

    rows: int = 0
    tokens: int = 0
    padded_tokens: int = 0
    copied_rows: int = 0
    units: int = 0
    rejects: int = 0
    commits: int = 0
    busy_seconds: float = 0.0
    in_flight: int = 0
    encoders: int = 0
    started: int = 0
    retries: dict[str, int] = field(default_factory=dict)
    hardware: set[str] = field(default_factory=set)
    encoding_from: float | None = None
    pending_tokens: int = 0
    planned_tokens: int = 0
    _encoder_seconds: float = 0.0
    _looked: float | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def planned(self, tokens: int) -> None:
        """So many tokens are to be read."""
        with self._lock:
            self.planned_tokens = self.pending_tokens = tokens

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
            self.pending_tokens -= unit.unit.tokens
            if unit.began:
                self.encoding_from = min(self.encoding_from or unit.began, unit.began)

    def set_flight(self, in_flight: int, encoders: int) -> None:
        """So many units are on their way, and so many encoders ready."""
        with self._lock:
            now = time.monotonic()
            if self._looked is not None and self.encoding_from is not None:
                self._encoder_seconds += (now - self._looked) * self.encoders
            self._looked = now
            self.in_flight, self.encoders = in_flight, encoders

    def committed(self, commits: int) -> None:
        """So many snapshots were made."""
        with self._lock:
            self.commits = commits

    def retried(self, fault: str) -> None:
        """A unit is tried again."""
        with self._lock:
            self.retries[fault] = self.retries.get(fault, 0) + 1

    def encoder_ready(self, hardware: str) -> None:
        """An encoder has its model in memory."""
        with self._lock:
            self.hardware.add(hardware)
            self.started += 1

    @property
    def busy(self) -> float:
        """Share of the time that the encoders were at work, since the first took up a unit."""
        return min(1.0, self.busy_seconds / self._encoder_seconds) if self._encoder_seconds else 0.0

    @property
    def padding(self) -> float:
        """Of what the model has read with padding, the padding's share."""
        return 1 - self.tokens / self.padded_tokens if self.padded_tokens else 0.0

    @property
    def tokens_per_second(self) -> float:
        """Since the first unit was taken up."""
        seconds = time.time() - self.encoding_from if self.encoding_from else 0.0
        return self.tokens / seconds if seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Until all that is planned is written, at the rate so far; by tokens, as rows differ in length."""
        done = self.planned_tokens - self.pending_tokens
        if not self.encoding_from or done <= 0:
            return None
        return max(0, self.pending_tokens) * (time.time() - self.encoding_from) / done

    def note(self) -> str:
        """The rates, for the console."""
        with self._lock:
            told = [f"{self.tokens_per_second:,.0f} tokens/s", f"{self.busy:.0%} busy"]
            told += [f"{self.padding:.1%} padding"] if self.padded_tokens else []
            told += [f"{self.in_flight} in flight"]
            told += [f"{sum(self.retries.values())} retries"] if self.retries else []
            told += [f"{self.rejects} rejects"] if self.rejects else []
        return ", ".join(told)


class _Exported(Collector):
    """The counts in Prometheus' words; read when it asks."""

    def __init__(self, metrics: Metrics, model: str) -> None:
        self._metrics, self._model = metrics, model

    def collect(self) -> Iterator[Any]:
        """All metrics."""
        metrics = self._metrics
        with metrics._lock:
            counters = {
                "rows": (metrics.rows, "Rows written, rejects included"),
                "rejects": (metrics.rejects, "Rows that could not be embedded"),
                "copied_rows": (metrics.copied_rows, "Rows that got the vector of an equal text"),
                "tokens": (metrics.tokens, "Tokens that the model has read"),
                "padded_tokens": (metrics.padded_tokens, "The same, padding included"),
                "units": (metrics.units, "Units of work written"),
                "commits": (metrics.commits, "Snapshots made"),
                "encoder_busy_seconds": (metrics.busy_seconds, "Seconds that encoders were at work"),
            }
            gauges = {
                "units_in_flight": (metrics.in_flight, "Units on their way"),
                "encoders": (metrics.encoders, "Encoders that are ready"),
                "encoder_busy_ratio": (metrics.busy, "Share of the time that encoders were at work"),
                "pending_tokens": (metrics.pending_tokens, "Planned tokens that are not written yet"),
                "seconds_left": (metrics.seconds_left or 0.0, "Until all is written, at the rate so far"),
            }
            retries = dict(metrics.retries)
        for name, (value, doc) in counters.items():
            counter = CounterMetricFamily(f"embedlake_embed_{name}", doc, labels=["model"])
            counter.add_metric([self._model], value)
            yield counter
        for name, (value, doc) in gauges.items():
            gauge = GaugeMetricFamily(f"embedlake_embed_{name}", doc, labels=["model"])
            gauge.add_metric([self._model], value)
            yield gauge
        again = CounterMetricFamily(
            "embedlake_embed_retries", "Units tried again, by what had gone wrong", labels=["model", "fault"]
        )
        for fault, count in retries.items():
            again.add_metric([self._model, fault], count)
        yield again


@contextmanager
def exported(metrics: Metrics, model: str, port: int | None, address: str) -> Iterator[None]:
    """Serves the counts at `http://address:port/metrics` while the block runs; not at all without a port.

    Raises:
        EnvironmentFault: The port is taken.
    """
    if port is None:
        yield
        return
    registry = CollectorRegistry()
    registry.register(_Exported(metrics, model))
    try:
        server, thread = start_http_server(port, address, registry)
    except OSError as error:
        raise EnvironmentFault(
            f"metrics cannot be served at {address}:{port}: {error.strerror or error}",
            "Set embed.metrics_port",
        ) from error
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
