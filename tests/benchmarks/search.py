"""Search of a million vectors: from the table, in memory beside a matrix product, by funnels and indexes."""
# ruff: noqa: N803  (array names carry their shape: x_ND)

import json
import os
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import numpy.typing as npt

from pipelines.encoder.conf import load_model_conf
from pipelines.encoder.fingerprint import describe_model
from pipelines.lake import Lake
from pipelines.lake.config import SparkConfig
from pipelines.lake.vector_source import VectorSource
from pipelines.progress import Silent
from pipelines.publish.config import PublishConfig
from pipelines.publish.report import Request
from pipelines.publish.run import publish
from pipelines.search.config import SearchConfig
from pipelines.search.index import build
from pipelines.search.indexed import Indexes
from pipelines.search.memory import Held
from pipelines.search.scan import scan_top
from tests.benchmarks.vectors import embedded_lake, held_out, perturbed

_ROWS, _K, _TURNS = 1_000_000, 10, 30

Row = dict[str, str]


def main() -> None:
    """Prints the rows of `python -m tests.benchmarks`."""
    vectors_ND = perturbed(_ROWS)
    queries_QD = held_out()
    with tempfile.TemporaryDirectory() as folder:
        lake = embedded_lake(Path(folder) / "lake", vectors_ND)
        del vectors_ND
        rows = _from_the_table(lake, queries_QD) + _in_memory(lake, queries_QD) + _by_index(lake, queries_QD)
    print(json.dumps(rows))  # noqa: T201


def _from_the_table(lake: Lake, queries_QD: npt.NDArray[np.float32]) -> list[Row]:
    source = VectorSource.open(lake)
    where = source.filter()
    files = source.files(where)
    one = _seconds(lambda: scan_top(source, files, where, queries_QD[:1], _K), 3)
    many = _seconds(lambda: scan_top(source, files, where, queries_QD[:_TURNS], _K), 1)
    key = describe_model(load_model_conf("minilm"), "float32").key
    publish(lake, PublishConfig(table="short", dim=64, inline_rows=_ROWS), SparkConfig(), Request(model=key))
    short = VectorSource.open(lake, "short")
    of_short = short.files(None)
    small_Qd = short.query(queries_QD[:1], 64)
    small = _seconds(lambda: scan_top(short, of_short, None, small_Qd, _K), 3)
    return [
        {
            "what": f"{_ROWS:,} x 384 float32 from the table, top {_K} of one query",
            "figure": f"{_ROWS / one:,.0f} rows/s ({one:.2f} s)",
            "beside": f"{_TURNS} queries at once: {many:.2f} s",
        },
        {
            "what": "a serving table of 64 dimensions, int8, the same",
            "figure": f"{_ROWS / small:,.0f} rows/s ({small:.2f} s)",
        },
    ]


def _in_memory(lake: Lake, queries_QD: npt.NDArray[np.float32]) -> list[Row]:
    source = VectorSource.open(lake)
    where = source.filter()
    files = source.files(where)
    started = perf_counter()
    read = Held.read(source, files, 384, SearchConfig(), where)
    reading = perf_counter() - started
    nearest = [{one.chunk_id for one in read.exact(x_D, _K)} for x_D in queries_QD]
    exact = _each(queries_QD, lambda x_D: read.exact(x_D, _K))
    product = _each(queries_QD, lambda x_D: read.x_Nd @ x_D)
    rows = [
        {
            "what": f"exact, in memory, once read ({reading:.1f} s), top {_K}",
            "figure": f"{exact * 1000:.1f} ms, {product / exact:.2f} of the speed of the product",
            "beside": f"numpy's product of the same matrix and query: {product * 1000:.1f} ms",
        }
    ]
    default = SearchConfig()
    for config, sizes in (
        (default, (500, 1_000, default.shortlist, 2 * default.shortlist)),
        (SearchConfig(funnel_rotate=False), (default.shortlist, 4 * default.shortlist)),
        (SearchConfig(funnel="binary"), (200, 800)),
    ):
        held = Held.of(read.x_Nd, read.keys, config)
        label = "signs" if config.funnel == "binary" else f"{config.funnel_dim} dimensions"
        label += ", rotated" if config.funnel == "prefix" and config.funnel_rotate else ""
        for size in sizes:
            found = [{one.chunk_id for one in held.funnel(x_D, _K, size)} for x_D in queries_QD]
            share = np.mean([len(a & b) / _K for a, b in zip(nearest, found, strict=True)])
            took = _each(queries_QD, lambda x_D, held=held, size=size: held.funnel(x_D, _K, size))
            rows.append(
                {
                    "what": f"funnel by {label}, shortlist {size:,}",
                    "figure": f"recall@{_K} {share:.4f}, {took * 1000:.1f} ms, {exact / took:.1f} x faster",
                    "beside": f"exact: {exact * 1000:.1f} ms",
                }
            )
    return rows


def _by_index(lake: Lake, queries_QD: npt.NDArray[np.float32]) -> list[Row]:
    source = VectorSource.open(lake)
    where = source.filter()
    files = source.files(where)
    config = SearchConfig()
    os.environ["XDG_CACHE_HOME"] = str(lake.config.dir)  # where indexes are fetched to
    started = perf_counter()
    made = build(lake, source, config, Silent())
    building = perf_counter() - started
    exact = scan_top(source, files, where, queries_QD, _K)
    indexes = Indexes(lake, source, config, Silent())
    indexes.top(files, where, False, queries_QD[:1], _K)  # fetches them
    found = indexes.top(files, where, False, queries_QD, _K)
    pairs = zip(exact, found, strict=True)
    share = np.mean([len({x.chunk_id for x in a} & {x.chunk_id for x in b}) / _K for a, b in pairs])
    took = _each(queries_QD, lambda x_D: indexes.top(files, where, False, x_D[None, :], _K))
    return [
        {
            "what": f"indexes of {made.built} partitions, {config.index_probes} lists probed",
            "figure": f"recall@{_K} {share:.4f}, {took * 1000:.1f} ms",
            "beside": f"built in {building:.0f} s, {made.bytes / 2**20:,.0f} MiB",
        }
    ]


def _seconds(work, turns: int) -> float:  # type: ignore[no-untyped-def] # any call
    took = []
    for _ in range(turns):
        started = perf_counter()
        work()
        took.append(perf_counter() - started)
    return min(took)


def _each(queries_QD: npt.NDArray[np.float32], work) -> float:  # type: ignore[no-untyped-def] # any call
    """The median of some queries, one by one."""
    return median(_seconds(lambda x_D=x_D: work(x_D), 1) for x_D in queries_QD[:_TURNS])


if __name__ == "__main__":
    main()
