"""Commits finished units: rejects first, then embeddings, each chunk once whatever else happens.

What a death leaves behind, step by step; the next run starts from the tables alone:

- in a worker, before or after it has written a data file: an orphan file that no snapshot holds. No row is
  there twice, as readers see committed files only; `remove_orphan_files` takes it away.
- in the driver, with units written but not committed: the same orphans. The units are done again. At most
  what was finished since the last commit is lost, and the units in flight.
- after the data file of rejects is written, before its commit: an orphan; the rejects are found again.
- between the commits of rejects and of embeddings: the rejects stand. The plan leaves these chunks out by
  their chunk_id, and the rest of their units is done again. The other order could lose a reject for good: a
  unit whose embeddings and rejects do not add up would be compared by chunk_id, and the reject be embedded
  again, at every run.
- in a commit: Iceberg swaps one pointer. The snapshot is there, whole, or it is not. Where the catalogue's
  answer was lost, `append_files` looks at the table again before it decides.
- after the commit of embeddings: nothing is lost. Before the files that another job made needless are
  deleted: they are orphans.
- while a file is cut to the rows that another job has not committed: the old file, the new one or both are
  orphans; nothing was committed.

Two jobs at once, or a compaction under a running job: before each attempt the table is read anew, and files
that others have committed since the plan are compared with ours (`plan.rivals`), by chunk_id. A commit of
theirs between that look and ours makes ours fail, and the look is repeated.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyiceberg.table import Table

from pipelines.embed.plan import EmbeddedFile, Partition, Plan, by_partition, rivals
from pipelines.embed.survey import STAGE, deleted_partitions, embedded_ids, pending_mask, rejected_chunks
from pipelines.embed.work import Finished
from pipelines.embed.write import EMBEDDINGS_LAYOUT
from pipelines.lake import Lake
from pipelines.lake.commit import append_files
from pipelines.lake.datafiles import WrittenFile, write_data_file
from pipelines.lake.faults import explained
from pipelines.lake.live import LiveFiles
from pipelines.lake.scan import ScanFile, read_file


@dataclass
class Committed:
    """What a run has committed so far.

    Attributes:
        rows: Embeddings.
        rejects: Chunks newly rejected.
        needless_rows: Embeddings that another job had committed first, so ours were left out.
        commits: Snapshots of `embeddings`.
    """

    rows: int = 0
    rejects: int = 0
    needless_rows: int = 0
    commits: int = 0


@dataclass
class _Paths:
    """The files' view that `append_files` wants, on the one that is kept anyway."""

    live: LiveFiles[EmbeddedFile]

    def of(self, table: Table) -> Iterator[str]:
        return (file.path for file in self.live.of(table))


@dataclass
class Committer:
    """Commits for one run. Not to be shared between threads.

    Attributes:
        lake: Where to.
        plan: What the run set out from.
        live: The view of the embeddings' files that the plan was made with.
        run_id: Goes into each snapshot's summary, as `embedlake.run-id`.
        total: What was committed so far.
    """

    lake: Lake
    plan: Plan
    live: LiveFiles[EmbeddedFile]
    run_id: str
    total: Committed = field(default_factory=Committed)

    def __post_init__(self) -> None:
        self._embeddings = self.lake.table("embeddings")
        self._rejects = self.lake.table("rejects")
        self._ours: dict[str, str] = {}  # path -> unit of every file that this run has offered
        self._pending: dict[str, npt.NDArray[np.bool_]] = {}  # path -> rows that no rival holds
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
            CatalogError: The catalogue does not answer.
            StorageError: The object store or disk does not.
        """
        with explained(self.lake.config):
            rejects = pa.concat_tables([unit.rejects for unit in units])
            if rejects.num_rows:
                self.total.rejects += self._append_rejects(rejects)
            written = [(unit.unit, unit.file) for unit in units if unit.file is not None]
            self._ours |= {file.path: unit for unit, file in written}
            waiting = [file for _, file in written]
            while waiting:
                waiting = self._append(waiting)

    def _append_rejects(self, rejects: pa.Table) -> int:
        """Appends those whose key is not there yet, and says how many."""
        while True:
            self._rejects.refresh()
            seen = set(self._reject_paths.of(self._rejects))
            known = rejected_chunks(self._rejects, self.plan.model)
            keys = pa.array([f"{self.plan.model}/{chunk.chunk_id}" for chunk in known], pa.large_string())
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
        appended = append_files(table, files, self._properties, self._still_missing, _Paths(self.live))
        self.total.commits += bool(appended)
        # Files that an interrupted call had appended are in the table too; deleting one would lose its rows.
        held = {file.path for file in appended} | {file.path for file in self.live.of(table)}
        cut = []
        for file in files:
            if file.path in held:
                self.total.rows += file.rows
                continue
            mask = self._pending[file.path]
            if mask.any():
                cut.append(self._cut(file, mask))
            self.total.needless_rows += int((~mask).sum())
            self._delete(table, file.path)
        return cut

    def _still_missing(self, table: Table, files: Sequence[WrittenFile]) -> Sequence[WrittenFile]:
        landed = by_partition(
            file
            for file in self.live.of(table)
            if file.model == self.plan.model
            and file.path not in self.plan.baseline
            and file.path not in self._ours
        )
        kept = []
        for file in files:
            _, source, bucket = file.partition
            partition: Partition = (source, bucket)
            ours = EmbeddedFile(file.path, self.plan.model, partition, self._ours[file.path], file.rows)
            others = rivals(ours, landed.get(partition, ()), self.plan.units)
            if not others:
                kept.append(file)
                continue
            deletes = partition in deleted_partitions(table, self.plan.model)
            known = embedded_ids(table, self.plan.model, partition, others, deletes)
            mask = pending_mask(read_file(table, _scan_file(file), ["chunk_id"]).column(0), known)
            if mask.all():
                kept.append(file)
            else:
                self._pending[file.path] = mask
        return kept

    def _cut(self, file: WrittenFile, mask: npt.NDArray[np.bool_]) -> WrittenFile:
        """A new file with the rows of the mask."""
        table = self._embeddings
        rows = read_file(table, _scan_file(file), [column.name for column in table.schema().fields])
        unit = self._ours[file.path]
        made = write_data_file(table, rows.filter(pa.array(mask)), f"embed-{unit}", EMBEDDINGS_LAYOUT)
        self._ours[made.path] = unit
        return made

    @staticmethod
    def _delete(table: Table, path: str) -> None:
        with contextlib.suppress(OSError):  # an orphan is left: a matter of space, not of rows
            table.io.delete(path)


def _scan_file(file: WrittenFile) -> ScanFile:
    return ScanFile(file.path, file.partition, file.spec_id, file.rows)
