"""What travels between the steps of one unit, and what every worker must know."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
from pyiceberg.table import Table

from pipelines.embed.plan import Partition, PendingUnit
from pipelines.encoder.conf import ModelConf
from pipelines.encoder.fingerprint import ModelIdentity
from pipelines.lake import Lake, LakeConfig
from pipelines.lake.datafiles import WrittenFile

REJECT_COLUMNS = pa.schema(
    [(name, pa.large_string()) for name in ("chunk_id", "doc_id", "source", "reason", "detail")]
)


@dataclass(frozen=True)
class Job:
    """What every worker of a run needs; holds no secret.

    Attributes:
        lake: Where the tables are; each process opens them for itself.
        conf: The model.
        model: Its identity, with the precision resolved by the driver for all.
        run_id: Of this run, in the snapshots that it makes.
        batch_tokens: Most tokens of one forward pass, padding included.
    """

    lake: LakeConfig
    conf: ModelConf
    model: ModelIdentity
    run_id: str
    batch_tokens: int

    def table(self, name: str) -> Table:
        """A table as the process first saw it in this run: for reading and writing files, not for commits."""
        return _table(self.lake.model_dump_json(), name, self.run_id)


@dataclass(frozen=True)
class UnitRows:
    """A unit on its way.

    Attributes:
        unit: Which one.
        rows: chunk_id, doc_id, source, and then `input_ids` (list<int32>, what the model reads) until it is
            encoded, `embedding` (list<float32>) afterwards.
        rejects: Rows that cannot be embedded, with REJECT_COLUMNS.
        tokens: What the model reads or has read, specials and prefixes included.
        encoded_from: Unix time at which its encoder took it up; 0 before.
    """

    unit: PendingUnit
    rows: pa.Table
    rejects: pa.Table
    tokens: int
    encoded_from: float = 0.0

    def to_batch(self) -> dict[str, Any]:
        """One row of a Ray block. The tables are Arrow IPC streams: a row is never split, nor merged."""
        return {
            "unit": one(self.unit),
            "rows": one(_to_ipc(self.rows)),
            "rejects": one(_to_ipc(self.rejects)),
            "tokens": np.array([self.tokens], dtype=np.int64),
            "encoded_from": np.array([self.encoded_from], dtype=np.float64),
        }

    @classmethod
    def from_batch(cls, batch: dict[str, Any]) -> "UnitRows":
        """The inverse of `to_batch`."""
        return cls(
            unit=batch["unit"][0],
            rows=_from_ipc(batch["rows"][0]),
            rejects=_from_ipc(batch["rejects"][0]),
            tokens=int(batch["tokens"][0]),
            encoded_from=float(batch["encoded_from"][0]),
        )


@dataclass(frozen=True)
class Finished:
    """A unit that is written but not committed.

    Attributes:
        unit: Its id.
        partition: (source, bucket of doc_id).
        file: Its embeddings; None where every row was rejected.
        rejects: Rows for the table `rejects`.
        rows: Pending rows that it took on: embedded and rejected ones together.
        tokens: What the model read.
        encoded_from: Unix time at which its encoder took it up.
    """

    unit: str
    partition: Partition
    file: WrittenFile | None
    rejects: pa.Table
    rows: int
    tokens: int
    encoded_from: float


def reject_rows(rows: pa.Table, reason: str, details: list[str]) -> pa.Table:
    """Rows that cannot be embedded, as REJECT_COLUMNS.

    Args:
        rows: With chunk_id, doc_id and source.
        reason: A short fixed word.
        details: What exactly is wrong, row by row.
    """
    reasons = pa.array([reason] * rows.num_rows, pa.large_string())
    columns = [*(rows.column(name) for name in ("chunk_id", "doc_id", "source")), reasons, pa.array(details)]
    return pa.Table.from_arrays(columns, names=REJECT_COLUMNS.names).cast(REJECT_COLUMNS)


def one(value: Any) -> np.ndarray[Any, np.dtype[np.object_]]:
    """A column of one object, whatever it is."""
    column = np.empty(1, dtype=np.object_)
    column[0] = value
    return column


@lru_cache(maxsize=8)
def _table(lake_json: str, name: str, run_id: str) -> Table:
    # By run too: Ray lends a process to the next run, whose model an older copy does not know.
    return Lake.open(LakeConfig.model_validate_json(lake_json)).table(name)


def _to_ipc(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _from_ipc(payload: bytes) -> pa.Table:
    with pa.ipc.open_stream(payload) as reader:
        return reader.read_all()
