"""Publishing a million embeddings: rows a second, what an increment costs, and the bytes of each type."""

import json
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np
from pyiceberg.table import Table

from pipelines.encoder.conf import load_model_conf
from pipelines.encoder.fingerprint import describe_model
from pipelines.lake import Lake
from pipelines.lake.config import SparkConfig
from pipelines.lake.delta import DeadRows, Delta, commit_delta
from pipelines.lake.scan import scan_files
from pipelines.lake.slices import read_slice
from pipelines.lake.spark import spark_session, start_workers
from pipelines.publish.config import PublishConfig
from pipelines.publish.report import Report, Request
from pipelines.publish.run import publish
from tests.benchmarks.vectors import append_vectors, doc_ids, embedded_lake, perturbed

_ROWS, _SHARE = 1_000_000, 0.01
_SPARK = SparkConfig()


def main() -> None:
    """Prints the rows of `python -m tests.benchmarks`."""
    vectors = perturbed(_ROWS)
    few = int(_ROWS * _SHARE)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        lake = embedded_lake(Path(folder), vectors)
        config = PublishConfig(dim=128, type="int8")
        started = perf_counter()
        with spark_session(lake, _SPARK) as spark:
            start_workers(spark)
            session = perf_counter() - started
            full = _put(lake, config)
            rows.append(
                {
                    "what": f"{_ROWS:,} x 384 to 128 dimensions, int8, two cores, session start apart",
                    "figure": f"{_ROWS / full.seconds:,.0f} rows/s ({full.seconds:.1f} s)",
                    "beside": f"session and workers: {session:.1f} s",
                }
            )
            before = lake.table(full.table).metadata.current_snapshot_id
            again = _put(lake, config)
            kept = lake.table(full.table).metadata.current_snapshot_id == before
            rows.append(
                {
                    "what": "again with nothing new",
                    "figure": f"{again.seconds:.2f} s, {'no snapshot, no file' if kept else 'A REWRITE'}",
                }
            )
            sizes = {(128, "int8"): _bytes(lake.table(full.table))}
            for dim in (384, 128):
                for kind in ("float32", "float16", "int8", "binary"):
                    if (dim, kind) not in sizes:
                        made = _put(lake, PublishConfig.model_validate({"dim": dim, "type": kind}))
                        sizes[dim, kind] = _bytes(lake.table(made.table))
            rotated = _put(lake, PublishConfig(table="rotated", dim=128, rotate=True))
        append_vectors(lake, perturbed(1, seed=1), doc_ids(1, _ROWS))
        one = _put(lake, config)
        append_vectors(lake, perturbed(few, seed=2), doc_ids(few, _ROWS + 1))
        added = _put(lake, config)
        _delete(lake, few)
        append_vectors(lake, perturbed(few, seed=3), doc_ids(few, 2 * _ROWS))
        mixed = _put(lake, config)
    for label, report in (("new", added), ("new and 1 % gone, in all partitions", mixed)):
        share = (report.seconds - one.seconds) / full.seconds
        rows.append(
            {
                "what": f"increment: {_SHARE:.0%} {label}",
                "figure": f"{report.seconds:.2f} s, {share:.1%} of the full one without the start-up",
                "beside": f"start-up, an increment of one row: {one.seconds:.2f} s",
            }
        )
    for dim in (384, 128):
        told = ", ".join(
            f"{kind} {sizes[dim, kind] / _ROWS:.0f}" for kind in ("float32", "float16", "int8", "binary")
        )
        rows.append(
            {
                "what": f"bytes a row at {dim} dimensions, ids included",
                "figure": told,
                "beside": f"int8 is {sizes[dim, 'int8'] / sizes[dim, 'float32']:.3f} of float32",
            }
        )
    rows.append({"what": "rotated: fitted, and published", "figure": f"{rotated.seconds:.1f} s"})
    print(json.dumps(rows))  # noqa: T201


def _put(lake: Lake, config: PublishConfig) -> Report:
    key = describe_model(load_model_conf("minilm"), "float32").key
    return publish(lake, config, _SPARK, Request(model=key))


def _bytes(table: Table) -> int:
    return sum(task.file.file_size_in_bytes for task in table.scan().plan_files())


def _delete(lake: Lake, count: int) -> None:
    """Takes some rows out of every file, as a delete of theirs by curate does."""
    table = lake.table("embeddings")
    files = scan_files(table)
    dead = []
    for number, file in enumerate(files):
        _, positions = read_slice(table, file, 0, file.rows, ["chunk_id"])
        own = count // len(files) + (number < count % len(files))
        chosen = np.random.default_rng(number).choice(positions, min(own, len(positions)), replace=False)
        if len(chosen):
            dead.append(DeadRows(file.path, file.partition, file.spec_id, np.sort(chosen)))
    if not commit_delta(table, Delta([], dead), "bench", {"embedlake.stage": "curate"}, {}):
        raise RuntimeError("the embeddings were changed by another process")


if __name__ == "__main__":
    main()
