"""What a publication has to look at: the partitions in which anything changed since the last one."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pyiceberg.table import Table
from pyiceberg.transforms import BucketTransform

from pipelines.errors import CommitError
from pipelines.lake.difference import Difference, difference
from pipelines.lake.filters import equals
from pipelines.lake.scan import ScanFile, scan_files
from pipelines.lake.serving import Published
from pipelines.lake.slices import read_slice
from pipelines.publish.task import Task

Partition = tuple[str, int]  # source, bucket of doc_id


@dataclass(frozen=True)
class Changes:
    """The tasks of a publication.

    Attributes:
        tasks: What is to be done; none where nothing has changed.
        is_full: Whether they make all of the table, so that what it holds goes.
    """

    tasks: list[Task]
    is_full: bool


@dataclass(frozen=True)
class Sources:
    """The tables that a publication reads, as it reads them.

    Attributes:
        embeddings: The embeddings.
        chunks: The chunks; None where no column is taken from them.
        serving: The serving table.
    """

    embeddings: Table
    chunks: Table | None
    serving: Table


def all_rows(sources: Sources, model: str, task_rows: int) -> Changes:
    """Tasks that publish every row of a model."""
    chunks = _by_partition(scan_files(sources.chunks)) if sources.chunks else {}
    tasks = []
    for partition, files in _embeddings(sources, model).items():
        tasks += _added(partition, files, chunks.get(partition, []), task_rows)
    return Changes(tasks, True)


def changes_since(sources: Sources, last: Published, task_rows: int) -> Changes:
    """Tasks that bring the serving table from its last publication to the tables as they are.

    A partition to which files came, of data or of deletes, is published by them alone. Of one that has lost
    data files, to compaction or to deletes that rewrite them, the chunk_ids of both sides are compared; so
    they are of all where the snapshot that was published is not known any more.
    """
    since = difference(sources.embeddings, last.embeddings)
    of_chunks = difference(sources.chunks, last.chunks) if sources.chunks else Difference()
    if since is not None and of_chunks is not None:
        changed = {_partition(values) for values in since.partitions if values[0] == last.model}
        changed |= {_partition(values) for values in of_chunks.added}
        if not changed:
            return Changes([], False)
    embeddings = _embeddings(sources, last.model)
    chunks = _by_partition(scan_files(sources.chunks)) if sources.chunks else {}
    serving = _ServingFiles(sources)
    if since is None:  # any partition may have lost rows, and some may be gone from both tables
        unclear = set(embeddings) | serving.partitions()
        added: dict[Partition, set[str]] = {}
        deletes: dict[Partition, set[str]] = {}
    else:
        own = {values: paths for values, paths in since.added.items() if values[0] == last.model}
        added = {_partition(values): paths for values, paths in own.items()}
        deletes = {
            _partition(values): paths for values, paths in since.deletes.items() if values[0] == last.model
        }
        unclear = {_partition(values) for values in since.lost if values[0] == last.model}
    fresh = {
        partition: [
            file
            for file in files
            if of_chunks is None or file.path in of_chunks.added.get(file.partition, ())
        ]
        for partition, files in chunks.items()
    }
    tasks: list[Task] = []
    compared: list[Partition] = []
    for partition in sorted({*added, *deletes, *unclear, *(name for name, files in fresh.items() if files)}):
        paths = added.get(partition, set())
        files = [file for file in embeddings.get(partition, []) if file.path in paths]
        if partition in unclear or partition in deletes or fresh.get(partition):
            compared.append(partition)
        else:
            tasks += _added(partition, files, chunks.get(partition, []), task_rows)
    for group in serving.scopes(compared):
        of_group = [file for one in group for file in embeddings.get(one, [])]
        new = {path for one in group for path in added.get(one, ())}
        named = {path for one in group for path in deletes.get(one, ())}
        tasks.append(
            Task(
                source=group[0][0],
                buckets=tuple(bucket for _, bucket in group),
                added=tuple(file for file in of_group if file.path in new),
                present=tuple(of_group) if unclear & set(group) else None,
                thinned=tuple(
                    replace(file, deletes=tuple(path for path in file.deletes if path in named))
                    for file in of_group
                    if named & set(file.deletes)
                ),
                chunks=tuple(file for one in group for file in chunks.get(one, [])),
                fresh_chunks=tuple(file for one in group for file in fresh.get(one, [])),
                serving=serving.of(group),
            )
        )
    return Changes(tasks, False)


def is_aligned(serving: Table, embeddings: Table) -> bool:
    """Whether each partition of the serving table is one of the embeddings', the model apart."""
    return _fields(serving) == _fields(embeddings)[1:]


def bucket_count(embeddings: Table) -> int:
    """Into how many buckets of doc_id the embeddings are partitioned.

    Raises:
        CommitError: They are partitioned otherwise than embedlake does.
    """
    transform = embeddings.spec().fields[-1].transform if embeddings.spec().fields else None
    if not isinstance(transform, BucketTransform):
        raise CommitError("the table of embeddings is not partitioned by model, source and bucket of doc_id")
    return int(transform.num_buckets)


class _ServingFiles:
    """The serving table's files, listed when they are first asked for."""

    def __init__(self, sources: Sources) -> None:
        self._table = sources.serving
        self._aligned = is_aligned(sources.serving, sources.embeddings)
        self._buckets = bucket_count(sources.embeddings)
        self._listed: dict[Any, list[ScanFile]] | None = None

    def partitions(self) -> set[Partition]:
        """Those that may have rows, as the embeddings are partitioned."""
        if self._aligned:
            return set(self._all())
        sources = {source for file in self._all()[None] for source in self._sources(file)}
        return {(source, bucket) for source in sources for bucket in range(self._buckets)}

    def _sources(self, file: ScanFile) -> set[str]:
        rows, _ = read_slice(self._table, file, 0, file.rows, ["source"])
        return set(rows["source"].unique().to_pylist())

    def scopes(self, partitions: Sequence[Partition]) -> list[list[Partition]]:
        """Partitions whose rows are compared together: one by one, or where files mix them, by source."""
        if self._aligned:
            return [[partition] for partition in partitions]
        by_source: dict[str, list[Partition]] = defaultdict(list)
        for partition in partitions:
            by_source[partition[0]].append(partition)
        return list(by_source.values())

    def of(self, group: Sequence[Partition]) -> tuple[ScanFile, ...]:
        """The files that may hold rows of a scope."""
        if self._aligned:
            return tuple(file for one in group for file in self._all().get(one, []))
        return tuple(scan_files(self._table, equals("source", group[0][0])))

    def _all(self) -> dict[Any, list[ScanFile]]:
        if self._listed is None:
            files = scan_files(self._table)
            self._listed = _by_partition(files) if self._aligned else {None: files}
        return self._listed


def _embeddings(sources: Sources, model: str) -> dict[Partition, list[ScanFile]]:
    return _by_partition(scan_files(sources.embeddings, equals("model", model)))


def _added(
    partition: Partition,
    files: Iterable[ScanFile],
    chunks: Iterable[ScanFile],
    task_rows: int,
) -> list[Task]:
    """Tasks of about so many rows, which only add."""
    tasks: list[list[ScanFile]] = []
    rows = task_rows
    for file in files:
        if rows >= task_rows:
            tasks.append([])
            rows = 0
        tasks[-1].append(file)
        rows += file.rows
    source, bucket = partition
    return [Task(source, (bucket,), added=tuple(group), chunks=tuple(chunks)) for group in tasks]


def _by_partition(files: Iterable[ScanFile]) -> dict[Partition, list[ScanFile]]:
    found: dict[Partition, list[ScanFile]] = defaultdict(list)
    for file in files:
        found[_partition(file.partition)].append(file)
    return dict(sorted(found.items()))


def _partition(values: tuple[Any, ...]) -> Partition:
    """Source and bucket, the last two of the embeddings' values, and all of the chunks'."""
    source, bucket = values[-2:]
    return str(source), int(bucket)


def _fields(table: Table) -> list[tuple[str, str]]:
    schema = table.schema()
    return [(schema.find_field(field.source_id).name, str(field.transform)) for field in table.spec().fields]
