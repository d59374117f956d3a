"""What is left to embed by a model, exactly, as the tables are now."""

import json
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
from pyiceberg.table import Table

from pipelines.embed.plan.check import check_partitions
from pipelines.embed.plan.evidence import ChunkFiles, RejectedChunk, weigh
from pipelines.embed.plan.manifests import chunk_files, embedded_files
from pipelines.embed.plan.plan import Plan, Wanted
from pipelines.embed.plan.reconcile import reconcile
from pipelines.embed.plan.units import parsed
from pipelines.errors import CommitError
from pipelines.lake import Lake
from pipelines.lake.added import sequence_number
from pipelines.lake.faults import explained
from pipelines.lake.filters import all_of, equals, parsed_filter, starts_with
from pipelines.lake.scan import scan_files
from pipelines.progress import Progress, Silent

STAGE = "embed"
_ATTEMPTS = 5


def survey(lake: Lake, model: str, progress: Progress | None = None, wanted: Wanted | None = None) -> Plan:
    """What is left to embed by a model.

    Costs the manifests of both tables and the model's rejects. Where a compaction or deletes have made
    statistics unclear it costs chunk_id columns too, one partition in memory at a time.

    Args:
        lake: With the tables `chunks`, `embeddings` and `rejects`.
        model: Key of the model.
        progress: Told of the reading of chunk_ids, which may take long.
        wanted: Which chunks to plan for; all where None. What is done of others is not counted.

    Raises:
        CatalogError: A table is missing, or the catalogue does not answer.
        CommitError: A table has files that cannot be reasoned about: of another partition spec than its
            present one, or with equality deletes; or it was rewritten again and again meanwhile.
    """
    with explained(lake.config):
        for _ in range(_ATTEMPTS):
            try:
                return _survey(lake, model, progress or Silent(), wanted or Wanted())
            except FileNotFoundError as error:
                gone = error
        raise CommitError(
            "tables are compacted and their old files removed faster than they can be read",
            "Keep old files for some hours before removing them, and run again",
        ) from gone


def _survey(lake: Lake, model: str, progress: Progress, wanted: Wanted) -> Plan:
    # In this order: what others embed between two of these reads shows as unclear, never as missing.
    table = lake.table("chunks")
    chunks = chunk_files(table)
    embeddings = lake.table("embeddings")
    check_partitions(table, embeddings)
    embedded = embedded_files(embeddings, model)
    rejects = lake.table("rejects")
    rejected = rejected_chunks(rejects, model)
    verdict = weigh(chunks, embedded, rejected)
    found = reconcile((table, embeddings), model, chunks, embedded, rejected, verdict, progress)
    ranges = [*verdict.fresh, *(kept for kept, _ in found.pending)]
    rows = [stop - start - _deleted(chunks, number, start, stop) for number, start, stop in verdict.fresh]
    rows += found.pending_rows
    keep = {len(verdict.fresh) + at: bits for at, (_, bits) in enumerate(found.pending) if bits is not None}
    mask = _wanted_files(table, chunks, wanted)
    chosen = [at for at, (number, _, _) in enumerate(ranges) if mask[number] and rows[at] > 0]
    snapshot = table.current_snapshot()
    return Plan(
        model=model,
        chunks=chunks,
        embedded=embedded,
        chunks_snapshot=snapshot.snapshot_id if snapshot else None,
        baseline=sequence_number(embeddings),
        settled_rows=verdict.done_rows + found.done_rows,
        ranges=tuple(ranges[at] for at in chosen),
        rows=np.array([rows[at] for at in chosen], dtype=np.int64),
        keep={new: keep[old] for new, old in enumerate(chosen) if old in keep},
        stale=found.stale,
        doubled=found.doubled,
        rejects_sequence=sequence_number(rejects),
        where=wanted.where,
    )


def pending_rows(lake: Lake, model: str, progress: Progress | None = None) -> int:
    """How many chunks have neither an embedding of the model nor a reject, counted from themselves.

    It is no difference of totals, so chunks == embeddings + pending + rejects is a check worth making.

    Raises:
        CatalogError: A table is missing, or the catalogue does not answer.
        CommitError: As `survey`.
    """
    return survey(lake, model, progress).pending_rows


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
        chunks[chunk_id] = RejectedChunk(
            chunk_id, (row["source"], payload["bucket"]), parsed(payload["unit"])
        )
    return list(chunks.values())


def _deleted(chunks: ChunkFiles, number: int, start: int, stop: int) -> int:
    """Rows of a fresh range that are deleted; with deletes such a range is a whole file."""
    gone = chunks.deleted.get(number, 0)
    return min(max(0, gone), stop - start)


def _wanted_files(table: Table, chunks: ChunkFiles, wanted: Wanted) -> npt.NDArray[np.bool_]:
    mask = np.ones(len(chunks.rows), dtype=np.bool_)
    if wanted.source is not None:
        codes = [code for code, (source, _) in enumerate(chunks.partitions) if source == wanted.source]
        mask &= np.isin(chunks.partition, codes)
    if wanted.since is not None:
        before = [
            int(snapshot.sequence_number or 0)
            for snapshot in table.snapshots()
            if snapshot.timestamp_ms <= _utc(wanted.since).timestamp() * 1000
        ]
        mask &= chunks.sequence > max(before, default=0)
    if wanted.where is not None:
        matching = {file.path for file in scan_files(table, parsed_filter(table, wanted.where))}
        mask &= np.isin(chunks.paths.to_numpy(zero_copy_only=False), list(matching))
    return mask


def _utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
