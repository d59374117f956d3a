"""Reads the files of `chunks` and `embeddings` from their manifests into columns, one manifest in memory."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from pyiceberg.conversions import from_bytes
from pyiceberg.manifest import DataFile, DataFileContent, ManifestContent, ManifestEntry, ManifestFile
from pyiceberg.table import Table
from pyiceberg.types import IntegerType, StringType

from pipelines.embed.plan.evidence import ChunkFiles, EmbeddedFiles
from pipelines.embed.plan.units import Named, Partition, file_id, parsed
from pipelines.errors import CommitError
from pipelines.lake.scan import partition_values
from pipelines.lake.slices import read_slice
from pipelines.lake.tables import STAGE_PROPERTY

# Field id of the column `file_path` in files of position deletes (Iceberg spec, "Reserved Field IDs").
_FILE_PATH = 2147483546
_SAMPLES = 4


def chunk_files(chunks: Table) -> ChunkFiles:
    """The live data files of `chunks`, as `chunks` was last read.

    Raises:
        CommitError: Files are of another partition spec than the table's, or have equality deletes.
    """
    fields = {name: chunks.schema().find_field(name).field_id for name in ("n_tokens", "input_ids.element")}
    columns = _Columns()
    sizes = []
    for entry in _entries(chunks, ManifestContent.DATA):
        file = entry.data_file
        source, bucket = _partition(file, chunks, "chunks")
        lower, upper = file.lower_bounds or {}, file.upper_bounds or {}
        columns.add(
            file.file_path,
            (str(source), int(bucket)),
            (
                file.record_count,
                _int(lower.get(fields["n_tokens"]), 1),
                _int(upper.get(fields["n_tokens"]), 1),
                entry.sequence_number or 0,
                (file.value_counts or {}).get(fields["input_ids.element"], -1),
            ),
        )
        sizes.append((file.column_sizes or {}).get(fields["input_ids.element"], 0))
    rows, shortest, longest, sequence, counted = columns.numbers(5)
    location = chunks.location()
    ids = [file_id(path, location).encode() for path in columns.plain_paths()]
    deletes, deleted = _deletes(chunks, columns, "chunks")
    files = ChunkFiles(
        partitions=tuple(columns.codes),
        paths=columns.paths(),
        ids=np.array(ids, dtype="S32"),
        partition=np.array(columns.partition, dtype=np.int64),
        rows=rows,
        tokens=counted,
        shortest=shortest,
        longest=longest,
        sequence=sequence,
        spec_id=chunks.spec().spec_id,
        deletes=deletes,
        deleted=deleted,
    )
    if len(rows) == 0 or counted.min() >= 0:
        return files
    per_byte = _tokens_per_byte(chunks, files, sizes)
    estimate = np.array(sizes, dtype=np.float64) * per_byte
    estimate = np.clip(
        np.where(estimate > 0, estimate, rows * (shortest + longest) / 2), rows * shortest, rows * longest
    )
    tokens = np.where(counted >= 0, counted, estimate.astype(np.int64))
    return ChunkFiles(**{**files.__dict__, "tokens": tokens})


def embedded_files(embeddings: Table, model: str) -> EmbeddedFiles:
    """The live data files of a model's embeddings, as `embeddings` was last read.

    Raises:
        CommitError: Files are of another partition spec than the table's, or have equality deletes.
    """
    unit_field = embeddings.schema().find_field("unit").field_id
    columns = _Columns()
    ids = []
    for entry in _entries(embeddings, ManifestContent.DATA, model):
        file = entry.data_file
        key, source, bucket = _partition(file, embeddings, "embeddings")
        if key != model:
            continue
        name = slice_name(file, unit_field) or Named("")
        columns.add(
            file.file_path,
            (str(source), int(bucket)),
            (
                name.start,
                -1 if name.stop is None else name.stop,
                -1 if name.live is None else name.live,
                file.record_count,
            ),
        )
        ids.append(name.file_id.encode())
    start, stop, live, rows = columns.numbers(4)
    # Who deletes an embedding wants it anew, unless the chunk is gone: only curate's deletes may be counted
    # against those of chunks.
    counted = {
        snapshot.snapshot_id
        for snapshot in embeddings.snapshots()
        if snapshot.summary and snapshot.summary.additional_properties.get(STAGE_PROPERTY) == "curate"
    }
    deletes, deleted = _deletes(embeddings, columns, "embeddings", model, counted)
    return EmbeddedFiles(
        partitions=tuple(columns.codes),
        paths=columns.paths(),
        partition=np.array(columns.partition, dtype=np.int64),
        ids=np.array(ids, dtype="S32"),
        start=start,
        stop=stop,
        live=live,
        rows=rows,
        deletes=deletes,
        deleted=deleted,
    )


def slice_name(file: DataFile, unit_field: int) -> Named | None:
    """The slice of all rows of a data file of `embeddings`; None where statistics do not tell one."""
    lower, upper = (file.lower_bounds or {}).get(unit_field), (file.upper_bounds or {}).get(unit_field)
    if lower is None or lower != upper:
        return None
    return parsed(str(from_bytes(StringType(), lower)))


@dataclass
class _Columns:
    """Files while they are gathered: strings in Arrow, numbers in rows, partitions by code."""

    codes: dict[Partition, int] = field(default_factory=dict)
    partition: list[int] = field(default_factory=list)
    _rows: list[tuple[int, ...]] = field(default_factory=list)
    _blocks: list[Any] = field(default_factory=list)
    _arrays: list[pa.Array] = field(default_factory=list)
    _paths: list[str] = field(default_factory=list)

    def add(self, path: str, partition: Partition, numbers: tuple[int, ...]) -> None:
        self.partition.append(self.codes.setdefault(partition, len(self.codes)))
        self._rows.append(numbers)
        self._paths.append(path)
        if len(self._paths) == 10_000:
            self._flush()

    def _flush(self) -> None:
        self._arrays.append(pa.array(self._paths, pa.large_string()))
        self._blocks.append(np.array(self._rows, dtype=np.int64))
        self._paths, self._rows = [], []

    def paths(self) -> pa.Array:
        """All paths."""
        if self._paths or not self._arrays:
            self._flush()
        return pa.concat_arrays(self._arrays)

    def plain_paths(self) -> Iterator[str]:
        """All paths, one by one."""
        self.paths()
        for array in self._arrays:
            yield from array.to_pylist()

    def numbers(self, count: int) -> list[Any]:
        """The columns of numbers."""
        self.paths()
        table = np.concatenate([block.reshape(-1, count) for block in self._blocks])
        return [np.ascontiguousarray(table[:, column]) for column in range(count)]


def _entries(table: Table, content: ManifestContent, model: str | None = None) -> Iterator[ManifestEntry]:
    snapshot = table.current_snapshot()
    for manifest in snapshot.manifests(table.io) if snapshot else ():
        if manifest.content == content and (model is None or _may_hold(manifest, model)):
            yield from manifest.fetch_manifest_entry(table.io, discard_deleted=True)


def _may_hold(manifest: ManifestFile, model: str) -> bool:
    """Whether files of the model's partitions may be in a manifest, as its summary tells."""
    if not manifest.partitions:
        return True
    summary, value = manifest.partitions[0], model.encode()
    if summary.lower_bound is None or summary.upper_bound is None:
        return True
    return summary.lower_bound <= value <= summary.upper_bound


def _partition(file: DataFile, table: Table, name: str) -> tuple[Any, ...]:
    if file.spec_id != table.spec().spec_id:
        raise CommitError(
            f"{name} has files of an earlier partition spec",
            "Rewrite them with Spark: CALL system.rewrite_data_files with the option rewrite-all",
        )
    return partition_values(file)


def _deletes(
    table: Table,
    columns: _Columns,
    name: str,
    model: str | None = None,
    counted: set[int] | None = None,
) -> tuple[Mapping[int, tuple[str, ...]], Mapping[int, int]]:
    """Files of position deletes by the data file that they may name, and how many rows they name there.

    Args:
        table: The table.
        columns: Its data files.
        name: Its name, for errors.
        model: Only deletes that may be of this model's rows.
        counted: Snapshots whose deletes count; others' are of a number that cannot be told. None counts all.
    """
    named: dict[str, list[DataFile]] = defaultdict(list)
    spread: dict[Partition, list[DataFile]] = defaultdict(list)
    uncounted: set[str] = set()
    for entry in _entries(table, ManifestContent.DELETES, model):
        file = entry.data_file
        if file.content == DataFileContent.EQUALITY_DELETES:
            raise CommitError(
                f"{name} holds equality deletes, which cannot be read here",
                "Rewrite its data files with Spark: CALL system.rewrite_data_files",
            )
        lower, upper = (file.lower_bounds or {}).get(_FILE_PATH), (file.upper_bounds or {}).get(_FILE_PATH)
        if lower is not None and lower == upper:
            path = str(from_bytes(StringType(), lower))
            named[path].append(file)
            if counted is not None and entry.snapshot_id not in counted:
                uncounted.add(path)
        else:
            *_, source, bucket = _partition(file, table, name)
            spread[str(source), int(bucket)].append(file)
    deletes: dict[int, tuple[str, ...]] = {}
    deleted: dict[int, int] = {}
    if not named and not spread:
        return deletes, deleted
    partitions = list(columns.codes)
    for number, path in enumerate(columns.plain_paths()):
        own, others = named.get(path, []), spread.get(partitions[columns.partition[number]], [])
        if own or others:
            deletes[number] = tuple(sorted(file.file_path for file in (*own, *others)))
            known = not others and path not in uncounted
            deleted[number] = sum(file.record_count for file in own) if known else -1
    return deletes, deleted


def _tokens_per_byte(chunks: Table, files: ChunkFiles, sizes: list[int]) -> float:
    """How many token ids a byte of a file's column holds, from the largest of some files spread over all.

    Spark counts no list elements, so the tokens of its files follow from the size of their column.
    """
    spread = np.unique(np.linspace(0, len(sizes) - 1, _SAMPLES).astype(np.int64))
    tokens = size = 0
    for number in spread.tolist():
        try:
            found, _ = read_slice(chunks, files.scan_file(number), 0, int(files.rows[number]), ["n_tokens"])
        except FileNotFoundError:
            continue  # compacted and removed meanwhile; its work will say so
        tokens += int(np.sum(found.column("n_tokens").to_numpy()))
        size += sizes[number]
    return tokens / size if size else 0.0


def _int(bound: bytes | None, default: int) -> int:
    return default if bound is None else int(from_bytes(IntegerType(), bound))
