"""Files as a plan has them, column by column, made from small descriptions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import pyarrow as pa

from pipelines.embed.plan.evidence import ChunkFiles, EmbeddedFiles, Range
from pipelines.embed.plan.plan import Plan
from pipelines.embed.plan.units import Named, Partition

NO_DELETES: Mapping[int, int] = {}


def id_of(number: int) -> str:
    """The id of the file with a number."""
    return blake2b(str(number).encode(), digest_size=16).hexdigest()


@dataclass(frozen=True)
class Sized:
    """A file of chunks: its rows' lengths in tokens, ascending, and its partition."""

    lengths: tuple[int, ...]
    partition: Partition = ("a", 0)


def chunk_files(
    files: Sequence[Sized], ids: Sequence[str] | None = None, deleted: Mapping[int, int] = NO_DELETES
) -> ChunkFiles:
    """Files of `chunks`; a file with deletes has one file of them."""
    partitions = tuple(dict.fromkeys(file.partition for file in files))
    ids = [id_of(number) for number in range(len(files))] if ids is None else ids
    return ChunkFiles(
        partitions=partitions,
        paths=pa.array([f"/lake/{name}" for name in ids], pa.large_string()),
        ids=np.array([name.encode() for name in ids], dtype="S32"),
        partition=np.array([partitions.index(file.partition) for file in files], dtype=np.int64),
        rows=np.array([len(file.lengths) for file in files], dtype=np.int64),
        tokens=np.array([sum(file.lengths) for file in files], dtype=np.int64),
        shortest=np.array([min(file.lengths) for file in files], dtype=np.int64),
        longest=np.array([max(file.lengths) for file in files], dtype=np.int64),
        sequence=np.ones(len(files), dtype=np.int64),
        spec_id=0,
        deletes=dict.fromkeys(deleted, ("/lake/deletes",)),
        deleted=deleted,
    )


@dataclass(frozen=True)
class Stored:
    """A file of embeddings: the slice that statistics name, if they do, and its rows."""

    name: Named | None
    rows: int
    partition: Partition = ("a", 0)


def embedded_files(files: Sequence[Stored], deleted: Mapping[int, int] = NO_DELETES) -> EmbeddedFiles:
    """Files of a model's embeddings."""
    partitions = tuple(dict.fromkeys(file.partition for file in files))
    names = [file.name or Named("") for file in files]
    return EmbeddedFiles(
        partitions=partitions,
        paths=pa.array([f"/lake/e{number}" for number in range(len(files))], pa.large_string()),
        partition=np.array([partitions.index(file.partition) for file in files], dtype=np.int64),
        ids=np.array([name.file_id.encode() for name in names], dtype="S32"),
        start=np.array([name.start for name in names], dtype=np.int64),
        stop=np.array([-1 if name.stop is None else name.stop for name in names], dtype=np.int64),
        live=np.array([-1 if name.live is None else name.live for name in names], dtype=np.int64),
        rows=np.array([file.rows for file in files], dtype=np.int64),
        deletes=dict.fromkeys(deleted, ("/lake/deletes",)),
        deleted=deleted,
    )


def plan_of(files: Sequence[Sized], pending: Mapping[Range, Sequence[bool] | None]) -> Plan:
    """A plan for ranges of files; None where all rows of one are pending."""
    masks = [None if mask is None else np.array(mask, dtype=np.bool_) for mask in pending.values()]
    rows = [
        stop - start if mask is None else int(mask.sum())
        for (_, start, stop), mask in zip(pending, masks, strict=True)
    ]
    return Plan(
        model="m@1",
        chunks=chunk_files(files),
        embedded=embedded_files([]),
        chunks_snapshot=1,
        baseline=1,
        settled_rows=0,
        ranges=tuple(pending),
        rows=np.array(rows, dtype=np.int64),
        keep={at: np.packbits(mask).tobytes() for at, mask in enumerate(masks) if mask is not None},
        stale={},
    )
