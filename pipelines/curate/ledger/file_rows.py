"""Rows of an Iceberg table's files, read by Spark's Python workers.

pyarrow reads lists column by column; Iceberg's reader for Spark does so with plain columns alone, and else
row by row (apache/iceberg#521).
"""

from collections.abc import Callable, Iterable, Iterator

import pyarrow as pa
from pyiceberg.expressions import BooleanExpression
from pyspark.sql import DataFrame, SparkSession

from pipelines.curate.spark_ops import Batches
from pipelines.lake.added import RemoteTable
from pipelines.lake.scan import ScanFile


def rows_of_files(
    spark: SparkSession,
    table: RemoteTable,
    files: list[ScanFile],
    columns: list[str],
    ddl: str,
    make: Callable[[Batches], Batches],
    row_filter: BooleanExpression | None = None,
) -> DataFrame:
    """What `make` makes of the files' rows, as rows of `ddl`; a task reads a group of files."""
    groups = _grouped(files, 4 * spark.sparkContext.defaultParallelism)

    def read(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for number in batch.column("number").to_pylist():
                yield from make(table.batches(groups[number], columns, row_filter))

    numbers = spark.range(0, len(groups), 1, max(len(groups), 1)).withColumnRenamed("id", "number")
    return numbers.mapInArrow(read, ddl)


def _grouped(files: list[ScanFile], count: int) -> list[list[ScanFile]]:
    """The files in about `count` groups of about equally many rows."""
    limit = sum(file.rows for file in files) / count
    groups: list[list[ScanFile]] = [[]]
    rows = 0
    for file in files:
        if groups[-1] and rows + file.rows > limit:
            groups.append([])
            rows = 0
        groups[-1].append(file)
        rows += file.rows
    return groups
