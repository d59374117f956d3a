"""Third step of a unit: its vectors become one data file of `embeddings`, which no snapshot holds yet."""

import json

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.io.pyarrow import schema_to_pyarrow

from pipelines.embed.plan import Partition, PendingUnit
from pipelines.embed.read import list_parts
from pipelines.embed.survey import STAGE
from pipelines.embed.work import Finished, Job, UnitRows
from pipelines.errors import CommitError, ModelError
from pipelines.lake.datafiles import ParquetLayout, WrittenFile, write_data_file
from pipelines.lake.filters import is_one_of
from pipelines.lake.models import recorded_dimension
from pipelines.lake.scan import read_file
from pipelines.lake.tables import REJECTS

EMBEDDINGS_LAYOUT = ParquetLayout(vector_columns=("embedding",))
_EXCERPT_CHARS = 200


def write_unit(job: Job, unit: UnitRows) -> Finished:
    """Writes the unit's embeddings as one uncommitted file. Killed in it, an orphan file is left, no row.

    Raises:
        ModelError: The vectors are not as long as the table's record of the model says.
        CommitError: The rows do not belong to their chunk's partition.
    """
    source, bucket = unit.unit.file.partition
    return Finished(
        unit=unit.unit.unit,
        partition=(source, bucket),
        file=_write_rows(job, unit, (source, bucket)) if unit.rows.num_rows else None,
        rejects=_reject_table(job, unit.unit, unit.rejects, bucket),
        rows=unit.rows.num_rows + unit.rejects.num_rows,
        tokens=unit.tokens,
        encoded_from=unit.encoded_from,
    )


def _write_rows(job: Job, unit: UnitRows, partition: Partition) -> WrittenFile:
    table = job.table("embeddings")
    dimension = recorded_dimension(table.properties, job.model.key)
    _, offsets = list_parts(unit.rows.column("embedding"))
    lengths = set((offsets[1:] - offsets[:-1]).tolist())
    if lengths != {dimension}:
        raise ModelError(
            f"'{job.model.key}' gives vectors of dimension {sorted(lengths)}, the lake records {dimension}",
            "Give the model another name, or use another namespace (--set lake.namespace=NAME)",
        )
    count = unit.rows.num_rows
    rows = unit.rows.append_column("model", pa.array([job.model.key] * count))
    rows = rows.append_column("unit", pa.array([unit.unit.unit] * count))
    written = write_data_file(table, rows, f"embed-{unit.unit.unit}", EMBEDDINGS_LAYOUT)
    if written.partition != (job.model.key, *partition):
        table.io.delete(written.path)
        raise CommitError(
            f"{unit.unit.file.path} is in partition {partition}, its embeddings in {written.partition}"
        )
    return written


def _reject_table(job: Job, unit: PendingUnit, rejects: pa.Table, bucket: int) -> pa.Table:
    schema = schema_to_pyarrow(REJECTS.schema, include_field_ids=False)
    if rejects.num_rows == 0:
        return schema.empty_table()
    chunk_ids = rejects.column("chunk_id").to_pylist()
    texts = read_file(job.table("chunks"), unit.file, ["chunk_id", "text"], is_one_of("chunk_id", chunk_ids))
    start = pc.utf8_slice_codeunits(texts.column("text"), 0, _EXCERPT_CHARS)
    excerpts = dict(zip(texts.column("chunk_id").to_pylist(), start.to_pylist(), strict=True))
    rows = [
        {
            "key": f"{job.model.key}/{row['chunk_id']}",
            "stage": STAGE,
            "source": row["source"],
            "reason": row["reason"],
            "detail": row["detail"],
            "excerpt": excerpts.get(row["chunk_id"]),
            # unit and bucket say where the chunk was: with them a plan needs no look at its row.
            "payload": json.dumps(
                {
                    "chunk_id": row["chunk_id"],
                    "doc_id": row["doc_id"],
                    "model": job.model.key,
                    "unit": unit.unit,
                    "bucket": bucket,
                },
                ensure_ascii=False,
            ),
        }
        for row in rejects.to_pylist()
    ]
    return pa.Table.from_pylist(rows, schema=schema)
