"""A worker's batches from the lake, in order, by Ray Data: from any step on, for any number of workers."""
# ruff: noqa: N806  (array names carry their shape: x_N)

import itertools
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.encoder.ragged import Ragged
from pipelines.lake import Lake, LakeConfig
from pipelines.lake.filters import equals
from pipelines.lake.scan import ScanFile, read_file, scan_files
from pipelines.lake.training_tables import BATCHES
from pipelines.train.mlm import SequenceBatch
from pipelines.train.pairs import PairBatch

COLUMNS = ("step", "slot", "unit", "input_ids", "lengths", "hashes", "guide")


@dataclass(frozen=True)
class Share:
    """What of each batch is a worker's.

    Attributes:
        rank: Of the worker.
        workers: How many there are.
        batch: Rows of a whole batch.
        shards: Parts that a batch's slots are stored in, one after the other.
    """

    rank: int
    workers: int
    batch: int
    shards: int

    @property
    def slots(self) -> range:
        """Its slots: one after the other, so that all workers' rows in order are the batch."""
        return range(self.rank * self.batch // self.workers, (self.rank + 1) * self.batch // self.workers)

    def holds(self, shard: int) -> bool:
        """Whether a shard has any of its slots."""
        first, last = shard * self.batch // self.shards, (shard + 1) * self.batch // self.shards
        return first < self.slots.stop and last > self.slots.start


def step_rows(config: LakeConfig, data: str, share: Share, steps: range) -> Iterator[pa.Table]:
    """A worker's rows, step by step, by slot.

    Args:
        config: Of the lake.
        data: Fingerprint of the batches.
        share: The worker's.
        steps: Those wanted, one after the other.
    """
    import ray

    table = Lake.open(config).table(BATCHES.name)
    segments: dict[int, list[ScanFile]] = defaultdict(list)
    for file in scan_files(table, equals("data", data)):
        _, segment, shard = file.partition
        if share.holds(shard):
            segments[segment].append(file)
    items = [
        {"segment": number, "files": json.dumps([vars(file) for file in segments[number]])}
        for number in sorted(segments)
    ]
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    reader = _Reader(config, share.slots, steps)
    rows = ray.data.from_items(items, override_num_blocks=max(1, len(items))).map_batches(
        # Reading waits for storage more than it computes; a worker's own cores are taken already.
        reader,
        batch_size=1,
        batch_format="pyarrow",
        num_cpus=0,
    )
    yield from _by_step(rows.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1))


class _Reader:
    """Reads a segment's rows that are a worker's and not done yet."""

    def __init__(self, config: LakeConfig, slots: range, steps: range) -> None:
        self._config, self._slots, self._steps = config, slots, steps

    def __call__(self, item: pa.Table) -> pa.Table:
        table = Lake.open(self._config).table(BATCHES.name)
        (files,) = item.column("files").to_pylist()
        parts = [read_file(table, _scan_file(file), COLUMNS) for file in json.loads(files)]
        rows = pa.concat_tables(parts)
        rows = rows.filter(
            pc.and_(_in(rows.column("slot"), self._slots), _in(rows.column("step"), self._steps))
        )
        return rows.sort_by([("step", "ascending"), ("slot", "ascending")])


def _in(column: pa.ChunkedArray, wanted: range) -> pa.ChunkedArray:
    return pc.and_(pc.greater_equal(column, wanted.start), pc.less(column, wanted.stop))


def _scan_file(file: dict[str, Any]) -> ScanFile:
    return ScanFile(**{**file, "partition": tuple(file["partition"]), "deletes": tuple(file["deletes"])})


def _by_step(blocks: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows, a table for each step; a step's rows may lie in several blocks."""
    held: list[pa.Table] = []
    for block in blocks:
        step_N = block.column("step").to_numpy()
        cuts = [0, *(np.flatnonzero(np.diff(step_N)) + 1).tolist(), len(step_N)]
        for start, stop in itertools.pairwise(cuts):
            if stop == start:
                continue
            piece = block.slice(start, stop - start)
            if held and held[0].column("step")[0] != piece.column("step")[0]:
                yield pa.concat_tables(held)
                held = []
            held.append(piece)
    if held:
        yield pa.concat_tables(held)


def sequences(rows: pa.Table) -> SequenceBatch:
    """A step's packed sequences."""
    ids = rows.column("input_ids").combine_chunks()
    return SequenceBatch(
        step=rows.column("step")[0].as_py(),
        slots_B=rows.column("slot").to_numpy().astype(np.int64),
        ids_BL=ids.flatten().to_numpy().reshape(len(rows), -1).astype(np.int64),
    )


def pairs(rows: pa.Table) -> PairBatch:
    """A step's pairs."""
    texts = Ragged.from_lengths(
        rows.column("input_ids").combine_chunks().flatten().to_numpy(),
        rows.column("lengths").combine_chunks().flatten().to_numpy().astype(np.int64),
    )
    lengths = rows.column("lengths").combine_chunks()
    first_n = lengths.offsets.to_numpy()[:-1].astype(np.int64) - int(lengths.offsets[0].as_py())
    negative_T = np.ones(len(texts), dtype=np.bool_)
    negative_T[first_n], negative_T[first_n + 1] = False, False
    negative_m = np.flatnonzero(negative_T)
    hash_T = rows.column("hashes").combine_chunks().flatten().to_numpy()
    guide_TG = _guide(rows, len(texts))

    def guides(places: npt.NDArray[np.int64]) -> npt.NDArray[np.float32] | None:
        return None if guide_TG is None else guide_TG[places]

    return PairBatch(
        step=rows.column("step")[0].as_py(),
        source=rows.column("unit")[0].as_py(),
        queries=texts.take(first_n),
        documents=texts.take(first_n + 1),
        negatives=texts.take(negative_m),
        query_hash_n=hash_T[first_n],
        document_hash_n=hash_T[first_n + 1],
        negative_hash_m=hash_T[negative_m],
        guide_query_nG=guides(first_n),
        guide_document_nG=guides(first_n + 1),
        guide_negative_mG=guides(negative_m),
    )


def _guide(rows: pa.Table, texts: int) -> npt.NDArray[np.float32] | None:
    column = rows.column("guide").combine_chunks()
    if column.null_count:
        return None
    vectors: npt.NDArray[np.float32] = column.flatten().to_numpy().reshape(texts, -1)
    return vectors
