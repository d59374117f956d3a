"""Engines on clusters: how encoders scale over accelerator nodes, and what a kill costs.

The nodes are real Ray nodes on this machine with logical accelerators; their encoders sleep as long as an
accelerator would compute, so that two cores can stand for eight.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from pipelines.cluster.config import RayConfig
from pipelines.cluster.session import load_ray
from pipelines.embed.config import EmbedConfig
from pipelines.embed.run import embed
from pipelines.lake import Lake, LakeConfig
from pipelines.progress import Silent
from tests.benchmarks.synthetic import Sleeping, append_synthetic, wide_conf

_NODES = (1, 2, 4, 8)
_RATE = 20_000.0  # tokens a second of one accelerator
_TOKENS = 128
_SECONDS_EACH = 30  # of encoding on each accelerator


def main() -> None:
    """Prints the rows of `python -m tests.benchmarks`."""
    rates = {nodes: float(_told("scale", str(nodes))) for nodes in _NODES}
    shown = ", ".join(f"{nodes}: {rate:,.0f}" for nodes, rate in rates.items())
    whole, killed, again, start = json.loads(_told("restart"))
    ratio = (killed + again - start) / whole
    rows = [
        {
            "what": "scaling: tokens/s by accelerator nodes (encoders sleep)",
            "figure": shown,
            "beside": f"bar 0.9 at 8: {rates[8] / 8 / rates[1]:.2f} of 8 x 1 node, "
            f"{rates[8] / 8 / _RATE:.2f} of what the encoders alone would give",
        },
        {
            "what": f"restart: killed at half of {whole:.0f} s, and run again",
            "figure": f"{killed:.0f} s + {again:.0f} s, start-up {start:.0f} s of them",
            "beside": f"bar 1.1x without the start-up: {ratio:.2f}x",
        },
    ]
    print(json.dumps(rows))  # noqa: T201


def _told(*arguments: str) -> str:
    command = [sys.executable, "-m", "tests.benchmarks.cluster", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]


def _lake(folder: str, rows: int) -> Lake:
    lake = Lake.open(LakeConfig(dir=Path(folder), buckets=2))
    append_synthetic(lake, rows, 20_000, _TOKENS)
    return lake


def scale(nodes: int) -> None:
    """Prints tokens a second of encoding on so many nodes."""
    load_ray()
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "include_dashboard": False, "object_store_memory": 2**29},
    )
    for _ in range(nodes):
        cluster.add_node(num_cpus=0, num_gpus=1, object_store_memory=200 * 2**20)
    rows = int(nodes * _SECONDS_EACH * _RATE / (_TOKENS + 2))
    with tempfile.TemporaryDirectory() as folder:
        config = EmbedConfig(device="cuda", unit_tokens=int(_RATE), commit_seconds=5, cache=False)
        address = RayConfig(address=cluster.address)
        report = embed(_lake(folder, rows), wide_conf(), config, address, Silent(), factory=Sleeping(_RATE))
    print(report.tokens_per_second)  # noqa: T201
    cluster.shutdown()  # type: ignore[no-untyped-call] # Ray's own


def restart() -> None:
    """Prints seconds of a whole run, of one killed at its half, of the next, and of a start-up."""
    rows = int(2 * _SECONDS_EACH * _RATE / (_TOKENS + 2))
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as other:
        _lake(folder, rows)
        _lake(other, rows)
        whole = _timed(folder)
        driver = _driver(other)
        began = time.perf_counter()
        assert driver.stdout is not None
        for line in driver.stdout:
            if line.startswith("done") and float(line.split()[1]) >= 0.5:
                break
        os.killpg(driver.pid, signal.SIGKILL)
        killed = time.perf_counter() - began
        driver.wait()
        again = _timed(other)
        lake = Lake.open(LakeConfig(dir=Path(other), buckets=2))
        assert lake.table("embeddings").scan().count() == rows
    start = whole[0] - whole[1]
    print(json.dumps([whole[0], killed, again[0], start]))  # noqa: T201


def _driver(folder: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tests.benchmarks.cluster", "drive", folder]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)


def _timed(folder: str) -> tuple[float, float]:
    """Seconds of a whole run, and of its encoding."""
    began = time.perf_counter()
    told, _ = _driver(folder).communicate()
    return time.perf_counter() - began, float(told.splitlines()[-1].split()[1])


class _Shares:
    """Prints which share of the tokens is written."""

    def step(self, label: str, total: int | None, unit: str) -> Any:
        self._total = total if label == "embedding" else None
        return self

    def __enter__(self) -> "_Shares":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def done(self, amount: int, note: str = "") -> None:
        if self._total:
            print(f"done {amount / self._total}", flush=True)  # noqa: T201

    def say(self, line: str) -> None:
        pass


def drive(folder: str) -> None:
    """One run, on a Ray of its own."""
    lake = Lake.open(LakeConfig(dir=Path(folder), buckets=2))
    config = EmbedConfig(actors=1, threads=1, unit_tokens=int(_RATE), cache=False)
    ray = RayConfig(object_store_memory=2**29)
    report = embed(lake, wide_conf(), config, ray, _Shares(), factory=Sleeping(_RATE))
    print(f"encoded {report.encoding_seconds}", flush=True)  # noqa: T201


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["scale", nodes]:
            scale(int(nodes))
        case ["restart"]:
            restart()
        case ["drive", folder]:
            drive(folder)
        case _:
            main()
