"""Commits finished units: rejects first, then embeddings, each chunk once whatever else happens.

What a death leaves behind, step by step; the next run starts from the tables alone:

- in a worker, before or after it has written a data file: an orphan file that no snapshot holds. No row is
  there twice, as readers see committed files only; `remove_orphan_files` takes away what nobody salvages.
- in the driver, with units written but not committed: the next run finds their files by the run that never
  ended, and commits them (`salvage`). The units in flight are lost.
- after the data file of rejects is written, before its commit: an orphan; the rejects are found again.
- between the commits of rejects and of embeddings: the rejects stand. The plan leaves these chunks out by
  their chunk_id, and the rest of their units is done again. The other order could lose a reject for good: a
  unit whose embeddings and rejects do not add up would be compared by chunk_id, and the reject be embedded
  again, at every run.
- in a commit: Iceberg swaps one pointer. The snapshot is there, whole, or it is not. Where the catalogue's
  answer was lost, `append_files` looks at the table again before it decides.
- after the commit of embeddings: nothing is lost. Files that another job made needless are orphans.
- while a file is cut to the rows that another job has not committed: both files are orphans.

Two jobs at once, or a compaction under a running job: before each attempt the table is read anew, and files
that others have committed since the plan are compared with ours (`rivals`), by chunk_id. A commit of theirs
between that look and ours makes ours fail, and the look is repeated. Embeddings and rejects are two tables:
of a chunk that one job embeds while the other rejects it, `sweep` takes the reject out at the end.

Chunks that curate takes away meanwhile: before each attempt rows of chunks that are gone are left out. Those
that go between that look and the commit, `sweep` takes out at the end of the run, or of the next.
"""

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyiceberg.table import Table

from pipelines.embed.commit.gone import ChunkWatch
from pipelines.embed.commit.landed import Landed, LandedFile
from pipelines.embed.commit.patience import Patience
from pipelines.embed.plan.plan import Plan
from pipelines.embed.plan.reconcile import IDS, ids_of, joined, pending_mask
from pipelines.embed.plan.survey import STAGE, rejected_chunks
from pipelines.embed.plan.units import Named, Partition
from pipelines.embed.work.wire import Finished
from pipelines.embed.work.write import EMBEDDINGS_LAYOUT, run_folder
from pipelines.lake import Lake
from pipelines.lake.added import sequence_number
from pipelines.lake.commit import append_files
from pipelines.lake.datafiles import WrittenFile, write_data_file
from pipelines.lake.faults import explained
from pipelines.lake.live import LiveFiles
from pipelines.lake.scan import ScanFile
from pipelines.lake.slices import read_slice

T = TypeVar("T")


@dataclass
class Committed:
    """What a run has committed so far.

    Attributes:
        rows: Embeddings.
        rejects: Chunks newly rejected.
        needless_rows: Embeddings that another job had committed first, or whose chunks were gone, so ours
            were left out.
        commits: Snapshots of `embeddings`.
    """

    rows: int = 0
    rejects: int = 0
    needless_rows: int = 0
    commits: int = 0


class _Source(NamedTuple):
    """What a file of ours was made from."""

    name: Named
    partition: Partition
    chunks: ScanFile


@dataclass
class Committer:
    """Commits for one run. Not to be shared between threads.

    Attributes:
        lake: Where to.
        plan: What the run set out from.
        run_id: Goes into each snapshot's summary, as `embedlake.run-id`.
        total: What was committed so far.
        patience: How long the object store and the catalogue may be unreachable for a commit.
    """

    lake: Lake
    plan: Plan
    run_id: str
    total: Committed = field(default_factory=Committed)
    patience: Patience = field(default_factory=Patience)

    def __post_init__(self) -> None:
        self._embeddings = self.lake.table("embeddings")
        self._rejects = self.lake.table("rejects")
        self._chunks = ChunkWatch(self.lake.table("chunks"), self.plan.chunks_snapshot)
        self._landed = Landed(self.plan.baseline)
        # Files of chunks that had all their rows.
        self._whole = np.delete(self.plan.chunks.ids, np.array(list(self.plan.chunks.deletes), np.int64))
        self._ours: dict[str, _Source] = {}  # by path, every file that this run has offered
        self._pending: dict[str, npt.NDArray[np.bool_]] = {}  # path -> rows that are still wanted
        self._reject_paths: LiveFiles[str] = LiveFiles(lambda file: file.file_path)

    @property
    def _properties(self) -> Mapping[str, str]:
        return {
            "embedlake.run-id": self.run_id,
            "embedlake.model": self.plan.model,
            "embedlake.stage": STAGE,
        }

    def commit(self, units: Sequence[Finished]) -> None:
        """Commits finished units, and counts them in `total`.

        Raises:
            CommitError: Others kept changing the table, or changed its partitions.
            CatalogError: The catalogue does not answer for longer than the patience.
            StorageError: The object store or disk does not.
        """
        rejects = pa.concat_tables([unit.rejects for unit in units])
        if rejects.num_rows:
            self.total.rejects += self._patiently(lambda: self._append_rejects(rejects, units))
        waiting = []
        for unit in units:
            for piece, planned in zip(unit.slices, unit.unit.slices, strict=True):
                if piece.file is not None:
                    self._ours[piece.file.path] = _Source(piece.name, piece.partition, planned.file)
                    waiting.append(piece.file)
        while waiting:
            waiting = self._patiently(partial(self._append, waiting))

    def _patiently(self, step: Callable[[], T]) -> T:
        """What a step gives. It may be cut short anywhere: repeated, it looks at the tables anew."""

        def once() -> T:
            with explained(self.lake.config):
                return step()

        return self.patience.outlast(once)

    def only_grew(self) -> bool:
        """Whether no chunk that the plan saw is gone by now."""
        self._patiently(self._chunks.refresh)
        return self._chunks.only_grew()

    def chunks_changed(self) -> bool:
        """Whether the table of chunks has another snapshot by now than the plan saw."""
        self._patiently(self._chunks.refresh)
        return self._chunks.current != self.plan.chunks_snapshot

    def rejects_changed(self) -> bool:
        """Whether the table of rejects has changed since the plan, by whomever."""
        self._patiently(self._rejects.refresh)
        return sequence_number(self._rejects) != self.plan.rejects_sequence

    def _append_rejects(self, rejects: pa.Table, units: Sequence[Finished]) -> int:
        """Appends those that neither have a reject yet nor were embedded by another job; says how many."""
        names = {(piece.name, piece.partition) for unit in units for piece in unit.slices}
        while True:
            self._rejects.refresh()
            seen = set(self._reject_paths.of(self._rejects))
            known = [chunk.chunk_id for chunk in rejected_chunks(self._rejects, self.plan.model)]
            self._embeddings.refresh()
            landed = self._others(self._embeddings)
            others = [file for name, where in names for file in rivals(name, landed[where], self._whole)]
            ids = joined([pa.array(known, IDS), ids_of(self._embeddings, {f.file for f in others})])
            keys = pa.array([f"{self.plan.model}/{chunk_id}" for chunk_id in ids.to_pylist()], IDS)
            fresh = rejects.filter(pa.array(pending_mask(rejects.column("key"), keys)))
            if fresh.num_rows == 0:
                return 0
            file = write_data_file(self._rejects, fresh, "embed-rejects")

            def still_missing(table: Table, files: Sequence[WrittenFile]) -> Sequence[WrittenFile]:
                # Keys were compared with the table of a moment ago; what came since may hold some of them.
                return files if set(self._reject_paths.of(table)) <= seen else ()  # noqa: B023 - called below

            if append_files(self._rejects, [file], self._properties, still_missing, self._reject_paths):
                return int(fresh.num_rows)
            self._delete(self._rejects, file.path)

    def _append(self, files: list[WrittenFile]) -> list[WrittenFile]:
        """Appends files of embeddings; gives back what is left of those that were partly done by others."""
        table = self._embeddings
        self._pending = {}
        appended = append_files(table, files, self._properties, self._still_missing, self._landed)
        self.total.commits += bool(appended)
        # Files that an interrupted call had appended are in the table too; deleting one would lose its rows.
        held = {file.path for file in appended} | set(self._landed.of(table))
        # One that neither is there nor was left out was there, and has been compacted since.
        left = [file for file in files if file.path not in held and file.path in self._pending]
        cut = [self._cut(file, mask) for file in left if (mask := self._pending[file.path]).any()]
        # What may fail is behind us: from here on nothing is done twice.
        for file in left:
            self.total.needless_rows += int((~self._pending[file.path]).sum())
            # Not deleted: who salvages may be about to commit it. From here on it is theirs.
            del self._ours[file.path]
        self.total.rows += sum(file.rows for file in files) - sum(file.rows for file in left)
        return cut

    def _still_missing(self, table: Table, files: Sequence[WrittenFile]) -> Sequence[WrittenFile]:
        self._chunks.refresh()
        grew = self._chunks.only_grew()
        landed = self._others(table)
        kept = []
        for file in files:
            source = self._ours[file.path]
            others = rivals(source.name, landed[source.partition], self._whole)
            if grew and not others:
                kept.append(file)
                continue
            ids, _ = read_slice(table, _scan_file(file), 0, file.rows, ["chunk_id"])
            # Deleted rows of theirs count too: a chunk that has lost its embedding is for the next plan.
            mask = pending_mask(ids.column(0), ids_of(table, [other.file for other in others]))
            if not grew:
                alive = self._chunks.alive(source.chunks, source.partition, ids.column(0))
                mask = mask if alive is None else mask & alive
            if mask.all():
                kept.append(file)
            else:
                self._pending[file.path] = mask
        return kept

    def _others(self, table: Table) -> dict[Partition, list[LandedFile]]:
        """The model's files that neither the plan nor we know, by partition."""
        found: dict[Partition, list[LandedFile]] = defaultdict(list)
        for file in self._landed.files(table):
            if file.model == self.plan.model and file.file.path not in self._ours:
                found[file.partition].append(file)
        return found

    def _cut(self, file: WrittenFile, mask: npt.NDArray[np.bool_]) -> WrittenFile:
        """A new file with the rows of the mask."""
        table = self._embeddings
        columns = [column.name for column in table.schema().fields]
        rows, _ = read_slice(table, _scan_file(file), 0, file.rows, columns)
        source = self._ours[file.path]
        made = write_data_file(
            table,
            rows.filter(pa.array(mask)),
            f"{run_folder(self.run_id)}/{source.name.file_id}",
            EMBEDDINGS_LAYOUT,
        )
        self._ours[made.path] = source
        return made

    @staticmethod
    def _delete(table: Table, path: str) -> None:
        with contextlib.suppress(OSError):  # an orphan is left: a matter of space, not of rows
            table.io.delete(path)


def rivals(name: Named, landed: Iterable[LandedFile], planned: npt.NDArray[np.bytes_]) -> list[LandedFile]:
    """Files that others have committed since the plan and that may hold rows of a slice.

    Args:
        name: The slice's.
        landed: The model's files in the slice's partition that neither the plan nor we know.
        planned: Ids of the data files that the plan saw with all their rows: a slice of another of these
            shares no chunk with ours. A row that was deleted there may be a chunk that is now in our file.
    """
    return [
        file
        for file in landed
        if file.name is None or file.name.overlaps(name) or not (planned == file.name.file_id.encode()).any()
    ]


def _scan_file(file: WrittenFile) -> ScanFile:
    return ScanFile(file.path, file.partition, file.spec_id, file.rows)
