"""One task of a publication: some partitions' rows become data files of the serving table. Any process."""
# ruff: noqa: N803, N806, N815  (array names carry their shape: x_ND)

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.table import Table
from pyiceberg.transforms import BucketTransform
from pyiceberg.types import StringType

from pipelines.encoder.rotation import Moment, Rotation
from pipelines.lake.added import opened_table
from pipelines.lake.config import LakeConfig
from pipelines.lake.datafiles import WrittenFile
from pipelines.lake.delta import DeadRows
from pipelines.lake.scan import ScanFile
from pipelines.lake.serving import Published
from pipelines.lake.slices import deleted_positions, read_slice
from pipelines.lake.vectors import as_matrix
from pipelines.publish.layout import KEYS, Taken
from pipelines.publish.rows import ServingRows

# Rows read at a time: with 768 dimensions 48 MiB.
_READ_ROWS = 16_384
_IDS = pa.large_string()


@dataclass(frozen=True)
class Job:
    """What all tasks of a publication share; it may cross processes and holds no secret.

    Attributes:
        config: Of the lake.
        embeddings: Metadata file of `embeddings`, as the publication reads it.
        chunks: Of `chunks`.
        serving: Of the serving table, as it was when the publication began.
        state: What is being published.
        dimension: Of the full vectors.
        taken: Chosen columns of `chunks`.
        rotation: Applied before slicing.
        sort_by: Columns that files are sorted by.
        file_rows: Most rows of a file.
        buckets: Of `embeddings`' partitions.
        aligned: Whether the serving table's partitions are those.
    """

    config: LakeConfig
    embeddings: str
    chunks: str
    serving: str
    state: Published
    dimension: int
    taken: tuple[Taken, ...]
    rotation: Rotation | None
    sort_by: tuple[str, ...]
    file_rows: int
    buckets: int
    aligned: bool

    def table(self, name: str) -> Table:
        """`embeddings`, `chunks` or `serving`, as the publication reads it."""
        return opened_table(self.config, str(getattr(self, name)))


@dataclass(frozen=True)
class Task:
    """Partitions of one source, and what is to be looked at in them.

    Attributes:
        source: The source.
        buckets: The partitions' buckets of doc_id.
        added: Files of `embeddings` whose rows the serving table has not.
        present: All files of `embeddings`, where chunk_ids have to tell what is gone, and what is new; None
            where files do.
        thinned: Files of `embeddings` that have lost rows since, with those files of deletes alone.
        chunks: All files of `chunks`, where columns are taken from them.
        fresh_chunks: Those of them that have come since the last publication.
        serving: Files of the serving table that may hold rows of these partitions.
    """

    source: str
    buckets: tuple[int, ...]
    added: tuple[ScanFile, ...]
    present: tuple[ScanFile, ...] | None = None
    thinned: tuple[ScanFile, ...] = ()
    chunks: tuple[ScanFile, ...] = ()
    fresh_chunks: tuple[ScanFile, ...] = ()
    serving: tuple[ScanFile, ...] = ()

    @property
    def rows(self) -> int:
        """About as much as so many rows to publish: an id that is only compared costs a twentieth of one."""
        compared = sum(file.rows for file in self._compared)
        return sum(file.rows for file in self.added) + compared // 20

    @property
    def _compared(self) -> tuple[ScanFile, ...]:
        return (*(self.present or ()), *self.thinned, *self.fresh_chunks, *self.serving)


@dataclass
class Result:
    """What a task made: nothing of it is in the table yet.

    Attributes:
        files: Data files.
        dead: Rows of the serving table that are gone, or replaced.
        new: Rows that it had not.
        changed: Rows whose chosen columns are others now.
        gone: Rows whose chunk is gone.
        without_chunk: Embeddings left out, since their chunk is gone already.
        moment: Of the new rows' full vectors, where they are rotated.
    """

    files: list[WrittenFile] = field(default_factory=list)
    dead: list[DeadRows] = field(default_factory=list)
    new: int = 0
    changed: int = 0
    gone: int = 0
    without_chunk: int = 0
    moment: Moment | None = None


def do_task(job: Job, task: Task) -> Result:
    """Writes the task's new and changed rows, uncommitted, and finds those that go.

    Killed in it, orphan files are left, and no row.

    Raises:
        FileNotFoundError: A file was compacted, and then removed, since the publication began.
        ModelError: The embeddings are not of the recorded dimension.
    """
    result = Result(moment=None if job.rotation is None else Moment.none(job.dimension))
    rows = ServingRows(job, task, result)
    there: _There | None = None
    if task.present is None:
        for file in task.added:
            for batch in embedding_batches(job, file):
                rows.add(batch)
        if task.thinned:
            there = _There.read(job, task)
            gone = joined_ids(_deleted_ids(job, file) for file in task.thinned)
            result.gone = there.bury(np.asarray(pc.is_in(there.ids, value_set=gone)), result)
    else:
        there = _There.read(job, task)
        known = []
        for file in task.present:
            ids = _column(job.table("embeddings"), file, "chunk_id")
            known.append(ids)
            if pc.all(pc.is_in(ids, value_set=there.ids)).as_py() is not False:
                continue
            for batch in embedding_batches(job, file):
                rows.add(batch.filter(pc.invert(pc.is_in(batch["chunk_id"].cast(_IDS), value_set=there.ids))))
        result.gone = there.bury(
            np.asarray(pc.invert(pc.is_in(there.ids, value_set=joined_ids(known)))), result
        )
    rows.flush()
    if job.taken and task.fresh_chunks:
        _update(job, task, rows, there, result)
    return result


def second_moment(job: Job, task: Task) -> Moment:
    """Of all vectors in a task's files of `embeddings`."""
    moment = Moment.none(job.dimension)
    for file in task.added:
        for batch in embedding_batches(job, file):
            moment = moment.plus(Moment.of(as_matrix(batch["embedding"], job.dimension)))
    return moment


def embedding_batches(job: Job, file: ScanFile) -> Iterator[pa.Table]:
    """A file of `embeddings` in pieces, deleted rows left out."""
    for start in range(0, file.rows, _READ_ROWS):
        columns = [*KEYS, "embedding"]
        batch, _ = read_slice(job.table("embeddings"), file, start, start + _READ_ROWS, columns)
        if batch.num_rows:
            yield batch


def _update(job: Job, task: Task, rows: ServingRows, there: "_There | None", result: Result) -> None:
    """Writes anew the rows whose chosen columns have changed: chunks that came again with other metadata."""
    table = job.table("chunks")
    suspects = joined_ids(_column(table, file, "chunk_id") for file in task.fresh_chunks)
    suspects = suspects.filter(pc.invert(pc.is_in(suspects, value_set=rows.written_ids())))
    if not len(suspects):
        return
    there = there or _There.read(job, task)
    serving = job.table("serving")
    columns = [field.name for field in serving.schema().fields]
    at_N = np.asarray(pc.index_in(suspects, value_set=there.ids).fill_null(-1))
    at_N = at_N[at_N >= 0]
    suspects = there.ids.take(pa.array(at_N[there.is_live_N[at_N]]))
    for number in np.unique(there.file_N[np.asarray(pc.is_in(there.ids, value_set=suspects))]):
        file = task.serving[int(number)]
        stored, positions = read_slice(serving, file, 0, file.rows, columns)
        wanted = pc.is_in(stored["chunk_id"].cast(_IDS), value_set=suspects)
        stored, positions = stored.filter(wanted), positions[np.asarray(wanted)]
        result.changed += rows.replace(stored, positions, file)
    rows.flush()


@dataclass(frozen=True)
class _There:
    """Rows that the serving table has of a task's partitions, N of them.

    Attributes:
        files: Files of the serving table.
        ids: Their chunk_ids, large_string.
        file_N: Which of the files each is in.
        position_N: Where in it.
        is_live_N: Which are not to go.
    """

    files: tuple[ScanFile, ...]
    ids: pa.Array
    file_N: npt.NDArray[np.int64]
    position_N: npt.NDArray[np.int64]
    is_live_N: npt.NDArray[np.bool_]

    @classmethod
    def read(cls, job: Job, task: Task) -> "_There":
        ids, files, positions = [], [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        columns = ["chunk_id"] if job.aligned else ["chunk_id", "source", "doc_id"]
        for number, file in enumerate(task.serving):
            rows, position_N = read_slice(job.table("serving"), file, 0, file.rows, columns)
            if not job.aligned:
                mine = np.asarray(_is_in_partitions(job.buckets, rows, task))
                rows, position_N = rows.filter(pa.array(mine)), position_N[mine]
            ids.append(rows["chunk_id"])
            files.append(np.full(len(position_N), number, dtype=np.int64))
            positions.append(position_N)
        joined = joined_ids(ids)
        is_live_N = np.ones(len(joined), dtype=np.bool_)
        return cls(task.serving, joined, np.concatenate(files), np.concatenate(positions), is_live_N)

    def bury(self, dead_N: npt.NDArray[np.bool_], result: Result) -> int:
        """Has rows go; gives how many."""
        self.is_live_N[dead_N] = False
        for number in np.unique(self.file_N[dead_N]):
            file = self.files[int(number)]
            positions = np.sort(self.position_N[dead_N & (self.file_N == number)])
            result.dead.append(DeadRows(file.path, file.partition, file.spec_id, positions))
        return int(dead_N.sum())


def _is_in_partitions(buckets: int, rows: pa.Table, task: Task) -> pa.ChunkedArray:
    transform: BucketTransform[str] = BucketTransform(buckets)
    bucket = transform.pyarrow_transform(StringType())(rows["doc_id"].combine_chunks())
    return pc.and_(
        pc.equal(rows["source"], task.source), pc.is_in(bucket, value_set=pa.array(task.buckets, pa.int32()))
    )


def _deleted_ids(job: Job, file: ScanFile) -> pa.Array:
    """chunk_ids of the rows that a file's deletes name."""
    table = job.table("embeddings")
    rows, _ = read_slice(table, replace(file, deletes=()), 0, file.rows, ["chunk_id"])
    return rows["chunk_id"].take(pa.array(deleted_positions(table, file)))


def _column(table: Table, file: ScanFile, name: str) -> pa.Array:
    return joined_ids([read_slice(table, file, 0, file.rows, [name])[0][name]])


def joined_ids(arrays: Iterable[pa.ChunkedArray | pa.Array]) -> pa.Array:
    """Strings of several arrays in one, as large_string."""
    pieces: list[pa.Array] = [pa.array([], _IDS)]
    for array in arrays:
        pieces += array.chunks if isinstance(array, pa.ChunkedArray) else [array]
    return pa.concat_arrays([piece.cast(_IDS) for piece in pieces])
