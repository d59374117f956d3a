"""Reads what is done and what is not from the tables: manifests first, chunk_ids where those do not tell."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.conversions import from_bytes
from pyiceberg.manifest import DataFile, ManifestContent
from pyiceberg.table import Table
from pyiceberg.types import StringType

from pipelines.embed.plan import (
    ChunkFile,
    EmbeddedFile,
    Partition,
    PendingUnit,
    Plan,
    RejectedChunk,
    by_partition,
    sort_units,
    unit_id,
)
from pipelines.errors import CommitError
from pipelines.lake import Lake
from pipelines.lake.faults import explained
from pipelines.lake.filters import all_of, equals, starts_with
from pipelines.lake.live import LiveFiles
from pipelines.lake.scan import ScanFile, partition_values, read_file, scan_files
from pipelines.progress import Progress, Silent

STAGE = "embed"
_UNIT_DIGITS = 32


def survey(
    lake: Lake, model: str, progress: Progress | None = None, live: LiveFiles[EmbeddedFile] | None = None
) -> Plan:
    """What is left to embed by a model, exactly, as the tables are now.

    Costs the manifests of both tables and the model's rejects. Only in partitions that a compaction or
    deletes have made unclear it costs their chunk_id columns too, one partition in memory at a time.

    Args:
        lake: With the tables `chunks`, `embeddings` and `rejects`.
        model: Key of the model.
        progress: Told of the reading of chunk_ids, which may take long.
        live: Of `embedded_files`; keep it to read later only what was added.

    Raises:
        CatalogError: A table is missing, or the catalogue does not answer.
        CommitError: A table has files that cannot be reasoned about: of another partition spec than its
            present one, or with equality deletes.
    """
    with explained(lake.config):
        # In this order: what others embed between two of these reads shows as unclear, never as missing.
        chunks = lake.table("chunks")
        units = _chunk_files(chunks)
        embeddings = lake.table("embeddings")
        check_partitions(chunks, embeddings)
        live = live or embedded_files(embeddings)
        mine = [file for file in live.of(embeddings) if file.model == model]
        deleted = deleted_partitions(embeddings, model)
        rejected = rejected_chunks(lake.table("rejects"), model)
        sorted_units = sort_units(units, mine, rejected, deleted)
        resolved, resolved_rows = _resolved(
            chunks, embeddings, model, sorted_units.unsure, by_partition(mine), rejected, deleted, progress
        )
    whole = [PendingUnit(unit.unit, unit.file, unit.file.rows) for unit in sorted_units.whole]
    pending = tuple(whole + resolved)
    done_rows = sum(unit.file.rows for unit in sorted_units.done)
    return Plan(
        model=model,
        pending=pending,
        settled_rows=done_rows + resolved_rows - sum(unit.rows for unit in resolved),
        units=frozenset(unit.unit for unit in units),
        baseline=frozenset(file.path for file in mine),
    )


def pending_rows(lake: Lake, model: str, progress: Progress | None = None) -> int:
    """How many chunks have neither an embedding of the model nor a reject, counted from themselves.

    It is no difference of totals, so chunks == embeddings + pending + rejects is a check worth making.

    Raises:
        CatalogError: A table is missing, or the catalogue does not answer.
        CommitError: As `survey`.
    """
    return survey(lake, model, progress).pending_rows


def pending_mask(chunk_ids: pa.ChunkedArray, known: pa.Array) -> npt.NDArray[np.bool_]:
    """Which of a unit's rows are pending: those whose chunk_id is not among the known ones."""
    absent = pc.invert(pc.is_in(chunk_ids, value_set=known))
    return np.asarray(absent.to_numpy(), dtype=np.bool_)


def check_partitions(chunks: Table, embeddings: Table) -> None:
    """Makes sure that a unit's embeddings are one partition: both tables bucket doc_id alike, within source.

    Raises:
        CommitError: They do not.
    """
    ours = [(field.name, str(field.transform)) for field in chunks.spec().fields]
    theirs = [(field.name, str(field.transform)) for field in embeddings.spec().fields]
    if [name for name, _ in ours] != ["source", "doc_bucket"] or theirs != [("model", "identity"), *ours]:
        raise CommitError(
            "chunks and embeddings are not partitioned alike, by source and the same buckets of doc_id",
            "Use another namespace (--set lake.namespace=NAME), where both are created together",
        )


def embedded_files(embeddings: Table) -> LiveFiles[EmbeddedFile]:
    """A view of the embeddings table's files, of all models."""
    unit_field = embeddings.schema().find_field("unit").field_id
    spec_id = embeddings.spec().spec_id

    def extract(file: DataFile) -> EmbeddedFile:
        model, *partition = _checked_partition(file, spec_id, "embeddings")
        bounds = {
            side.get(unit_field) for side in (file.lower_bounds or {}, file.upper_bounds or {})
        }  # one value, and a whole one: nothing else says that all rows are of one unit
        bound = bounds.pop() if len(bounds) == 1 else None
        unit = str(from_bytes(StringType(), bound)) if bound is not None else ""
        return EmbeddedFile(
            path=file.file_path,
            model=str(model),
            partition=(str(partition[0]), int(partition[1])),
            unit=unit if len(unit) == _UNIT_DIGITS else None,
            rows=file.record_count,
        )

    return LiveFiles(extract)


def deleted_partitions(embeddings: Table, model: str) -> set[Partition]:
    """Partitions of the model's embeddings where delete files may apply."""
    deletes = LiveFiles(partition_values, ManifestContent.DELETES)
    return {(source, bucket) for key, source, bucket in deletes.of(embeddings) if key == model}


def rejected_chunks(rejects: Table, model: str) -> list[RejectedChunk]:
    """The chunks that the model could not embed."""
    prefix = f"{model}/"
    found = rejects.scan(
        row_filter=all_of(equals("stage", STAGE), starts_with("key", prefix)),
        selected_fields=("key", "source", "payload"),
    ).to_arrow()
    chunks = {}
    for row in found.to_pylist():
        payload = json.loads(row["payload"])
        chunk_id = row["key"].removeprefix(prefix)
        chunks[chunk_id] = RejectedChunk(chunk_id, (row["source"], payload["bucket"]), payload["unit"])
    return list(chunks.values())


def embedded_ids(
    embeddings: Table, model: str, partition: Partition, files: Sequence[EmbeddedFile], deletes_apply: bool
) -> pa.Array:
    """The chunk_ids (large_string) in some embeddings files of one partition, deleted rows left out."""
    if deletes_apply:
        wanted = {file.path for file in files}
        in_source = all_of(equals("model", model), equals("source", partition[0]))
        scans = [scan for scan in scan_files(embeddings, in_source) if scan.path in wanted]
    else:
        spec_id = embeddings.spec().spec_id
        scans = [ScanFile(file.path, (model, *partition), spec_id, file.rows) for file in files]
    return _joined(read_file(embeddings, scan, ["chunk_id"]).column(0) for scan in scans)


def _resolved(
    chunks: Table,
    embeddings: Table,
    model: str,
    unsure: Sequence[ChunkFile],
    embedded: dict[Partition, list[EmbeddedFile]],
    rejected: Sequence[RejectedChunk],
    deleted: set[Partition],
    progress: Progress | None,
) -> tuple[list[PendingUnit], int]:
    """The pending part of unsure units, and how many rows these units have."""
    units: dict[Partition, list[ChunkFile]] = defaultdict(list)
    for unit in unsure:
        units[unit.partition].append(unit)
    pending: list[PendingUnit] = []
    rows = looked_at = 0
    if not unsure:
        return pending, rows
    with (progress or Silent()).step("comparing chunk ids", len(unsure), "files") as step:
        for partition, members in units.items():
            known = _joined(
                (
                    embedded_ids(
                        embeddings, model, partition, embedded.get(partition, []), partition in deleted
                    ),
                    pa.array([c.chunk_id for c in rejected if c.partition == partition], pa.large_string()),
                )
            )
            for unit in members:
                chunk_ids = read_file(chunks, unit.file, ["chunk_id"]).column(0).cast(pa.large_string())
                mask = pending_mask(chunk_ids, known)
                rows += len(mask)
                if mask.any():
                    keep = None if mask.all() else np.packbits(mask).tobytes()
                    pending.append(PendingUnit(unit.unit, unit.file, int(mask.sum()), keep))
                looked_at += 1
                step.done(looked_at)
    return pending, rows


def _chunk_files(chunks: Table) -> list[ChunkFile]:
    spec_id, location = chunks.spec().spec_id, chunks.location()
    extract: Callable[[DataFile], ScanFile] = lambda file: ScanFile(  # noqa: E731
        file.file_path, _checked_partition(file, spec_id, "chunks"), file.spec_id, file.record_count
    )
    # Which deletes apply to which file takes a scan's plan, which holds every file's statistics in memory.
    has_deletes = any(True for _ in LiveFiles(partition_values, ManifestContent.DELETES).of(chunks))
    files: Iterable[ScanFile] = scan_files(chunks) if has_deletes else LiveFiles(extract).of(chunks)
    return [ChunkFile(unit_id(file.path, location), file) for file in files]


def _checked_partition(file: DataFile, spec_id: int, table: str) -> tuple[str | int, ...]:
    if file.spec_id != spec_id:
        raise CommitError(
            f"{table} has files of an earlier partition spec",
            "Rewrite them with Spark: CALL system.rewrite_data_files with the option rewrite-all",
        )
    return partition_values(file)


def _joined(arrays: Iterable[pa.Array | pa.ChunkedArray]) -> pa.Array:
    pieces: list[pa.Array] = []
    for array in arrays:
        pieces += array.chunks if isinstance(array, pa.ChunkedArray) else [array]
    return pa.concat_arrays(
        [pa.array([], pa.large_string()), *(piece.cast(pa.large_string()) for piece in pieces)]
    )
