"""Third step of a unit: its vectors become data files of `embeddings`, which no snapshot holds yet."""
# ruff: noqa: N803, N806  (array names carry their shape: x_ND)

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.io.pyarrow import schema_to_pyarrow

from pipelines.embed.plan.survey import STAGE
from pipelines.embed.work.wire import Finished, FinishedSlice, Job, UnitRows
from pipelines.errors import CommitError, ModelError
from pipelines.lake.datafiles import ParquetLayout, WrittenFile, write_data_file
from pipelines.lake.models import recorded_dimension
from pipelines.lake.slices import read_slice
from pipelines.lake.tables import REJECTS
from pipelines.lake.vectors import list_column

EMBEDDINGS_LAYOUT = ParquetLayout(vector_columns=("embedding",))
_EXCERPT_CHARS = 200
_STORED = ("chunk_id", "doc_id", "source", "text_hash")


def write_unit(job: Job, unit: UnitRows) -> Finished:
    """Writes each slice's embeddings as one uncommitted file. Killed in it, orphan files are left, no row.

    Raises:
        ModelError: The vectors are not as long as the table's record of the model says.
        CommitError: The rows do not belong to their chunks' partition.
    """
    if unit.vectors_ND is None:
        raise ModelError("a unit was written before it was encoded")
    dimension = recorded_dimension(job.table("embeddings").properties, job.model.key)
    if unit.vectors_ND.shape[1] != dimension:
        raise ModelError(
            f"'{job.model.key}' gives vectors of dimension {unit.vectors_ND.shape[1]}, "
            f"the lake records {dimension}",
            "Give the model another name, or use another namespace (--set lake.namespace=NAME)",
        )
    slice_N = unit.rows.column("slice").to_numpy()
    bounds = np.searchsorted(slice_N, np.arange(len(unit.unit.slices) + 1))
    slices = []
    for number, (piece, name) in enumerate(zip(unit.unit.slices, unit.names, strict=True)):
        first, last = int(bounds[number]), int(bounds[number + 1])
        rows = unit.rows.slice(first, last - first).select(_STORED)
        file = _write_rows(job, unit, number, rows, unit.vectors_ND[first:last]) if first < last else None
        slices.append(FinishedSlice(name, piece.partition, file))
    return Finished(
        unit=unit.unit,
        slices=tuple(slices),
        rejects=_reject_table(job, unit),
        rows=unit.rows.num_rows + unit.rejects.num_rows,
        tokens=unit.tokens,
        padded=unit.padded,
        copied=unit.copied,
        began=unit.began,
        busy=unit.busy,
    )


def run_folder(run_id: str) -> str:
    """Where a run's data files go, below the table's own folder for data: a listing finds them by the run."""
    return f"embed-{run_id}"


def _write_rows(
    job: Job, unit: UnitRows, number: int, rows: pa.Table, vectors_ND: npt.NDArray[np.float32]
) -> WrittenFile:
    table = job.table("embeddings")
    partition, name = unit.unit.slices[number].partition, unit.names[number]
    for column, value in (("model", job.model.key), ("unit", str(name))):
        rows = rows.append_column(column, pa.repeat(value, len(vectors_ND)))
    written = write_data_file(
        table,
        rows.append_column("embedding", list_column(vectors_ND)),
        f"{run_folder(job.run_id)}/{name.file_id}",
        EMBEDDINGS_LAYOUT,
    )
    if written.partition != (job.model.key, *partition):
        table.io.delete(written.path)
        raise CommitError(
            f"{unit.unit.slices[number].file.path} is in partition {partition}, its embeddings in "
            f"{written.partition}"
        )
    return written


def _reject_table(job: Job, unit: UnitRows) -> pa.Table:
    schema = schema_to_pyarrow(REJECTS.schema, include_field_ids=False)
    made: list[dict[str, Any]] = []
    for number in unit.rejects.column("slice").unique().to_pylist():
        piece, name = unit.unit.slices[number], unit.names[number]
        rejects = unit.rejects.filter(pc.equal(unit.rejects.column("slice"), number))
        texts, _ = read_slice(job.table("chunks"), piece.file, piece.start, piece.stop, ["chunk_id", "text"])
        texts = texts.filter(
            pc.is_in(texts.column("chunk_id"), value_set=rejects.column("chunk_id").combine_chunks())
        )
        start = pc.utf8_slice_codeunits(texts.column("text"), 0, _EXCERPT_CHARS)
        excerpts = dict(zip(texts.column("chunk_id").to_pylist(), start.to_pylist(), strict=True))
        for row in rejects.to_pylist():
            payload = {
                "chunk_id": row["chunk_id"],
                "doc_id": row["doc_id"],
                "model": job.model.key,
                # These two say where the chunk was: with them a plan needs no look at its row.
                "unit": str(name),
                "bucket": piece.partition[1],
            }
            made.append(
                {
                    "key": f"{job.model.key}/{row['chunk_id']}",
                    "stage": STAGE,
                    "source": row["source"],
                    "reason": row["reason"],
                    "detail": row["detail"],
                    "excerpt": excerpts.get(row["chunk_id"]),
                    "payload": json.dumps(payload, ensure_ascii=False),
                }
            )
    return pa.Table.from_pylist(made, schema=schema)
