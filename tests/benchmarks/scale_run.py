"""One curate run of a given size, in a process of its own, told as JSON: time, cost of each step, memory."""

import argparse
import json
import os
from dataclasses import asdict
from pathlib import Path

from pipelines.curate.config import CurateConfig
from pipelines.curate.run import curate
from pipelines.dedup.config import NearConfig
from pipelines.encoder.conf import load_model_conf
from pipelines.lake import Lake, LakeConfig
from pipelines.lake.config import SparkConfig
from tests.benchmarks.measure import measured
from tests.benchmarks.stages import Clock, costs, event_log

_START = "starting Spark"


def main() -> None:
    """Curates a folder into the lake of a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="of the lake; made if absent")
    parser.add_argument("input", type=Path)
    parser.add_argument("--spread", action="store_true", help="not by the driver alone")
    parser.add_argument("--heap", default="2g", help="of the JVM")
    given = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    lake = Lake.open(LakeConfig(dir=given.folder / "lake", buckets=4))
    log = given.folder / f"log-{given.input.name}"
    config = CurateConfig(source="copies")
    if given.spread:
        config = config.model_copy(update={"near": NearConfig(driver_nodes=0)})
    clock = Clock()
    with measured() as whole:
        report = curate(
            lake,
            [str(given.input)],
            load_model_conf("minilm"),
            config,
            SparkConfig(driver_memory=given.heap, conf=event_log(log)),
            clock,
        )
    result = {
        "seconds": report.seconds - clock.seconds(_START),
        "given": report.given,
        "kept": report.kept,
        "near": report.near,
        "chunks": report.chunks,
        "peak_mib": whole.peak_mib,
        "peak_java_mib": whole.peak_java_mib,
        "peak_python_mib": whole.peak_python_mib,
        "steps": {name: asdict(cost) for name, cost in costs(log, clock.steps).items() if name != _START},
    }
    print(json.dumps(result))  # noqa: T201


if __name__ == "__main__":
    main()
