"""Which units of work are done, from files' statistics alone; pure logic, no table is touched here.

A unit is one data file of `chunks`; its embeddings carry its id in their `unit` column, one value a file.
What is true of a chunk, though, is whether a row with its chunk_id and the model is there: after a compaction
of either table, or deletes, units stop telling. So each unit is sorted into one of three: done, whole, which
is pending with all its rows, or unsure, which `pipelines.embed.survey` settles by chunk_id.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from pipelines.lake.scan import ScanFile

Partition = tuple[str, int]  # source, bucket of doc_id

_FILE_SCHEME = re.compile(r"^(file|s3a?):/*")


@dataclass(frozen=True)
class ChunkFile:
    """A live data file of `chunks`: one unit of work.

    Attributes:
        unit: Its id.
        file: The file with its position deletes; its partition is (source, bucket of doc_id).
    """

    unit: str
    file: ScanFile

    @property
    def partition(self) -> Partition:
        """Where its embeddings belong, below the model."""
        source, bucket = self.file.partition
        return source, bucket


@dataclass(frozen=True)
class EmbeddedFile:
    """A data file of `embeddings`, as its statistics show it.

    Attributes:
        path: Its URI.
        model: Key of the model.
        partition: (source, bucket of doc_id).
        unit: The unit of all its rows; None where they are of several, or statistics do not tell.
        rows: Rows in the file, deleted ones included.
    """

    path: str
    model: str
    partition: Partition
    unit: str | None
    rows: int


@dataclass(frozen=True)
class RejectedChunk:
    """A chunk that the model could not embed, as its reject records it.

    Attributes:
        chunk_id: The chunk.
        partition: (source, bucket of doc_id) of its unit.
        unit: The unit that it was found in.
    """

    chunk_id: str
    partition: Partition
    unit: str


@dataclass(frozen=True)
class SortedUnits:
    """All units, each in exactly one of three.

    Attributes:
        done: Every row is embedded or rejected.
        whole: No row is.
        unsure: Only chunk_ids tell.
    """

    done: tuple[ChunkFile, ...]
    whole: tuple[ChunkFile, ...]
    unsure: tuple[ChunkFile, ...]


@dataclass(frozen=True)
class PendingUnit:
    """A unit with work left; crosses processes.

    Attributes:
        unit: Its id.
        file: The chunks file with its position deletes.
        rows: How many of its rows are pending; at least one.
        keep: Which: a bit for each row of the file (deleted rows left out), as `numpy.packbits` packs them;
            None where all are.
    """

    unit: str
    file: ScanFile
    rows: int
    keep: bytes | None = None


@dataclass(frozen=True)
class Plan:
    """What one run has to do, and what it must know to commit safely.

    Attributes:
        model: The model's key.
        pending: Units with work left.
        settled_rows: Chunks that were embedded or rejected before.
        units: Every unit of the snapshot of `chunks` that was read: their rows are disjoint.
        baseline: Paths of the model's embeddings files that were taken into account.
    """

    model: str
    pending: tuple[PendingUnit, ...]
    settled_rows: int
    units: frozenset[str]
    baseline: frozenset[str]

    @property
    def pending_rows(self) -> int:
        """Chunks without an embedding of the model and without a reject."""
        return sum(unit.rows for unit in self.pending)


def unit_id(path: str, location: str) -> str:
    """The id of the unit that a chunks file is: 32 hex digits.

    It hashes the path below the table's location, so a lake that was moved with its files keeps its ids.

    Args:
        path: The data file's URI.
        location: The table's.
    """
    # The two engines write one place in two ways: file:/lake and file:///lake, s3:// and s3a://.
    plain, base = (_FILE_SCHEME.sub("/", uri) for uri in (path, location))
    return blake2b(plain.removeprefix(base.rstrip("/") + "/").encode(), digest_size=16).hexdigest()


def sort_units(
    chunks: Sequence[ChunkFile],
    embedded: Iterable[EmbeddedFile],
    rejected: Iterable[RejectedChunk],
    deleted: Collection[Partition],
) -> SortedUnits:
    """Sorts units by what files' statistics prove, and no more.

    A unit is done if the embeddings files that carry it alone, and the rejects found in it, have together
    as many rows as its file: they were made from its rows and from no others, and none of them twice. It is
    whole if nothing of it can be there: each embeddings file of its partition carries one unit, a live and
    another one, and no reject there was found in a unit that is gone. All else is unsure.

    Args:
        chunks: The units, of one snapshot.
        embedded: The model's embeddings files.
        rejected: The model's rejects.
        deleted: Partitions where position deletes apply to the model's embeddings.
    """
    live = {chunk.unit for chunk in chunks}
    found: Counter[str] = Counter()
    unclear = set(deleted)
    for file in embedded:
        if file.unit is None or file.unit not in live:
            unclear.add(file.partition)
        else:
            found[file.unit] += file.rows
    for chunk in rejected:
        if chunk.unit in live:
            found[chunk.unit] += 1
        else:
            unclear.add(chunk.partition)

    done, whole, unsure = [], [], []
    for unit in chunks:
        if unit.file.deletes or unit.partition in deleted:
            unsure.append(unit)
        elif found[unit.unit] == unit.file.rows:
            done.append(unit)
        elif found[unit.unit] == 0 and unit.partition not in unclear:
            whole.append(unit)
        else:
            unsure.append(unit)
    return SortedUnits(tuple(done), tuple(whole), tuple(unsure))


def rivals(
    candidate: EmbeddedFile, landed: Iterable[EmbeddedFile], units: Collection[str]
) -> list[EmbeddedFile]:
    """Files that others have committed since the plan and that may hold rows of `candidate`.

    Args:
        candidate: A file of ours, not yet committed, of one unit.
        landed: The model's files in the candidate's partition that neither the plan nor we know.
        units: `Plan.units`: a file of another of these units shares no row with the candidate.
    """
    return [file for file in landed if file.unit == candidate.unit or file.unit not in units]


def by_partition(files: Iterable[EmbeddedFile]) -> dict[Partition, list[EmbeddedFile]]:
    """Files grouped by their partition."""
    grouped: dict[Partition, list[EmbeddedFile]] = defaultdict(list)
    for file in files:
        grouped[file.partition].append(file)
    return grouped
