"""A small model of `chunks`, `embeddings` and `rejects`, with the statistics that Iceberg keeps of them."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count, pairwise

from pipelines.embed.plan.evidence import RejectedChunk, Verdict, weigh
from pipelines.embed.plan.units import Named, Partition
from tests.embed.columns import Sized, Stored, chunk_files, embedded_files, id_of


@dataclass
class ChunkData:
    """A file of `chunks`: its rows are numbers of their own; deleted ones stay in the file."""

    id: str
    partition: Partition
    rows: list[int]
    deleted: set[int] = field(default_factory=set)
    counted: bool = True  # its deletes are in files of its own

    @property
    def live(self) -> set[int]:
        return set(self.rows) - self.deleted


@dataclass
class Embedded:
    """A file of `embeddings`: each row with the name of the slice that it was made in."""

    partition: Partition
    rows: dict[int, Named]
    deleted: set[int] = field(default_factory=set)
    counted: bool = True

    @property
    def live(self) -> dict[int, Named]:
        return {row: name for row, name in self.rows.items() if row not in self.deleted}


@dataclass
class TwoTables:
    """The tables. Most methods are what happens to them; numbers choose where."""

    chunks: list[ChunkData] = field(default_factory=list)
    embedded: list[Embedded] = field(default_factory=list)
    rejected: dict[int, tuple[Partition, Named]] = field(default_factory=dict)
    _numbers: "count[int]" = field(default_factory=count)

    def covered(self) -> set[int]:
        """Rows with an embedding or a reject."""
        return {row for file in self.embedded for row in file.live} | set(self.rejected)

    def append(self, partition: Partition, rows: int) -> None:
        """A new file of chunks."""
        number = next(self._numbers)
        self.chunks.append(ChunkData(id_of(number), partition, [next(self._numbers) for _ in range(rows)]))

    def embed(self, file: int, cuts: set[int], skipped: set[int], rejects: int, left_out: int) -> None:
        """A job embeds a file in slices, all but some; some rows are rejected, and some left out.

        Left-out ones are those of another job's commit, or of a reject taken back, or lost to a delete.
        """
        known = self.covered()
        for number, (start, stop) in enumerate(self.slices(file, cuts)):
            if number not in skipped:
                self.embed_slice(file, start, stop, known, rejects, left_out)

    def slices(self, file: int, cuts: set[int]) -> Iterator[tuple[int, int]]:
        """A file's rows, cut."""
        rows = len(self.chunks[file % len(self.chunks)].rows) if self.chunks else 0
        return pairwise(sorted({0, rows} | {cut for cut in cuts if cut < rows}))

    def embed_slice(
        self, file: int, start: int, stop: int, known: set[int], rejects: int = 0, left_out: int = 0
    ) -> None:
        """As `work.read` names a slice: with how many rows it had, if the plan knew of none of them."""
        chunk = self.chunks[file % len(self.chunks)]
        live = [row for row in chunk.rows[start:stop] if row in chunk.live]
        pending = [row for row in live if row not in known]
        whole = pending == live
        told = len(live) if whole and len(live) != stop - start else None
        all_of_it = start == 0 and stop == len(chunk.rows) and told is None
        name = Named(chunk.id) if all_of_it else Named(chunk.id, start, stop, told)
        taken = [row for row in pending if row not in self.covered()][left_out:]
        self.rejected |= dict.fromkeys(taken[:rejects], (chunk.partition, name))
        if taken[rejects:]:
            self.embedded.append(Embedded(chunk.partition, dict.fromkeys(taken[rejects:], name)))

    def two_jobs(self, file: int, cuts: set[int], other_cuts: set[int], between: int) -> None:
        """Both plan the same file, with other cuts; what one has committed is cut out of the other's."""
        ours, theirs = list(self.slices(file, cuts)), list(self.slices(file, other_cuts))
        known = self.covered()
        for start, stop in ours[:between] + theirs + ours[between:]:
            self.embed_slice(file, start, stop, known)

    def compact_chunks(self, partition: Partition) -> None:
        """All live rows of a partition in one new file."""
        files = [file for file in self.chunks if file.partition == partition]
        live = sorted(row for file in files for row in file.live)
        self.chunks = [file for file in self.chunks if file.partition != partition]
        if live:
            self.chunks.append(ChunkData(id_of(next(self._numbers)), partition, live))

    def compact_embeddings(self, partition: Partition) -> None:
        """The same of embeddings."""
        merged = {
            row: name
            for file in self.embedded
            if file.partition == partition
            for row, name in file.live.items()
        }
        self.embedded = [file for file in self.embedded if file.partition != partition]
        if merged:
            self.embedded.append(Embedded(partition, merged))

    def rewrite_without(self, file: int) -> None:
        """A copy-on-write delete of one embedding."""
        if self.embedded:
            old = self.embedded.pop(file % len(self.embedded))
            kept = dict(list(old.live.items())[1:])
            if kept:
                self.embedded.append(Embedded(old.partition, kept))

    def take_back_reject(self, number: int) -> None:
        """As `embedlake rejects` with a replay does."""
        if self.rejected:
            del self.rejected[sorted(self.rejected)[number % len(self.rejected)]]

    def delete_chunks(self, file: int, rows: int, counted: bool) -> None:
        """Position deletes in a file of chunks whose embeddings stay."""
        if self.chunks:
            chunk = self.chunks[file % len(self.chunks)]
            if not any(self._lacking(chunk)):
                chunk.deleted |= set(sorted(chunk.live)[:rows])
                chunk.counted &= counted

    def delete_embeddings(self, file: int, rows: int, counted: bool) -> None:
        """Position deletes in a file of embeddings whose chunks stay."""
        if self.embedded:
            old = self.embedded[file % len(self.embedded)]
            if not any(chunk.deleted & self.covered() for chunk in self.chunks):
                old.deleted |= set(sorted(old.live)[:rows])
                old.counted &= counted

    def _lacking(self, chunk: ChunkData) -> Iterator[int]:
        """Live rows whose embeddings were deleted by position.

        With as many chunks of the same file deleted beside their embeddings counts would agree by accident:
        that no table of ours comes to, so the model keeps from it.
        """
        yield from (row for file in self.embedded for row in file.deleted if row in chunk.live)

    def delete_both(self, file: int, rows: int, counted: bool) -> None:
        """What curate does daily: chunks and their embeddings and rejects, each by position."""
        if not self.chunks:
            return
        chunk = self.chunks[file % len(self.chunks)]
        gone = set(sorted(chunk.live)[-rows:])
        chunk.deleted |= gone
        chunk.counted &= counted
        for embedded in self.embedded:
            if gone & set(embedded.live):
                embedded.deleted |= gone & set(embedded.live)
                embedded.counted &= counted
        self.rejected = {row: found for row, found in self.rejected.items() if row not in gone}

    def remove_file(self, file: int, dropped: bool) -> None:
        """A document's whole file goes, and its embeddings: as files, or by position."""
        if not self.chunks:
            return
        self.delete_both(file, len(self.chunks[file % len(self.chunks)].rows), True)
        self.chunks.pop(file % len(self.chunks))
        if dropped:
            self.embedded = [file for file in self.embedded if file.live]

    def weighed(self) -> Verdict:
        """What statistics tell of it all."""
        chunks = chunk_files(
            [Sized((1,) * len(file.rows), file.partition) for file in self.chunks],
            [file.id for file in self.chunks],
            _deletes(self.chunks),
        )
        embedded = embedded_files(
            [
                Stored(names.pop() if len(names) == 1 else None, len(file.rows), file.partition)
                for file in self.embedded
                if (names := set(file.rows.values()))
            ],
            _deletes(self.embedded),
        )
        rejected = [RejectedChunk(str(row), where, name) for row, (where, name) in self.rejected.items()]
        return weigh(chunks, embedded, rejected)

    def check(self) -> Verdict:
        """Every row is where it is said to be, in one place."""
        verdict, covered = self.weighed(), self.covered()
        told: Counter[tuple[int, int]] = Counter()
        for number, start, stop in (*verdict.fresh, *verdict.unsure):
            assert 0 <= start < stop <= len(self.chunks[number].rows)
            told.update((number, row) for row in range(start, stop))
        assert max(told.values(), default=1) == 1
        done = 0
        for number, file in enumerate(self.chunks):
            rest = {row for at, row in enumerate(file.rows) if not told[number, at]} & file.live
            assert rest <= covered
            done += len(rest)
            if verdict.done[number]:
                assert rest == file.live
        assert done == verdict.done_rows
        for number, start, stop in verdict.fresh:
            file = self.chunks[number]
            assert not set(file.rows[start:stop]) & file.live & covered
        return verdict


def _deletes(files: "list[ChunkData] | list[Embedded]") -> dict[int, int]:
    found: list[ChunkData | Embedded] = [*files]
    return {
        number: len(file.deleted) if file.counted else -1 for number, file in enumerate(found) if file.deleted
    }
