"""What a run tells of itself while it runs."""

import socket
from dataclasses import replace
from urllib.request import urlopen

import pytest

from pipelines.embed.metrics import Metrics, exported
from pipelines.embed.plan.units import Slice, Unit
from pipelines.embed.work.wire import REJECT_COLUMNS, Finished
from pipelines.errors import EnvironmentFault
from pipelines.lake.scan import ScanFile

_SLICE = Slice("a" * 32, ScanFile("a.parquet", ("s", 0), 0, 10), 0, 10, 10, tokens=100)
_UNIT = Finished(
    Unit(0, (_SLICE,)), (), REJECT_COLUMNS.empty_table(), 10, 120, padded=150, copied=2, began=1.0, busy=0.5
)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _metrics() -> Metrics:
    metrics = Metrics()
    metrics.planned(400)
    metrics.encoder_ready("a processor")
    metrics.finished(_UNIT)
    metrics.finished(replace(_UNIT, began=2.0))
    metrics.retried("lost")
    metrics.set_flight(3, 1)
    metrics.committed(1)
    return metrics


def test_prometheus_reads_what_was_counted() -> None:
    port = _free_port()
    with exported(_metrics(), "m@1", port, "127.0.0.1"), urlopen(f"http://127.0.0.1:{port}/metrics") as page:
        lines = page.read().decode().splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    expected = {
        'embedlake_embed_rows_total{model="m@1"}': 20,
        'embedlake_embed_tokens_total{model="m@1"}': 240,
        'embedlake_embed_padded_tokens_total{model="m@1"}': 300,
        'embedlake_embed_copied_rows_total{model="m@1"}': 4,
        'embedlake_embed_units_total{model="m@1"}': 2,
        'embedlake_embed_commits_total{model="m@1"}': 1,
        'embedlake_embed_rejects_total{model="m@1"}': 0,
        'embedlake_embed_units_in_flight{model="m@1"}': 3,
        'embedlake_embed_encoders{model="m@1"}': 1,
        'embedlake_embed_pending_tokens{model="m@1"}': 200,
        'embedlake_embed_retries_total{fault="lost",model="m@1"}': 1,
    }
    assert {name: float(values[name]) for name in expected} == expected
    with pytest.raises(OSError, match="refused"):
        urlopen(f"http://127.0.0.1:{port}/metrics")


def test_a_port_that_is_taken_is_told() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        serving = exported(Metrics(), "m@1", port, "127.0.0.1")
        with pytest.raises(EnvironmentFault, match=r"cannot be served.*metrics_port"), serving:
            pass


def test_the_time_left_follows_from_tokens() -> None:
    metrics = Metrics()
    assert metrics.seconds_left is None
    metrics.planned(300)
    metrics.finished(_UNIT)
    first = metrics.seconds_left or 0.0
    metrics.finished(_UNIT)
    second = metrics.seconds_left or 0.0
    # A third is done, then two thirds: what is left falls from twice what has passed to half of it.
    assert second == pytest.approx(first / 4, rel=0.01)
    assert metrics.padding == pytest.approx(0.2)
    assert "20.0% padding" in metrics.note()
