"""How the vector column of a serving table is encoded: bytes a vector, and speed of writing and reading."""
# ruff: noqa: N803  (array names carry their shape: x_ND)

import io
import json
from time import perf_counter

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.encoder.quantise import VectorType, encode
from pipelines.encoder.rotation import Moment, Rotation, reduced
from pipelines.lake.vectors import bytes_column, list_column
from tests.benchmarks.vectors import perturbed

_ROWS, _TURNS = 100_000, 3
# (name, byte-stream split, zstd level, rows of a row group)
_WAYS = (
    ("plain", False, 1, 16_384),
    ("split", True, 1, 16_384),
    ("zstd 3", False, 3, 16_384),
    ("zstd 9", False, 9, 16_384),
    ("groups of 2,048", False, 1, 2_048),
    ("groups of 131,072", False, 1, 131_072),
)


def main() -> None:
    """Prints the rows of `python -m tests.benchmarks`."""
    x_ND = perturbed(_ROWS)
    rotation = Rotation.fit(Moment.of(x_ND))
    rows = []
    for dim, kind, turned in (
        (384, "float32", None),
        (384, "int8", None),
        (384, "int8", rotation),
        (128, "float32", None),
        (128, "float16", None),
        (128, "int8", None),
        (128, "int8", rotation),
        (128, "binary", None),
    ):
        column = _column(reduced(x_ND, dim, turned), kind)  # type: ignore[arg-type] # the names of types
        label = f"{dim} x {kind}{', rotated' if turned else ''}"
        for name, split, level, group in _WAYS:
            size, write, read = _measured(column, split, level, group)
            rows.append(
                {
                    "what": f"{label}: {name}",
                    "figure": f"{size:.1f} bytes a vector",
                    "beside": f"written {write / 1e6:.2f} M/s, read {read / 1e6:.2f} M/s",
                }
            )
    print(json.dumps(rows))  # noqa: T201


def _column(x_Nd: npt.NDArray[np.float32], kind: VectorType) -> pa.Array:
    return list_column(x_Nd) if kind == "float32" else bytes_column(encode(x_Nd, kind)[0])


def _measured(column: pa.Array, split: bool, level: int, group: int) -> tuple[float, float, float]:
    """Bytes a vector, vectors written and read a second: the fastest of some turns, one thread."""
    table = pa.table({"vector": column})
    path = "vector.list.element" if pa.types.is_list(column.type) else "vector"
    writes, reads = [], []
    for _ in range(_TURNS):
        sink = io.BytesIO()
        started = perf_counter()
        pq.write_table(
            table,
            sink,
            compression="zstd",
            compression_level=level,
            use_dictionary=False,
            use_byte_stream_split=[path] if split else False,
            write_statistics=False,
            row_group_size=group,
            store_schema=False,
        )
        writes.append(perf_counter() - started)
        started = perf_counter()
        pq.read_table(io.BytesIO(sink.getvalue()), use_threads=False)
        reads.append(perf_counter() - started)
    return len(sink.getvalue()) / len(column), len(column) / min(writes), len(column) / min(reads)


if __name__ == "__main__":
    main()
