"""Which rows are embedded, as files' statistics prove it, and no more; pure, over columns of files.

What is true of a chunk is whether a row with its chunk_id and the model is there. A slice's embeddings carry
its name, so while files are as they were written, counts are proof: the rows of a complete slice were made
from its rows and from no others, and none of them twice. After a compaction of either table names stop
telling, and after deletes counts may: what they leave open is *unsure*, for `reconcile` to settle by
chunk_id.
"""
# ruff: noqa: N806  (array names carry their shape: x_N)

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.embed.plan.units import Named, Partition
from pipelines.lake.scan import ScanFile

Ints = npt.NDArray[np.int64]
Range = tuple[int, int, int]  # file, start, stop


@dataclass(frozen=True)
class ChunkFiles:
    """The live data files of `chunks`, N of them, by column: a million take some 200 MB.

    Attributes:
        partitions: By code.
        paths: URIs.
        ids: `file_id` of each, as `S32`.
        partition: Codes.
        rows: Rows in the file, deleted ones included.
        tokens: About how many tokens they have.
        shortest: Tokens of the shortest row.
        longest: Of the longest.
        sequence: Data sequence number: when it came.
        spec_id: The partition spec of all.
        deletes: Files of position deletes that may name a file, by the file's number.
        deleted: How many rows these name, by the file's number; -1 where that cannot be told.
    """

    partitions: tuple[Partition, ...]
    paths: pa.Array
    ids: npt.NDArray[np.bytes_]
    partition: Ints
    rows: Ints
    tokens: Ints
    shortest: Ints
    longest: Ints
    sequence: Ints
    spec_id: int
    deletes: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    deleted: Mapping[int, int] = field(default_factory=dict)

    def scan_file(self, number: int) -> ScanFile:
        """One of them."""
        return ScanFile(
            self.paths[number].as_py(),
            self.partitions[self.partition[number]],
            self.spec_id,
            int(self.rows[number]),
            self.deletes.get(number, ()),
        )

    def index(self, ids: npt.NDArray[np.bytes_]) -> Ints:
        """The numbers of the files with these ids; -1 where there is none."""
        if len(self.ids) == 0:
            return np.full(len(ids), -1, dtype=np.int64)
        order = np.argsort(self.ids)
        at = np.minimum(np.searchsorted(self.ids, ids, sorter=order), len(self.ids) - 1)
        found = order[at]
        return np.where(self.ids[found] == ids, found, -1).astype(np.int64)


@dataclass(frozen=True)
class EmbeddedFiles:
    """Data files of `embeddings` of one model, E of them, by column.

    Attributes:
        partitions: By code.
        paths: URIs.
        partition: Codes.
        ids: As `S32`, of the file of `chunks` whose slice all rows are of; empty where they are of several,
            or statistics do not tell.
        start: First row of the slice.
        stop: One past its last; -1 is the file's end.
        live: How many of its rows there were; -1 is all.
        rows: Rows in the file, deleted ones included.
        deletes: Files of position deletes that may name a file, by the file's number.
        deleted: How many rows these name, by the file's number; -1 where that cannot be told.
    """

    partitions: tuple[Partition, ...]
    paths: pa.Array
    partition: Ints
    ids: npt.NDArray[np.bytes_]
    start: Ints
    stop: Ints
    live: Ints
    rows: Ints
    deletes: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    deleted: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class RejectedChunk:
    """A chunk that the model could not embed, as its reject records it.

    Attributes:
        chunk_id: The chunk.
        partition: (source, bucket of doc_id).
        name: The slice that it was found in.
    """

    chunk_id: str
    partition: Partition
    name: Named | None


@dataclass(frozen=True)
class Verdict:
    """Every row of every file, in exactly one of three.

    Attributes:
        done: Which files are embedded or rejected to the last row.
        done_rows: Rows that are, in these and in others.
        fresh: Ranges of which no row is.
        unsure: Ranges of which only chunk_ids tell.
        unclear: Partitions with embeddings or rejects whose slices are gone, or have lost rows that these
            have not: any chunk there may have one.
    """

    done: npt.NDArray[np.bool_]
    done_rows: int
    fresh: list[Range]
    unsure: list[Range]
    unclear: frozenset[Partition]


def weigh(chunks: ChunkFiles, embedded: EmbeddedFiles, rejected: Sequence[RejectedChunk]) -> Verdict:
    """Sorts the rows of `chunks` by what is known of the embeddings and rejects of one model.

    A slice is complete if the rows of the files that carry its name, and the rejects found in it, are as many
    as it had rows when it was read. A file is done if complete slices cover it and, where rows of it or of
    its embeddings were deleted since, both have lost as many. Where only it has, the chunk may be in another
    file by now: other metadata makes a new row of the same chunk_id, and leaves its embedding alone.
    """
    names = [chunk.name or Named("") for chunk in rejected]
    ids = np.concatenate((embedded.ids, np.array([name.file_id.encode() for name in names], dtype="S32")))
    number_K = chunks.index(ids)
    start_K = np.concatenate((embedded.start, _ints(name.start for name in names)))
    stop_K = np.concatenate((embedded.stop, _ints(-1 if name.stop is None else name.stop for name in names)))
    live_K = np.concatenate((embedded.live, _ints(-1 if name.live is None else name.live for name in names)))
    rows_K = np.concatenate((embedded.rows, np.ones(len(names), dtype=np.int64)))
    lost = [int(at) for at in np.flatnonzero(number_K < 0)]
    unclear = {
        embedded.partitions[embedded.partition[at]]
        if at < len(embedded.rows)
        else rejected[at - len(embedded.rows)].partition
        for at in lost
        if rows_K[at] != embedded.deleted.get(at, 0)  # of a removed file, whose embeddings are removed too
    }
    order_K = np.argsort(number_K, kind="stable")[len(lost) :]
    bounds_N = np.searchsorted(number_K[order_K], np.arange(len(chunks.rows) + 1))

    done = np.zeros(len(chunks.rows), dtype=np.bool_)
    done_rows = 0
    untouched: list[Range] = []
    unsure: list[Range] = []
    codes = {code for code, partition in enumerate(chunks.partitions) if partition in unclear}
    of_files = zip(
        chunks.rows.tolist(),
        chunks.partition.tolist(),
        bounds_N[:-1].tolist(),
        bounds_N[1:].tolist(),
        strict=True,
    )
    for number, (rows, code, first, last) in enumerate(of_files):
        gone = chunks.deleted.get(number, 0)
        if first == last:
            (unsure if gone < 0 else untouched).append((number, 0, rows))
            continue
        slices: Counter[tuple[int, int, int]] = Counter()
        there = 0  # embeddings and rejects that were not deleted
        losses = []
        for at in order_K[first:last].tolist():
            stop = rows if stop_K[at] < 0 else int(stop_K[at])
            start = int(start_K[at])
            slices[start, stop, stop - start if live_K[at] < 0 else int(live_K[at])] += int(rows_K[at])
            losses.append(embedded.deleted.get(at, 0))
            there += int(rows_K[at]) - losses[-1]
        complete, broken = _parted(slices)
        # Fewer than the slice's rows without a delete: chunks were rolled back to before it.
        fewer = any(live < stop - start for start, stop, live in slices)
        if gone or any(losses) or fewer:
            counted = gone >= 0 and min(losses) >= 0
            if counted and not broken and not _gaps(complete, rows) and there == rows - gone:
                done[number] = True
                done_rows += rows - gone
            else:
                unsure.append((number, 0, rows))
                if gone:
                    codes.add(code)
            continue
        gaps = _gaps(complete + broken, rows)
        done[number] = not gaps and not broken
        done_rows += sum(stop - start for start, stop in complete)
        unsure += [(number, start, stop) for start, stop in _without(broken, complete)]
        untouched += [(number, start, stop) for start, stop in gaps]
    fresh = [found for found in untouched if int(chunks.partition[found[0]]) not in codes]
    unsure += [found for found in untouched if int(chunks.partition[found[0]]) in codes]
    unclear |= {chunks.partitions[code] for code in codes}
    return Verdict(done, done_rows, fresh, unsure, frozenset(unclear))


def _ints(values: Iterable[int]) -> Ints:
    return np.fromiter(values, dtype=np.int64)


def _parted(slices: Counter[tuple[int, int, int]]) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Ranges of complete slices, none within another, and of others."""
    complete, broken = [], []
    reached = -1
    for (start, stop, expected), rows in sorted(slices.items(), key=lambda item: (item[0][0], -item[0][1])):
        if rows != expected or start < reached:  # two complete slices that overlap cannot be: be careful
            broken.append((start, stop))
        else:
            complete.append((start, stop))
            reached = stop
    return complete, broken


def _gaps(ranges: list[tuple[int, int]], rows: int) -> list[tuple[int, int]]:
    """What ranges leave of 0 to `rows`."""
    gaps, reached = [], 0
    for start, stop in sorted(ranges):
        if start > reached:
            gaps.append((reached, start))
        reached = max(reached, stop)
    return gaps + ([(reached, rows)] if reached < rows else [])


def _without(ranges: list[tuple[int, int]], others: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """What the others leave of some ranges, each row once."""
    left: list[tuple[int, int]] = []
    reached = 0
    for start, stop in sorted(ranges):
        start = max(start, reached)
        inside = [(max(a, start) - start, min(b, stop) - start) for a, b in others if a < stop and b > start]
        if start < stop:
            left += [(start + a, start + b) for a, b in _gaps(inside, stop - start)]
        reached = max(reached, stop)
    return left
