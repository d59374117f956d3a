"""`make bench`: one benchmark per stage, each in a process of its own, printed as a table.

Speed is given beside a named peer or limit that was measured in the same run, since machines differ.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from datetime import date
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

_STAGES = (
    "curate",
    "chunk",
    "near",
    "scale",
    "skew",
    "encode",
    "embed",
    "control",
    "planning",
    "cluster",
    "encodings",
    "publish",
    "search",
    "maintain",
    "mine",
    "train",
)
_VERSIONS = ("pyspark", "ray", "torch", "transformers", "pyiceberg", "pyarrow")


def main() -> None:
    """Runs the benchmarks named on the command line, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("stages", nargs="*", default=_STAGES, metavar=f"{{{','.join(_STAGES)}}}")
    stages = parser.parse_args().stages
    console = Console(width=120)
    console.print(f"{date.today()}, {machine()}", highlight=False)
    console.print(", ".join(f"{name} {version(name)}" for name in _VERSIONS), highlight=False)
    table = Table(title="python -m tests.benchmarks", title_justify="left")
    for name in ("stage", "what", "figure", "beside"):
        table.add_column(name)
    for stage in stages:
        for row in run(stage):
            table.add_row(stage, row["what"], row["figure"], row.get("beside", ""))
    console.print(table)


def run(stage: str) -> list[dict[str, str]]:
    """The rows that a stage's benchmark prints as JSON on its last line."""
    command = [sys.executable, "-m", f"tests.benchmarks.{stage}"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    rows: list[dict[str, str]] = json.loads(done.stdout.strip().splitlines()[-1])
    return rows


def machine() -> str:
    """The processor, its cores and the memory."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    name = next(
        (line.partition(":")[2].strip() for line in lines if "model name" in line), platform.machine()
    )
    bf16 = "bf16" if any("avx512_bf16" in line or "amx_bf16" in line for line in lines) else "no bf16"
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    return f"{name} ({bf16}), {cores} cores, {gib:.0f} GiB, Python {platform.python_version()}"


if __name__ == "__main__":
    main()
