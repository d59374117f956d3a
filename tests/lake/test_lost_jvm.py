"""A JVM that ends in the middle of a job is told as such, in two lines, and nothing waits for it."""

import subprocess
import sys
from pathlib import Path

import pytest

_SCRIPT = """
import os, signal, sys
from pipelines.errors import EnvironmentFault
from pipelines.lake import Lake, LakeConfig
from pipelines.lake.config import SparkConfig
from pipelines.lake.spark import spark_session
from pyspark import SparkContext

lake = Lake.open(LakeConfig(dir=sys.argv[1]))
try:
    with spark_session(lake, SparkConfig(driver_memory="512m")) as spark:
        if sys.argv[2] == "killed":
            os.kill(SparkContext._gateway.proc.pid, signal.SIGKILL)
            spark.range(5).count()
        else:
            spark.range(1).selectExpr("length(repeat('x', 1500000000 + cast(id AS int)))").collect()
except EnvironmentFault as error:
    print(error.message, "|", error.hint)
"""


@pytest.mark.parametrize(
    ("how", "message"),
    [("killed", "Spark's JVM has ended"), ("full", "Spark's JVM ran out of memory")],
)
def test_a_jvm_that_ends_in_the_middle_is_told_with_what_to_do(
    tmp_path: Path, how: str, message: str
) -> None:
    command = [sys.executable, "-c", _SCRIPT, str(tmp_path / "lake"), how]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    said = done.stdout.strip().splitlines()[-1]
    assert said.startswith(message)
    assert "what was committed is kept" in said
    assert ("spark.driver_memory" in said) == (how == "full")
