"""Maintain: vectors compacted by Spark, beside the same files by pyarrow; bytes, and how they read."""

import json
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

import numpy as np
import pyarrow as pa
from pyiceberg.table import Table
from pyiceberg.transforms import BucketTransform
from pyiceberg.types import StringType

from pipelines.embed.work.write import EMBEDDINGS_LAYOUT
from pipelines.lake import Lake, LakeConfig
from pipelines.lake.commit import append_files
from pipelines.lake.config import SparkConfig
from pipelines.lake.datafiles import WrittenFile, write_data_file
from pipelines.lake.scan import read_file, scan_files
from pipelines.lake.spark import spark_session
from pipelines.maintain.config import MaintainConfig
from pipelines.maintain.run import maintain
from pipelines.progress import Silent
from tests.benchmarks.measure import fastest, measured

_ROWS, _DIMENSION, _BUCKETS, _SMALL = 100_000, 384, 2, 2_500
_COLUMNS = ("chunk_id", "model", "doc_id", "source", "text_hash", "embedding", "unit")


def main() -> None:
    """Prints the rows of `python -m tests.benchmarks`."""
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake.open(LakeConfig(dir=Path(folder), buckets=_BUCKETS))
        lake.ensure_tables()
        table = lake.table("embeddings")
        parts = list(_partitions())
        small = [file for part in parts for file in _written(table, part, _SMALL)]
        append_files(table, small, {})
        before, _ = fastest(2, lambda: _read(lake))
        seconds, large = fastest(1, lambda: [file for part in parts for file in _written(table, part, _ROWS)])
        with measured() as whole, spark_session(lake, SparkConfig()):
            started = perf_counter()
            report = maintain(lake, MaintainConfig(), SparkConfig(), Silent(), ["embeddings"])
            took = perf_counter() - started
            again, _ = fastest(1, lambda: maintain(lake, MaintainConfig(), SparkConfig(), Silent()))
        done = report.tables[0]
        after, _ = fastest(2, lambda: _read(lake))
    size = sum(file.size for file in large)
    rows = [
        {
            "what": f"{_ROWS:,} x {_DIMENSION} float32, {done.before.data} files to {done.after.data}, "
            "session start apart",
            "figure": f"{_ROWS / took:,.0f} rows/s ({took:.1f} s), {whole.peak_mib:,.0f} MiB",
            "beside": f"written by pyarrow from memory: {_ROWS / seconds:,.0f} rows/s",
        },
        {
            "what": "bytes a row",
            "figure": f"{done.after.size / _ROWS:,.0f}, before {done.before.size / _ROWS:,.0f}",
            "beside": f"by pyarrow {size / _ROWS:,.0f}: {done.after.size / size - 1:.1%} more",
        },
        {
            "what": "all columns read, a file at a time",
            "figure": f"{_ROWS / after:,.0f} rows/s",
            "beside": f"before: {_ROWS / before:,.0f} rows/s",
        },
        {"what": "all tables again, nothing to do", "figure": f"{again:.1f} s"},
    ]
    print(json.dumps(rows))  # noqa: T201


def _partitions() -> Iterator[pa.Table]:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((_ROWS, _DIMENSION), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    bucket = BucketTransform(_BUCKETS).transform(StringType())
    places: dict[int | None, list[int]] = defaultdict(list)
    for row in range(_ROWS):
        places[bucket(f"d{row}")].append(row)
    for rows in places.values():
        ids = [f"{row:032x}" for row in rows]
        offsets = pa.array(np.arange(len(rows) + 1, dtype=np.int32) * _DIMENSION)
        flat = pa.array(vectors[rows].reshape(-1))
        one = {name: [name] * len(rows) for name in ("model", "source", "unit")}
        doc_ids = [f"d{row}" for row in rows]
        columns = {"chunk_id": ids, "text_hash": ids, "doc_id": doc_ids}
        yield pa.table({**one, **columns, "embedding": pa.ListArray.from_arrays(offsets, flat)})


def _written(table: Table, rows: pa.Table, each: int) -> list[WrittenFile]:
    starts = range(0, rows.num_rows, each)
    return [write_data_file(table, rows.slice(at, each), "bench", EMBEDDINGS_LAYOUT) for at in starts]


def _read(lake: Lake) -> int:
    table = lake.table("embeddings")
    return sum(read_file(table, file, _COLUMNS).num_rows for file in scan_files(table))


if __name__ == "__main__":
    main()
