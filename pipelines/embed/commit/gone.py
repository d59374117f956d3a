"""Chunks that curate takes away while they are embedded: their rows are left out of the commit."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation

from pipelines.embed.plan.reconcile import ids_of
from pipelines.embed.plan.units import Partition
from pipelines.lake.added import history
from pipelines.lake.filters import equals
from pipelines.lake.scan import ScanFile, scan_files


class ChunkWatch:
    """Compares `chunks` as it is with what a plan saw.

    Attributes:
        planned: Id of the snapshot that the plan was made of.
    """

    def __init__(self, table: Table, planned: int | None) -> None:
        self.planned = planned
        self._table = table
        self._files: dict[Partition, dict[str, ScanFile]] = {}
        self._ids: dict[Partition, pa.Array] = {}

    @property
    def current(self) -> int | None:
        """Id of the snapshot that was last looked at."""
        snapshot = self._table.current_snapshot()
        return snapshot.snapshot_id if snapshot else None

    def refresh(self) -> None:
        """Looks at the table again."""
        before = self.current
        self._table.refresh()
        if self.current != before:
            self._files, self._ids = {}, {}

    def only_grew(self) -> bool:
        """Whether no row that the plan saw can be gone."""
        for snapshot in history(self._table):
            if snapshot.snapshot_id == self.planned:
                return True
            if snapshot.summary is None or snapshot.summary.operation != Operation.APPEND:
                return False
        return self.planned is None

    def alive(
        self, file: ScanFile, partition: Partition, chunk_ids: pa.ChunkedArray
    ) -> npt.NDArray[np.bool_] | None:
        """Which of the rows made from a data file of `chunks` are of chunks that are still there.

        Args:
            file: As the plan saw it.
            partition: Its own.
            chunk_ids: Of the rows.

        Returns:
            None where all are.
        """
        now = self._live(partition).get(file.path)
        if now is not None and now.deletes == file.deletes:
            return None
        if partition not in self._ids:
            self._ids[partition] = ids_of(self._table, self._live(partition).values())
        there = pc.is_in(chunk_ids.cast(pa.large_string()), value_set=self._ids[partition])
        mask = np.asarray(there.to_numpy(), dtype=np.bool_)
        return None if mask.all() else mask

    def _live(self, partition: Partition) -> dict[str, ScanFile]:
        if partition not in self._files:
            files = scan_files(self._table, equals("source", partition[0]))
            for bucket in {partition[1], *(file.partition[1] for file in files)}:
                self._files[partition[0], bucket] = {}
            for file in files:
                self._files[file.partition[0], file.partition[1]][file.path] = file
        return self._files[partition]
