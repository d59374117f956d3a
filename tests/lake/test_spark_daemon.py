"""The process that Spark's Python workers are forked from."""

from pathlib import Path

import pyspark

from pipelines.spark_daemon import installed_first

SITE = Path(pyspark.__file__).parents[1]
OWN = [str(SITE / "pyspark/python/lib" / name) for name in ("pyspark.zip", "py4j-0.10.9.9-src.zip")]


def test_archives_of_the_installed_pyspark_give_way_to_it() -> None:
    assert installed_first([*OWN, "/work", str(SITE)]) == ["/work", str(SITE)]


def test_archives_of_another_pyspark_and_others_stay() -> None:
    path = ["/opt/spark/python/lib/pyspark.zip", "/tmp/job.zip", "/work", str(SITE)]
    assert installed_first(path) == path
    assert installed_first(OWN) == OWN  # where none is installed, they are all that there is
