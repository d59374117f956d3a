"""Rows of a serving table: vectors made smaller, columns of their chunks beside them, written as files."""
# ruff: noqa: N806  (array names carry their shape: x_ND)

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.io.pyarrow import schema_to_pyarrow

from pipelines.encoder.quantise import encode
from pipelines.encoder.rotation import Moment, reduced
from pipelines.lake.datafiles import write_data_file
from pipelines.lake.delta import DeadRows
from pipelines.lake.scan import ScanFile
from pipelines.lake.slices import read_slice
from pipelines.lake.vectors import as_matrix, bytes_column, list_column
from pipelines.publish.layout import KEYS, SCALE, VECTOR, Taken, parquet_layout

if TYPE_CHECKING:
    from pipelines.publish.task import Job, Result, Task

_CHUNK_ROWS = 32_768  # read at a time
_IDS = pa.large_string()


class ServingRows:
    """Collects a task's rows and writes them, a file for each partition of the serving table among them.

    Attributes:
        job: The publication.
        task: Whose rows these are.
        result: Gets the files and the counts.
    """

    def __init__(self, job: Job, task: Task, result: Result) -> None:
        self.job = job
        self.task = task
        self.result = result
        self._pending: list[pa.Table] = []
        self._complete: list[pa.Table] = []  # these have their chunks' columns already
        self._ids: list[pa.Array] = []

    def add(self, batch: pa.Table) -> None:
        """Takes rows of `embeddings`: keys, and `embedding`."""
        if batch.num_rows == 0:
            return
        full_ND = as_matrix(batch["embedding"], self.job.dimension)
        if self.result.moment is not None:
            self.result.moment = self.result.moment.plus(Moment.of(full_ND))
        state = self.job.state
        x_Nd = reduced(full_ND, state.dim, self.job.rotation)
        if state.type == "float32":
            vectors, scale_N = list_column(x_Nd), None
        else:
            x_NB, scale_N = encode(x_Nd, state.type)
            vectors = bytes_column(x_NB)
        rows = batch.select(list(KEYS)).append_column(VECTOR, vectors)
        if scale_N is not None:
            rows = rows.append_column(SCALE, pa.array(scale_N))
        self._pending.append(rows)
        if sum(table.num_rows for table in self._pending) >= self.job.file_rows:
            self.flush()

    def replace(self, stored: pa.Table, positions: npt.NDArray[np.int64], file: ScanFile) -> int:
        """Takes rows of the serving table and has those go, and come anew, whose chunk differs now.

        Args:
            stored: All columns.
            positions: Of the rows in their file.
            file: It.

        Returns:
            How many differ.
        """
        fresh, found = self._chunk_columns(stored["chunk_id"])
        stored, positions = stored.filter(found), positions[np.asarray(found)]
        names = [one.name for one in self.job.taken]
        old, new = stored.select(names).to_pylist(), fresh.select(names).to_pylist()
        differs = pa.array([a != b for a, b in zip(old, new, strict=True)], pa.bool_())
        kept = stored.drop_columns(names).filter(differs)
        if kept.num_rows:
            for name in names:
                kept = kept.append_column(name, fresh[name].filter(differs))
            self._complete.append(kept)
            dead = np.sort(positions[np.asarray(differs)])
            self.result.dead.append(DeadRows(file.path, file.partition, file.spec_id, dead))
        return int(kept.num_rows)

    def written_ids(self) -> pa.Array:
        """chunk_ids of the rows that were new, large_string."""
        return pa.concat_arrays([pa.array([], _IDS), *self._ids])

    def flush(self) -> None:
        """Writes what was taken so far."""
        if self._pending:
            rows = pa.concat_tables(self._pending)
            self._pending = []
            if self.job.taken:
                columns, found = self._chunk_columns(rows["chunk_id"])
                self.result.without_chunk += rows.num_rows - columns.num_rows
                rows = rows.filter(found)
                for one in self.job.taken:
                    rows = rows.append_column(one.name, columns[one.name])
            self.result.new += rows.num_rows
            self._ids += rows["chunk_id"].cast(_IDS).chunks
            self._write(rows)
        if self._complete:
            self._write(pa.concat_tables(self._complete, promote_options="default"))
            self._complete = []

    def _write(self, rows: pa.Table) -> None:
        if rows.num_rows == 0:
            return
        table = self.job.table("serving")
        if self.job.sort_by:
            rows = rows.take(pc.sort_indices(rows, [(name, "ascending") for name in self.job.sort_by]))
        layout, name = parquet_layout(self.job.state.type), f"publish-{self.job.state.run_id}/rows"
        self.result.files += [write_data_file(table, part, name, layout) for part in self._by_partition(rows)]

    def _by_partition(self, rows: pa.Table) -> list[pa.Table]:
        """The rows of each partition, in their order."""
        table = self.job.table("serving")
        keys = []
        for field in table.spec().fields:
            source = table.schema().find_field(field.source_id)
            transform = field.transform.pyarrow_transform(source.field_type)
            keys.append(transform(rows[source.name].combine_chunks()))
        if not keys:
            return [rows]
        names = [str(number) for number in range(len(keys))]
        distinct = pa.table(keys, names=names).group_by(names).aggregate([]).to_pylist()
        if len(distinct) == 1:
            return [rows]
        parts = []
        for values in distinct:
            inside = pa.array(np.ones(rows.num_rows, dtype=np.bool_))
            for key, value in zip(keys, values.values(), strict=True):
                is_value = pc.is_null(key) if value is None else pc.equal(key, pa.scalar(value, key.type))
                inside = pc.and_(inside, is_value.fill_null(False))
            parts.append(rows.filter(inside))
        return parts

    def _chunk_columns(self, ids: pa.ChunkedArray) -> tuple[pa.Table, pa.ChunkedArray]:
        """The chosen columns of these chunks in the order of those found, and which were found."""
        table = self.job.table("chunks")
        wanted = pa.concat_arrays([pa.array([], _IDS), *ids.cast(_IDS).chunks])
        columns = list(dict.fromkeys(["chunk_id", *(one.column for one in self.job.taken)]))
        fresh = {file.path for file in self.task.fresh_chunks}
        schema = schema_to_pyarrow(table.schema().select(*columns), include_field_ids=False)
        found = [_taken(schema.empty_table(), self.job.taken)]
        count = 0
        # New embeddings are of new chunks, mostly.
        for file in sorted(self.task.chunks, key=lambda file: file.path not in fresh):
            for start in range(0, file.rows, _CHUNK_ROWS):
                if count == len(wanted):
                    break
                rows, _ = read_slice(table, file, start, start + _CHUNK_ROWS, columns)
                rows = rows.filter(pc.is_in(rows["chunk_id"].cast(_IDS), value_set=wanted))
                count += rows.num_rows
                found.append(_taken(rows, self.job.taken))
        rows = pa.concat_tables(found)
        known = pa.concat_arrays(rows["chunk_id"].cast(_IDS).chunks)
        at = pc.index_in(ids.cast(_IDS), value_set=known)
        return rows.take(at.drop_null()), pc.is_valid(at)


def _taken(rows: pa.Table, columns: tuple[Taken, ...]) -> pa.Table:
    """chunk_id, and the chosen columns by the names that they get."""
    made = {"chunk_id": rows["chunk_id"]}
    for one in columns:
        column = rows[one.column]
        if one.key is not None:
            column = pc.map_lookup(column, pa.scalar(one.key, column.type.key_type), "first")
        made[one.name] = column
    return pa.table(made)
