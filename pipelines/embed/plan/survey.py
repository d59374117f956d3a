"""What is left to embed by a model, exactly, as the tables are now."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyiceberg.expressions import BooleanExpression, parser
from pyiceberg.expressions.visitors import bind
from pyiceberg.table import Table
from pyparsing import ParseException

from pipelines.embed.plan.evidence import ChunkFiles, EmbeddedFiles, Ints, Range, RejectedChunk, weigh
from pipelines.embed.plan.lengths import Lengths
from pipelines.embed.plan.manifests import chunk_files, embedded_files
from pipelines.embed.plan.reconcile import reconcile
from pipelines.embed.plan.units import Partition, Slice, Unit, parsed
from pipelines.errors import CommitError, ConfigError
from pipelines.lake import Lake
from pipelines.lake.added import sequence_number
from pipelines.lake.faults import explained
from pipelines.lake.filters import all_of, equals, starts_with
from pipelines.lake.scan import scan_files
from pipelines.progress import Progress, Silent

STAGE = "embed"
_ATTEMPTS = 5
_MOST_SLICES = 256  # each becomes a file


@dataclass(frozen=True)
class Wanted:
    """Which chunks a run is about; those that are pending of them.

    Attributes:
        source: Only of this source.
        since: Only of data files that came after this time, UTC where it has no zone.
        limit: No more than about so many: the last unit is cut.
        where: Only rows that match this filter over columns of `chunks`, as pyiceberg parses it.
    """

    source: str | None = None
    since: datetime | None = None
    limit: int | None = None
    where: str | None = None


@dataclass(frozen=True)
class Plan:
    """What one run has to do, and what it must know to commit safely.

    Attributes:
        model: The model's key.
        chunks: Every live data file of the snapshot of `chunks` that was read.
        embedded: Every live data file of the model's embeddings.
        chunks_snapshot: That snapshot; None where there is none.
        baseline: Sequence number of the snapshot of `embeddings` that was read.
        settled_rows: Chunks that were embedded or rejected before.
        ranges: Rows with work left: file, start, stop.
        rows: How many of them are pending, range by range.
        keep: Which, where not all are, by the range's number.
        stale: chunk_ids, by partition, that have an embedding or a reject and no chunk.
        where: See `Wanted`.
    """

    model: str
    chunks: ChunkFiles
    embedded: EmbeddedFiles
    chunks_snapshot: int | None
    baseline: int
    settled_rows: int
    ranges: tuple[Range, ...]
    rows: Ints
    keep: dict[int, bytes]
    stale: dict[Partition, pa.Array]
    where: str | None = None

    @property
    def pending_rows(self) -> int:
        """Chunks without an embedding of the model and without a reject."""
        return int(self.rows.sum())

    @property
    def pending_tokens(self) -> int:
        """About how many tokens they have, without prefixes and specials."""
        return sum(piece.tokens for piece in self.slices())

    def lengths(self, number: int) -> Lengths:
        """The lengths of a file's rows."""
        files = self.chunks
        return Lengths(
            int(files.rows[number]),
            int(files.shortest[number]),
            int(files.longest[number]),
            int(files.tokens[number]),
        )

    def slices(self) -> Iterator[Slice]:
        """The ranges, whole."""
        for at, (number, start, stop) in enumerate(self.ranges):
            share = self.lengths(number).share(start, stop) * int(self.rows[at]) / max(1, stop - start)
            yield Slice(
                self.chunks.ids[number].decode(),
                self.chunks.scan_file(number),
                start,
                stop,
                int(self.rows[at]),
                max(1, round(int(self.chunks.tokens[number]) * share)),
                self.keep.get(at),
            )

    def units(self, tokens: int, rows: int, limit: int | None = None) -> Iterator[Unit]:
        """The work, in units of about so many tokens, made one by one.

        Args:
            tokens: Own tokens of the chunks, without prefixes and specials.
            rows: Most rows of a unit.
            limit: End after so many rows.
        """
        waiting: list[Slice] = []
        number = taken = 0
        for at, whole in enumerate(self.slices()):
            for piece in self._pieces(at, whole, tokens, rows):
                if limit is not None and taken + piece.rows > limit:
                    cut = _first_rows(piece, limit - taken)
                    waiting += [cut] if cut else []
                    if waiting:
                        yield Unit(number, tuple(waiting))
                    return
                if waiting and not _fits(waiting, piece, tokens, rows):
                    yield Unit(number, tuple(waiting))
                    waiting, number = [], number + 1
                waiting.append(piece)
                taken += piece.rows
        if waiting:
            yield Unit(number, tuple(waiting))

    def _pieces(self, at: int, whole: Slice, tokens: int, rows: int) -> Iterator[Slice]:
        """A range, or its parts where it is too much for a unit."""
        pieces = max(round(whole.tokens / tokens), -(-whole.rows // rows))
        if pieces <= 1:
            yield whole
            return
        number, start, stop = self.ranges[at]
        cuts = self.lengths(number).cuts(start, stop, pieces)
        for first, last in pairwise(cuts):
            piece = whole.part(first, last)
            if piece is not None:
                share = self.lengths(number).share(first, last) * piece.rows / (last - first)
                estimate = max(1, round(int(self.chunks.tokens[number]) * share))
                yield Slice(piece.file_id, piece.file, first, last, piece.rows, estimate, piece.keep)


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
    rejected = rejected_chunks(lake.table("rejects"), model)
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


def check_partitions(chunks: Table, embeddings: Table) -> None:
    """Makes sure that a slice's embeddings are one partition: both tables bucket doc_id alike, within source.

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
        matching = {file.path for file in scan_files(table, row_filter(table, wanted.where))}
        mask &= np.isin(chunks.paths.to_numpy(zero_copy_only=False), list(matching))
    return mask


def row_filter(table: Table, where: str) -> BooleanExpression:
    """A filter in words, that fits the table's columns.

    Raises:
        ConfigError: It cannot be read, or names a column that is not there.
    """
    try:
        expression: BooleanExpression = parser.parse(where)
        bind(table.schema(), expression, case_sensitive=True)
    except (ParseException, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"the filter '{where}' cannot be used: {reason}",
            "Compare columns with constants: n_tokens < 100 and source = 'wiki'",
        ) from error
    return expression


def _utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _fits(waiting: list[Slice], piece: Slice, tokens: int, rows: int) -> bool:
    return (
        sum(part.tokens for part in waiting) + piece.tokens <= 1.25 * tokens
        and sum(part.tokens for part in waiting) < tokens
        and len(waiting) < _MOST_SLICES
        and sum(part.rows for part in waiting) + piece.rows <= rows
    )


def _first_rows(piece: Slice, rows: int) -> Slice | None:
    if rows <= 0:
        return None
    pending = np.flatnonzero(piece.mask())
    return piece.part(piece.start, piece.start + int(pending[rows - 1]) + 1)
