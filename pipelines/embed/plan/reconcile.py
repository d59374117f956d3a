"""Settles by chunk_id what files' statistics leave open, one partition in memory at a time."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.table import Table

from pipelines.embed.plan.evidence import ChunkFiles, EmbeddedFiles, Range, RejectedChunk, Verdict
from pipelines.embed.plan.units import Partition
from pipelines.lake.scan import ScanFile
from pipelines.lake.slices import read_slice
from pipelines.progress import Progress

IDS = pa.large_string()


@dataclass
class Reconciled:
    """What chunk_ids tell.

    Attributes:
        pending: Ranges with pending rows, and which rows these are (packed bits); None is all.
        pending_rows: How many rows are pending in each.
        done_rows: Rows of the unsure ranges that are embedded or rejected.
        stale: chunk_ids, by partition, that have an embedding or a reject and no chunk.
        doubled: chunk_ids, by partition, that have an embedding and a reject: one job could embed what
            another could not, at the same time.
    """

    pending: list[tuple[Range, bytes | None]] = field(default_factory=list)
    pending_rows: list[int] = field(default_factory=list)
    done_rows: int = 0
    stale: dict[Partition, pa.Array] = field(default_factory=dict)
    doubled: dict[Partition, pa.Array] = field(default_factory=dict)


def reconcile(
    tables: tuple[Table, Table],
    model: str,
    chunks: ChunkFiles,
    embedded: EmbeddedFiles,
    rejected: Sequence[RejectedChunk],
    verdict: Verdict,
    progress: Progress,
) -> Reconciled:
    """Compares the chunk_ids of unsure ranges with those of the model's embeddings and rejects.

    Args:
        tables: `chunks` and `embeddings`, as they were when the files were listed.
        model: The model's key.
        chunks: Their files.
        embedded: Theirs.
        rejected: The model's rejects.
        verdict: Of these files.
        progress: Told of each range.

    Raises:
        FileNotFoundError: A file was compacted, and then removed, since it was listed.
    """
    result = Reconciled()
    by_partition: dict[Partition, list[Range]] = defaultdict(list)
    for found in verdict.unsure:
        by_partition[chunks.partitions[chunks.partition[found[0]]]].append(found)
    for partition in verdict.unclear:
        by_partition.setdefault(partition, [])  # embeddings of chunks that are gone, perhaps
    if not by_partition:
        return result
    codes = {partition: code for code, partition in enumerate(embedded.partitions)}
    looked_at = 0
    with progress.step("comparing chunk ids", len(verdict.unsure), "files") as step:
        for partition, ranges in by_partition.items():
            code = codes.get(partition, -1)
            files = np.flatnonzero(embedded.partition == code) if code >= 0 else np.empty(0, np.int64)
            if partition not in verdict.unclear:  # then a file's embeddings carry its name
                ids = np.unique(chunks.ids[[number for number, _, _ in ranges]])
                files = files[np.isin(embedded.ids[files], ids)]
                names = {value.decode() for value in ids.tolist()}
                refused = [c.chunk_id for c in rejected if c.name and c.name.file_id in names]
            else:
                refused = [c.chunk_id for c in rejected if c.partition == partition]
            embeddings = embedded_ids(tables[1], model, embedded, files)
            rejects = pa.array(refused, IDS)
            both = pc.is_in(rejects, value_set=embeddings)
            if pc.any(both).as_py():
                result.doubled[partition] = rejects.filter(both)
            known = joined([embeddings, rejects.filter(pc.invert(both))])
            matched = 0
            for found in ranges:
                matched += _settle(tables[0], chunks, found, known, result)
                looked_at += 1
                step.done(looked_at)
            settled = _done_rows(chunks, verdict, partition) if partition in verdict.unclear else 0
            if len(known) > matched + settled:
                stale = _without_chunk(tables[0], chunks, partition, known)
                if len(stale):
                    result.stale[partition] = stale
    return result


def _settle(table: Table, chunks: ChunkFiles, found: Range, known: pa.Array, result: Reconciled) -> int:
    """Adds a range to the result; gives how many of its rows are known."""
    number, start, stop = found
    rows, positions = read_slice(table, chunks.scan_file(number), start, stop, ["chunk_id"])
    absent = pending_mask(rows.column(0), known)
    here = len(absent) - int(absent.sum())
    result.done_rows += here
    if absent.any():
        mask = np.zeros(stop - start, dtype=np.bool_)
        mask[positions[absent] - start] = True
        # With all rows pending no bits are kept, deleted rows or not: the reader leaves those out anyway.
        result.pending.append((found, None if absent.all() else np.packbits(mask).tobytes()))
        result.pending_rows.append(int(absent.sum()))
    return here


def pending_mask(chunk_ids: pa.ChunkedArray, known: pa.Array) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which rows' chunk_ids are not among the known ones."""
    absent = pc.invert(pc.is_in(chunk_ids.cast(IDS), value_set=known))
    return np.asarray(absent.to_numpy(), dtype=np.bool_)


def embedded_ids(embeddings: Table, model: str, files: EmbeddedFiles, numbers: Iterable[int]) -> pa.Array:
    """The chunk_ids in some of a model's files, deleted rows left out."""
    scans = [
        ScanFile(
            files.paths[int(number)].as_py(),
            (model, *files.partitions[files.partition[number]]),
            embeddings.spec().spec_id,
            int(files.rows[number]),
            files.deletes.get(int(number), ()),
        )
        for number in numbers
    ]
    return ids_of(embeddings, scans)


def ids_of(table: Table, files: Iterable[ScanFile]) -> pa.Array:
    """The chunk_ids of files' live rows, as large_string."""
    return joined(read_slice(table, file, 0, file.rows, ["chunk_id"])[0].column(0) for file in files)


def joined(arrays: Iterable[pa.Array | pa.ChunkedArray]) -> pa.Array:
    """Strings of several arrays in one."""
    pieces: list[pa.Array] = [pa.array([], IDS)]
    for array in arrays:
        pieces += array.chunks if isinstance(array, pa.ChunkedArray) else [array]
    return pa.concat_arrays([piece.cast(IDS) for piece in pieces])


def _done_rows(chunks: ChunkFiles, verdict: Verdict, partition: Partition) -> int:
    code = chunks.partitions.index(partition) if partition in chunks.partitions else -1
    numbers = np.flatnonzero((chunks.partition == code) & verdict.done)
    return int(chunks.rows[numbers].sum()) - sum(chunks.deleted.get(int(number), 0) for number in numbers)


def _without_chunk(table: Table, chunks: ChunkFiles, partition: Partition, known: pa.Array) -> pa.Array:
    """Of the known chunk_ids, those that no file of the partition holds."""
    code = chunks.partitions.index(partition) if partition in chunks.partitions else -1
    files = [chunks.scan_file(int(number)) for number in np.flatnonzero(chunks.partition == code)]
    return known.filter(pc.invert(pc.is_in(known, value_set=ids_of(table, files))))
