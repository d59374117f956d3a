"""Search: rows scanned a second from the table, beside a matrix product over vectors in memory."""

import json
import tempfile
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyiceberg.transforms import BucketTransform
from pyiceberg.types import StringType

from pipelines.encoder.conf import load_model_conf
from pipelines.encoder.fingerprint import describe_model
from pipelines.lake import Lake, LakeConfig
from pipelines.lake.commit import append_files
from pipelines.lake.datafiles import ParquetLayout, write_data_file
from pipelines.lake.models import record_model
from pipelines.search.search import Searcher
from tests.benchmarks.measure import fastest, measured

_ROWS, _BUCKETS = 200_000, 4


def main() -> None:
    """Prints the rows of `python -m tests.benchmarks`."""
    conf = load_model_conf("minilm")
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((_ROWS, conf.dimension), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    with tempfile.TemporaryDirectory() as folder:
        lake = _filled(Path(folder), vectors)
        with measured() as whole:
            searcher = Searcher.open(lake, conf)
            searcher.search("a first query, which loads the model", k=10)
            full, _ = fastest(3, lambda: searcher.search("what is near", k=10))
            small, _ = fastest(3, lambda: searcher.search("what is near", k=10, dim=64))
    query = vectors[0]
    product, _ = fastest(3, lambda: np.argpartition(vectors @ query, -10))
    rows = [
        {
            "what": f"{_ROWS:,} vectors from the table, {conf.dimension} dimensions, top 10 with text",
            "figure": f"{_ROWS / full:,.0f} rows/s ({full:.2f} s)",
            "beside": f"numpy over vectors in memory: {_ROWS / product:,.0f} rows/s",
        },
        {"what": "the same at 64 dimensions", "figure": f"{_ROWS / small:,.0f} rows/s ({small:.2f} s)"},
        {"what": "peak memory, model included", "figure": f"{whole.peak_mib:,.0f} MiB"},
    ]
    print(json.dumps(rows))  # noqa: T201


def _filled(folder: Path, vectors: npt.NDArray[np.float32]) -> Lake:
    """A lake with these embeddings, and a chunk for each."""
    lake = Lake.open(LakeConfig(dir=folder, buckets=_BUCKETS))
    lake.ensure_tables()
    identity = describe_model(load_model_conf("minilm"))
    chunks, embeddings = lake.table("chunks"), lake.table("embeddings")
    record_model(embeddings, identity.key, asdict(identity))
    bucket = BucketTransform(_BUCKETS).transform(StringType())
    places = defaultdict(list)
    for row in range(len(vectors)):
        places[bucket(f"d{row}")].append(row)
    chunk_files, embedding_files = [], []
    for rows in places.values():
        ids = [f"d{row}" for row in rows]
        keys = {"chunk_id": ids, "doc_id": ids, "source": ["bench"] * len(ids)}
        numbers = {name: [0] * len(ids) for name in ("ordinal", "char_start", "char_end", "n_tokens")}
        texts = {"text": ids, "text_hash": ids, "input_ids": [[]] * len(ids)}
        chunk_files.append(write_data_file(chunks, pa.table(keys | numbers | texts), "bench"))
        flat = pa.array(vectors[rows].reshape(-1))
        offsets = pa.array(np.arange(len(rows) + 1, dtype=np.int32) * vectors.shape[1])
        made = {"model": [identity.key] * len(ids), "unit": ["0" * 32] * len(ids)}
        made["embedding"] = pa.ListArray.from_arrays(offsets, flat)
        layout = ParquetLayout(vector_columns=("embedding",))
        embedding_files.append(write_data_file(embeddings, pa.table(keys | made), "bench", layout))
    append_files(chunks, chunk_files, {})
    append_files(embeddings, embedding_files, {})
    return lake


if __name__ == "__main__":
    main()
