"""The engine alone: rows a second with an encoder that costs nothing, and the memory of all processes."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipelines.cluster.config import RayConfig
from pipelines.embed.config import EmbedConfig
from pipelines.embed.run import embed
from pipelines.embed.work.write import EMBEDDINGS_LAYOUT
from pipelines.lake import Lake, LakeConfig
from pipelines.lake.datafiles import write_data_file
from pipelines.progress import Silent
from tests.benchmarks.measure import fastest, measured
from tests.benchmarks.synthetic import append_synthetic, constant, wide_conf

_ROWS = 1_000_000
_PYARROW_ROWS = 100_000
_TOKENS = 16


def main() -> None:
    """Prints the rows of `python -m tests.benchmarks`; each run is a process of its own."""
    small, large = (_in_a_process(rows) for rows in (_ROWS // 10, _ROWS))
    rows = [
        {
            "what": f"control plane: {_ROWS:,} rows of 768 dimensions, encoder that does nothing",
            "figure": f"{large['rows_s']:,.0f} rows/s written and committed",
            "beside": f"bar 60,000; pyarrow alone, one core: {large['pyarrow']:,.0f} rows/s",
        },
        {
            "what": f"memory of all processes, {_ROWS // 10:,} and {_ROWS:,} rows",
            "figure": f"{small['peak']:,.0f} and {large['peak']:,.0f} MiB",
            "beside": f"bar 1.1x: {large['peak'] / small['peak']:.2f}x",
        },
    ]
    print(json.dumps(rows))  # noqa: T201


def _in_a_process(rows: int) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.benchmarks.control", str(rows)]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: dict[str, float] = json.loads(told.splitlines()[-1])
    return found


def one(rows: int) -> None:
    """Embeds so many rows, and prints how that went."""
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake.open(LakeConfig(dir=Path(folder), buckets=4))
        for start in range(0, rows, 100_000):
            append_synthetic(lake, min(100_000, rows - start), 25_000, _TOKENS, start)
        config = EmbedConfig(actors=1, threads=1, commit_seconds=5, cache=False)
        with measured() as whole:
            report = embed(
                lake, wide_conf(), config, RayConfig(object_store_memory=2**30), Silent(), factory=constant
            )
        assert report.rows == rows
        seconds = report.encoding_seconds
        alone = _pyarrow(lake)
    told = {"rows_s": rows / seconds, "peak": whole.peak_mib, "pyarrow": alone, "busy": report.busy}
    print(json.dumps(told))  # noqa: T201


def _pyarrow(lake: Lake) -> float:
    """Rows a second that one thread writes in the table's layout."""
    table = lake.table("embeddings")
    rows = table.scan(limit=_PYARROW_ROWS // 8).to_arrow().drop_columns(["embedding"])
    rows = rows.filter(pa.compute.equal(rows.column("unit"), rows.column("unit")[0]))
    vectors = np.random.default_rng(0).standard_normal((rows.num_rows, 768)).astype(np.float32)
    offsets = np.arange(rows.num_rows + 1, dtype=np.int32) * 768
    column = pa.ListArray.from_arrays(pa.array(offsets), pa.array(vectors.reshape(-1)))
    rows = rows.append_column("embedding", column)
    seconds, _ = fastest(3, lambda: write_data_file(table, rows, "alone", EMBEDDINGS_LAYOUT))
    return float(rows.num_rows / seconds)


if __name__ == "__main__":
    one(int(sys.argv[1])) if len(sys.argv) > 1 else main()
