"""Curate at 100,000, 300,000 and 1,000,000 documents: growth of each step, memory, and what 1 % more costs.

What the growth says of a billion documents is computed from the fit, not measured.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.copies import write_copies

_SIZES = (100_000, 300_000, 1_000_000)
_BILLION, _EXECUTORS, _CORES, _PARTITIONS = 1_000_000_000, 64, 16, 20_000
_LOCAL_PARTITIONS = 4  # of a shuffle in these runs: twice the cores
_HEAP = "1g"

Run = dict[str, Any]


def main() -> None:
    """Prints the rows of `python -m tests.benchmarks`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        runs = {size: _run(folder, f"{size}", size, "--spread", "--heap", _HEAP) for size in _SIZES}
        more = _run(folder, f"{_SIZES[-1]}", _SIZES[-1] // 100, first=_SIZES[-1])
    rows = [_throughput(size, run) for size, run in runs.items()]
    rows += [_growth(runs), _memory(runs), *_projection(runs), _added(runs[_SIZES[-1]], more)]
    print(json.dumps(rows))  # noqa: T201


def _run(folder: Path, lake: str, count: int, *options: str, first: int = 0) -> Run:
    source = folder / f"in-{first}-{count}"
    write_copies(source, count, first)
    command = [sys.executable, "-m", "tests.benchmarks.scale_run", str(folder / lake), str(source), *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: Run = json.loads(done.stdout.strip().splitlines()[-1])
    print(f"{count:,} from {first:,}: {json.dumps(result)}", file=sys.stderr)  # noqa: T201
    return result


def _throughput(size: int, run: Run) -> dict[str, str]:
    steps = ", ".join(
        f"{label} {cost['seconds']:.0f}" for label, cost in run["steps"].items() if cost["seconds"] > 2
    )
    return {
        "what": f"curate of {size:,} perturbed copies, session start apart",
        "figure": f"{run['seconds']:.0f} s, {size / run['seconds']:,.0f} documents/s",
        "beside": f"{steps} s; {run['near']:,} near duplicates, {run['chunks']:,} chunks",
    }


def _growth(runs: dict[int, Run]) -> dict[str, str]:
    parts = []
    for label in runs[_SIZES[-1]]["steps"]:
        values = [runs[size]["steps"][label]["core_seconds"] for size in _SIZES]
        if values[-1] > 5:
            parts.append(f"{label} n^{_exponent(values):.2f}")
    whole = _exponent([run["seconds"] for run in runs.values()])
    return {
        "what": "growth of core-seconds from 100,000 to 1,000,000, fitted as a power of the documents",
        "figure": f"whole run n^{whole:.2f}",
        "beside": ", ".join(parts),
    }


def _memory(runs: dict[int, Run]) -> dict[str, str]:
    small, large = runs[_SIZES[0]], runs[_SIZES[-1]]
    return {
        "what": f"memory of executors and driver, one process tree, heap {_HEAP}: 100,000 to 1,000,000",
        "figure": f"{small['peak_mib']:,.0f} to {large['peak_mib']:,.0f} MiB "
        f"({large['peak_mib'] / small['peak_mib']:.2f}x)",
        "beside": f"the JVM {small['peak_java_mib']:,.0f} to {large['peak_java_mib']:,.0f}, "
        f"the Python workers and driver {small['peak_python_mib']:,.0f} to {large['peak_python_mib']:,.0f}",
    }


def _projection(runs: dict[int, Run]) -> list[dict[str, str]]:
    """Core-hours, shuffled bytes and the largest task of a billion documents, by the fits.

    An exponent below 1 is a fixed cost wearing off, and is taken as 1.
    """
    last = runs[_SIZES[-1]]["steps"]
    hours = shuffled = largest = 0.0
    for label, cost in last.items():
        for name in ("core_seconds", "shuffled"):
            values = [runs[size]["steps"][label][name] for size in _SIZES]
            exponent = max(1.0, _exponent(values)) if min(values) > 0 else 1.0
            grown = cost[name] * (_BILLION / _SIZES[-1]) ** exponent
            hours += grown / 3600 if name == "core_seconds" else 0
            shuffled += grown if name == "shuffled" else 0
        share = cost["largest"] * _LOCAL_PARTITIONS / _PARTITIONS
        largest = max(largest, share * _BILLION / _SIZES[-1])
    cluster = f"{_EXECUTORS} executors of {_CORES} cores, {_PARTITIONS:,} shuffle partitions"
    return [
        {
            "what": f"a billion documents of this kind on {cluster}, by the fits (not measured)",
            "figure": f"{hours:,.0f} core-hours, {hours / _EXECUTORS / _CORES:.1f} h",
            "beside": f"{shuffled / 1e12:.1f} TB shuffled in all steps, largest task {largest / 1e6:,.0f} MB",
        }
    ]


def _added(whole: Run, more: Run) -> dict[str, str]:
    return {
        "what": f"adding {more['given']:,} documents to {whole['given']:,}, session start apart",
        "figure": f"{more['seconds']:.0f} s",
        "beside": f"{more['seconds'] / whole['seconds']:.1%} of the full run's {whole['seconds']:.0f} s",
    }


def _exponent(values: list[float]) -> float:
    """The power of the sizes that fits best."""
    return float(np.polyfit(np.log(_SIZES), np.log(np.maximum(values, 1e-9)), 1)[0])


if __name__ == "__main__":
    main()
