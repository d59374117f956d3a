"""Chunks made of nothing, and encoders that do nothing: what is left is the engine."""

import time
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import pyarrow as pa
from pyiceberg.transforms import BucketTransform
from pyiceberg.types import StringType

from pipelines.embed.work.wire import BatchEncoder, Job
from pipelines.encoder.conf import ModelConf, load_model_conf
from pipelines.encoder.encoded import Encoded
from pipelines.encoder.ragged import Ragged
from pipelines.encoder.tokenizer import Tokenizer
from pipelines.lake import Lake
from pipelines.lake.commit import append_files
from pipelines.lake.datafiles import write_data_file

_DISTINCT = 16_384


def wide_conf(dimension: int = 768) -> ModelConf:
    """MiniLM's tokenizer, and vectors of another dimension, which only these encoders give."""
    conf = load_model_conf("minilm")
    return conf.model_copy(update={"name": "noop", "dimension": dimension, "dimensions": (dimension,)})


def append_synthetic(lake: Lake, rows: int, rows_per_file: int, tokens: int, start: int = 0) -> None:
    """Appends chunks of one source, each of its own document, spread over the buckets."""
    lake.ensure_tables()
    tokenizer = Tokenizer.load(load_model_conf("minilm"))
    lake.bind_tokenizer(tokenizer.fingerprint)
    table = lake.table("chunks")
    rng = np.random.default_rng(start)
    transform: BucketTransform[str] = BucketTransform(lake.config.buckets)
    docs = pa.array([f"doc-{start + number:010d}" for number in range(rows)], pa.large_string())
    bucket_N = np.asarray(transform.pyarrow_transform(StringType())(docs.cast(pa.string())))
    files = []
    for bucket in np.unique(bucket_N).tolist():
        members = np.flatnonzero(bucket_N == bucket)
        for first in range(0, len(members), rows_per_file):
            files.append(
                write_data_file(table, _rows(docs, members[first : first + rows_per_file], tokens, rng), "c")
            )
    append_files(table, files, {"embedlake.stage": "curate"})


def _rows(
    docs: pa.Array, members: np.ndarray[tuple[int], np.dtype[np.int64]], tokens: int, rng: np.random.Generator
) -> pa.Table:
    own = docs.take(pa.array(members))
    count = len(members)
    lengths = np.sort(rng.integers(max(1, tokens // 2), tokens * 3 // 2 + 1, count)).astype(np.int32)
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    ids = rng.integers(1000, 30_000, int(offsets[-1]), dtype=np.int32)
    hashes = [blake2b(doc.encode(), digest_size=16).hexdigest() for doc in own.to_pylist()]
    zero = pa.array(np.zeros(count, dtype=np.int32))
    return pa.table(
        {
            "chunk_id": pa.array(hashes, pa.large_string()),
            "doc_id": own,
            "source": pa.repeat("synthetic", count),
            "ordinal": zero,
            "text": pa.repeat("text", count),
            "text_hash": pa.array(hashes, pa.large_string()),
            "char_start": zero,
            "char_end": zero,
            "input_ids": pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(ids)),
            "n_tokens": pa.array(lengths),
        }
    )


class Constant:
    """Gives the same unit vectors again and again, at no cost."""

    def __init__(self, key: str, dimension: int) -> None:
        self.key = key
        vectors_ND = np.random.default_rng(0).standard_normal((_DISTINCT, dimension)).astype(np.float32)
        self._vectors_ND = vectors_ND / np.linalg.norm(vectors_ND, axis=1, keepdims=True)

    def encode(self, rows: Ragged, batch_tokens: int | None) -> Encoded:
        """As many of them as rows."""
        tokens = len(rows.values_T)
        at_N = np.arange(len(rows)) % _DISTINCT
        same = len(rows) <= _DISTINCT
        return Encoded(self._vectors_ND[: len(rows)] if same else self._vectors_ND[at_N], tokens, tokens)


def constant(job: Job, device: str, threads: int | None) -> BatchEncoder:
    """Makes a `Constant`."""
    return Constant(job.model.key, job.model.dimension)


@dataclass(frozen=True)
class Sleeping:
    """Makes, and is, an encoder that sleeps as long as an accelerator would compute.

    Attributes:
        tokens_per_second: Of the accelerator.
        key: The model's; empty before it is made.
        dimension: Of its vectors.
    """

    tokens_per_second: float
    key: str = ""
    dimension: int = 0

    def __call__(self, job: Job, device: str, threads: int | None) -> BatchEncoder:
        return Sleeping(self.tokens_per_second, job.model.key, job.model.dimension)

    def encode(self, rows: Ragged, batch_tokens: int | None) -> Encoded:
        """Unit vectors, after a while."""
        tokens = len(rows.values_T)
        time.sleep(tokens / self.tokens_per_second)
        vectors_ND = np.zeros((len(rows), self.dimension), dtype=np.float32)
        vectors_ND[:, 0] = 1.0
        return Encoded(vectors_ND, tokens, tokens)
