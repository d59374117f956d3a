"""A million vectors that lie as a real model's do: MiniLM's of package descriptions, moved a little."""
# ruff: noqa: N803  (array names carry their shape: x_ND)

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyiceberg.transforms import BucketTransform
from pyiceberg.types import StringType

from pipelines.encoder.conf import load_model_conf
from pipelines.encoder.fingerprint import describe_model
from pipelines.encoder.model import Encoder
from pipelines.lake import Lake, LakeConfig
from pipelines.lake.commit import append_files
from pipelines.lake.datafiles import ParquetLayout, write_data_file
from pipelines.lake.models import record_model
from pipelines.lake.vectors import list_column
from tests.benchmarks.debian import cache_folder, debian_descriptions

_REAL, _CHARS = 40_000, 200
_HELD_OUT = 200
_FILE_ROWS = 16_384  # as embed writes at most


def perturbed(count: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """`count` vectors: a real one and a third of the difference of two others, of length 1.

    The differences lie as the corpus does, so that neighbours are as near as real ones; no two are equal.
    None is of those held out.
    """
    rng = np.random.default_rng(seed)
    real_ND = _real()[:-_HELD_OUT]
    made_ND = np.empty((count, real_ND.shape[1]), dtype=np.float32)
    for start in range(0, count, 100_000):
        size = min(100_000, count - start)
        base, one, other = rng.integers(0, len(real_ND), (3, size))
        rows_nD = real_ND[base] + (real_ND[one] - real_ND[other]) / 3
        made_ND[start : start + size] = rows_nD / np.linalg.norm(rows_nD, axis=1, keepdims=True)
    return made_ND


def held_out() -> npt.NDArray[np.float32]:
    """200 real vectors, to be queries: a moved one would find its own siblings, all the nearer, at once."""
    return _real()[-_HELD_OUT:]


def doc_ids(count: int, start: int = 0) -> list[str]:
    """Ids as a corpus has them."""
    return [f"document-{number:09d}" for number in range(start, start + count)]


def embedded_lake(folder: Path, x_ND: npt.NDArray[np.float32], buckets: int = 16) -> Lake:
    """A local lake with these vectors as embeddings by MiniLM, a document each."""
    lake = Lake.open(LakeConfig(dir=folder, buckets=buckets))
    lake.ensure_tables()
    identity = describe_model(load_model_conf("minilm"), "float32")
    record_model(lake.table("embeddings"), identity.key, asdict(identity))
    append_vectors(lake, x_ND, doc_ids(len(x_ND)))
    return lake


def append_vectors(lake: Lake, x_ND: npt.NDArray[np.float32], documents: Sequence[str]) -> None:
    """Appends embeddings, in files of one partition each, in one commit."""
    table = lake.table("embeddings")
    key = describe_model(load_model_conf("minilm"), "float32").key
    transform: BucketTransform[str] = BucketTransform(lake.config.buckets)
    bucket_N = np.asarray(transform.pyarrow_transform(StringType())(pa.array(documents)))
    rng = np.random.default_rng(int(documents[0].rpartition("-")[2]))  # ids of its own for each call
    by_bucket: dict[int, npt.NDArray[np.int64]] = defaultdict(lambda: np.empty(0, np.int64))
    for bucket in np.unique(bucket_N):
        by_bucket[int(bucket)] = np.flatnonzero(bucket_N == bucket)
    files = []
    for rows_N in by_bucket.values():
        for start in range(0, len(rows_N), _FILE_ROWS):
            at_N = rows_N[start : start + _FILE_ROWS]
            ids = [word.tobytes().hex() for word in rng.integers(0, 256, (len(at_N), 16), dtype=np.uint8)]
            rows = pa.table(
                {
                    "chunk_id": ids,
                    "model": pa.repeat(key, len(at_N)),
                    "doc_id": [documents[at] for at in at_N],
                    "source": pa.repeat("debian", len(at_N)),
                    "text_hash": ids,
                    "embedding": list_column(np.ascontiguousarray(x_ND[at_N])),
                    "unit": pa.repeat(ids[0], len(at_N)),
                }
            )
            files.append(write_data_file(table, rows, "bench", ParquetLayout(("embedding",))))
    append_files(table, files, {})


def _real() -> npt.NDArray[np.float32]:
    """Kept in the cache folder: encoding them takes minutes."""
    kept = cache_folder() / f"minilm-descriptions-{_REAL}.npy"
    if not kept.exists():
        documents = debian_descriptions()
        order = np.random.default_rng(0).permutation(len(documents))[:_REAL]
        encoder = Encoder.load(load_model_conf("minilm"), device="cpu", precision="float32")
        np.save(kept, encoder.encode_texts([documents[at].text[:_CHARS] for at in order]))
    vectors: npt.NDArray[np.float32] = np.load(kept)
    return vectors
