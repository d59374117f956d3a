"""What one run has to do, and how it is cut into units; pure."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import pairwise

import numpy as np
import pyarrow as pa

from pipelines.embed.plan.evidence import ChunkFiles, EmbeddedFiles, Ints, Range
from pipelines.embed.plan.lengths import Lengths
from pipelines.embed.plan.units import Partition, Slice, Unit

_MOST = 1.25  # times the tokens asked for
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
        doubled: chunk_ids, by partition, that have an embedding and a reject.
        rejects_sequence: Sequence number of the snapshot of `rejects` that was read.
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
    doubled: dict[Partition, pa.Array] = field(default_factory=dict)
    rejects_sequence: int = 0
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
        number, left = 0, limit or 0
        for at, whole in enumerate(self.slices()):
            for piece in self._pieces(self.ranges[at][0], whole, tokens, rows):
                cut = piece if limit is None or piece.rows <= left else _first_rows(piece, left)
                if cut is None:
                    break
                if waiting and not _fits(waiting, cut, tokens, rows):
                    yield Unit(number, tuple(waiting))
                    waiting, number = [], number + 1
                waiting.append(cut)
                left -= cut.rows
            if limit is not None and left == 0:
                break
        if waiting:
            yield Unit(number, tuple(waiting))

    def _pieces(self, number: int, whole: Slice, tokens: int, rows: int) -> Iterator[Slice]:
        """A slice of a file, or its parts where it is too much for a unit."""
        lengths = self.lengths(number)
        if whole.rows <= 1 or (whole.rows <= rows and whole.tokens <= _MOST * tokens + lengths.longest):
            yield whole
            return
        pieces = max(2, round(whole.tokens / tokens), -(-whole.rows // rows))
        cuts = lengths.cuts(whole.start, whole.stop, pieces)
        if len(cuts) == 2:
            cuts.insert(1, (whole.start + whole.stop) // 2)
        for first, last in pairwise(cuts):
            piece = whole.part(first, last)
            if piece is not None:
                # Pieces of equal tokens differ in rows, and in how many of them are pending: cut again.
                share = lengths.share(first, last) * piece.rows / (last - first)
                estimate = max(1, round(lengths.tokens * share))
                yield from self._pieces(number, replace(piece, tokens=estimate), tokens, rows)


def _fits(waiting: list[Slice], piece: Slice, tokens: int, rows: int) -> bool:
    return (
        sum(part.tokens for part in waiting) + piece.tokens <= _MOST * tokens
        and sum(part.tokens for part in waiting) < tokens
        and len(waiting) < _MOST_SLICES
        and sum(part.rows for part in waiting) + piece.rows <= rows
    )


def _first_rows(piece: Slice, rows: int) -> Slice | None:
    if rows <= 0:
        return None
    pending = np.flatnonzero(piece.mask())
    return piece.part(piece.start, piece.start + int(pending[rows - 1]) + 1)
