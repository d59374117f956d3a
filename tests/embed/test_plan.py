"""The sorting of units, against a small model of two tables that are embedded, compacted and deleted from."""

from dataclasses import dataclass, field
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.embed.plan import (
    ChunkFile,
    EmbeddedFile,
    Partition,
    RejectedChunk,
    SortedUnits,
    rivals,
    sort_units,
    unit_id,
)
from pipelines.lake.scan import ScanFile

_PARTITIONS: tuple[Partition, ...] = (("a", 0), ("a", 1), ("b", 0))


@dataclass
class Tables:
    """Chunks, embeddings and rejects as sets of ids; statistics are derived from them as Iceberg does."""

    chunks: dict[str, tuple[Partition, frozenset[int]]] = field(default_factory=dict)  # unit -> ids
    embedded: list[tuple[Partition, dict[int, str]]] = field(default_factory=list)  # a file: id -> unit
    rejected: dict[int, tuple[Partition, str]] = field(default_factory=dict)
    numbers: "count[int]" = field(default_factory=count)

    def append(self, partition: Partition, rows: int) -> None:
        unit = f"unit-{next(self.numbers)}"
        self.chunks[unit] = (partition, frozenset(next(self.numbers) for _ in range(rows)))

    def covered(self) -> set[int]:
        return {row for _, rows in self.embedded for row in rows} | set(self.rejected)

    def embed(self, choice: int, rejects: int, left_out: int) -> None:
        """Embeds what is pending of one unit: some of it rejected, some forgotten."""
        if not self.chunks:
            return
        unit = sorted(self.chunks)[choice % len(self.chunks)]
        partition, ids = self.chunks[unit]
        pending = sorted(ids - self.covered())[left_out:]
        for row in pending[:rejects]:
            self.rejected[row] = (partition, unit)
        if pending[rejects:]:
            self.embedded.append((partition, dict.fromkeys(pending[rejects:], unit)))

    def compact_chunks(self, partition: Partition) -> None:
        units = [unit for unit, (where, _) in self.chunks.items() if where == partition]
        merged = frozenset[int]().union(*(self.chunks.pop(unit)[1] for unit in units))
        if merged:
            self.chunks[f"unit-{next(self.numbers)}"] = (partition, merged)

    def compact_embeddings(self, partition: Partition) -> None:
        merged = {
            row: unit for where, rows in self.embedded if where == partition for row, unit in rows.items()
        }
        self.embedded = [file for file in self.embedded if file[0] != partition]
        if merged:
            self.embedded.append((partition, merged))

    def delete_embedding(self, choice: int) -> None:
        """A copy-on-write delete: the file is written anew without the row."""
        if self.embedded:
            partition, rows = self.embedded.pop(choice % len(self.embedded))
            kept = dict(list(rows.items())[1:])
            if kept:
                self.embedded.append((partition, kept))

    def replay_reject(self, choice: int) -> None:
        if self.rejected:
            del self.rejected[sorted(self.rejected)[choice % len(self.rejected)]]

    def sorted(self) -> SortedUnits:
        chunks = [
            ChunkFile(unit, ScanFile(unit, where, 0, len(ids))) for unit, (where, ids) in self.chunks.items()
        ]
        embedded = [
            EmbeddedFile(str(number), "m", where, units.pop() if len(units) == 1 else None, len(rows))
            for number, (where, rows) in enumerate(self.embedded)
            if (units := set(rows.values()))
        ]
        rejected = [RejectedChunk(str(row), where, unit) for row, (where, unit) in self.rejected.items()]
        return sort_units(chunks, embedded, rejected, deleted=())


_small = st.integers(0, 5)
_partition = st.sampled_from(_PARTITIONS)
_step = st.one_of(
    st.tuples(st.just("append"), _partition, st.integers(1, 4)),
    st.tuples(st.just("embed"), _small, st.sampled_from([0, 0, 0, 1, 9]), st.sampled_from([0, 0, 0, 1])),
    st.tuples(st.just("compact_chunks"), _partition),
    st.tuples(st.just("compact_embeddings"), _partition),
    st.tuples(st.just("delete_embedding"), _small),
    st.tuples(st.just("replay_reject"), _small),
)


@given(st.lists(_step, max_size=25))
def test_whatever_happened_nothing_is_called_done_or_whole_that_is_not(
    steps: list[tuple[str, object]],
) -> None:
    tables = Tables()
    for name, *arguments in steps:
        getattr(tables, name)(*arguments)
    units = tables.sorted()
    covered = tables.covered()
    told = [unit.unit for group in (units.done, units.whole, units.unsure) for unit in group]
    assert sorted(told) == sorted(tables.chunks)
    assert all(tables.chunks[unit.unit][1] <= covered for unit in units.done)
    assert all(not tables.chunks[unit.unit][1] & covered for unit in units.whole)


@given(
    st.lists(st.tuples(_partition, st.integers(1, 4), st.sampled_from([0, 0, 1, 9])), max_size=12), st.data()
)
def test_without_compaction_statistics_settle_every_unit(
    files: list[tuple[Partition, int, int]], data: st.DataObject
) -> None:
    tables = Tables()
    for partition, rows, _ in files:
        tables.append(partition, rows)
    done = data.draw(st.sets(st.sampled_from(sorted(tables.chunks)))) if files else set()
    for unit in sorted(done):
        rejects = files[sorted(tables.chunks).index(unit)][2]
        tables.embed(sorted(tables.chunks).index(unit), rejects, 0)
    units = tables.sorted()
    assert {unit.unit for unit in units.done} == done
    assert {unit.unit for unit in units.whole} == set(tables.chunks) - done
    assert not units.unsure


def _chunk(unit: str, rows: int = 5, deletes: tuple[str, ...] = ()) -> ChunkFile:
    return ChunkFile(unit, ScanFile(f"/{unit}", ("a", 0), 0, rows, deletes))


def _embedded(unit: str | None, rows: int = 5, partition: Partition = ("a", 0)) -> EmbeddedFile:
    return EmbeddedFile("/file", "m", partition, unit, rows)


@pytest.mark.parametrize(
    ("embedded", "deleted", "expected"),
    [
        ([], (), "whole"),
        ([_embedded("u")], (), "done"),
        ([_embedded("u", 2), _embedded("u", 3)], (), "done"),
        ([_embedded("u", 4)], (), "unsure"),
        ([_embedded("u", 5), _embedded("u", 5)], (), "unsure"),
        ([_embedded(None)], (), "unsure"),
        ([_embedded("gone")], (), "unsure"),
        ([_embedded("v")], (), "whole"),
        ([_embedded("gone", partition=("b", 0))], (), "whole"),
        ([_embedded("u"), _embedded(None)], (), "done"),
        ([_embedded("u")], [("a", 0)], "unsure"),
        ([], [("a", 0)], "unsure"),
        ([_embedded("u")], [("b", 0)], "done"),
    ],
)
def test_a_unit_is_sorted(embedded: list[EmbeddedFile], deleted: list[Partition], expected: str) -> None:
    units = sort_units([_chunk("u"), _chunk("v")], embedded, [], deleted)
    groups = {"done": units.done, "whole": units.whole, "unsure": units.unsure}
    assert [name for name, group in groups.items() if "u" in {unit.unit for unit in group}] == [expected]


def test_a_chunks_file_with_deletes_is_unsure_even_where_the_counts_agree() -> None:
    units = sort_units([_chunk("u", deletes=("/deletes",))], [_embedded("u")], [], ())
    assert [unit.unit for unit in units.unsure] == ["u"]


def test_rejects_of_a_unit_that_is_gone_make_its_partition_unsure() -> None:
    units = sort_units([_chunk("u")], [], [RejectedChunk("c", ("a", 0), "gone")], ())
    assert [unit.unit for unit in units.unsure] == ["u"]


def test_rivals_are_files_of_the_same_unit_and_of_no_unit_of_the_plan() -> None:
    ours = _embedded("u")
    same, other, mixed, gone = (_embedded(unit) for unit in ("u", "v", None, "gone"))
    assert rivals(ours, [same, other, mixed, gone], {"u", "v"}) == [same, mixed, gone]


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("file:///lake/chunks/data/a.parquet", "file:///lake/chunks"),
        ("file:/lake/chunks/data/a.parquet", "file:///lake/chunks/"),
        ("/lake/chunks/data/a.parquet", "/lake/chunks"),
        ("s3://bucket/chunks/data/a.parquet", "s3://bucket/chunks"),
        ("s3a://elsewhere/chunks/data/a.parquet", "s3://elsewhere/chunks"),
    ],
)
def test_a_unit_id_hashes_the_path_below_the_table(path: str, location: str) -> None:
    unit = unit_id(path, location)
    assert unit == unit_id("file:///lake/chunks/data/a.parquet", "file:///lake/chunks")
    assert len(unit) == 32
    assert unit != unit_id("file:///lake/chunks/data/b.parquet", "file:///lake/chunks")
