"""What travels between the steps of one unit, and what every worker must know."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyiceberg.table import Table

from pipelines.embed.plan.units import Named, Partition, Unit
from pipelines.encoder.conf import ModelConf
from pipelines.encoder.encoded import Encoded
from pipelines.encoder.fingerprint import ModelIdentity
from pipelines.encoder.ragged import Ragged
from pipelines.lake import Lake, LakeConfig
from pipelines.lake.datafiles import WrittenFile

REJECT_COLUMNS = pa.schema(
    [
        *((name, pa.large_string()) for name in ("chunk_id", "doc_id", "source", "reason", "detail")),
        ("slice", pa.int32()),
    ]
)


class BatchEncoder(Protocol):
    """What encodes rows of token ids; a `pipelines.encoder.model.Encoder` is one."""

    @property
    def key(self) -> str:
        """Value of the `model` partition for its vectors."""

    def encode(self, rows: Ragged, batch_tokens: int | None) -> Encoded:
        """A vector for each row."""


@dataclass(frozen=True)
class Job:
    """What every worker of a run needs; holds no secret.

    Attributes:
        lake: Where the tables are; each process opens them for itself.
        conf: The model.
        model: Its identity, with the precision resolved by the driver for all.
        run_id: Of this run, in the snapshots that it makes.
        batch_tokens: Most tokens of one forward pass, padding included; None for what suits the device.
        backend: See `pipelines.encoder.backends.choose`.
        where: Only chunks that match this filter; all where None.
    """

    lake: LakeConfig
    conf: ModelConf
    model: ModelIdentity
    run_id: str
    batch_tokens: int | None
    backend: Literal["auto", "torch", "compiled", "openvino"] = "torch"
    where: str | None = None

    def table(self, name: str) -> Table:
        """A table as the process first saw it in this run: for reading and writing files, not for commits."""
        return _table(self.lake.model_dump_json(), name, self.run_id)


# job, device as torch names it, CPU threads -> the model in memory
EncoderFactory = Callable[[Job, str, int | None], BatchEncoder]


@dataclass(frozen=True)
class Known:
    """Vectors that were there already.

    Attributes:
        rows_K: Whose they are: rows of a unit, ascending.
        vectors_KD: float32.
    """

    rows_K: npt.NDArray[np.int64]  # noqa: N815 - the names carry their shape
    vectors_KD: npt.NDArray[np.float32]  # noqa: N815


@dataclass(frozen=True)
class UnitRows:
    """A unit on its way.

    Attributes:
        unit: Which one.
        names: Of each of its slices, as its embeddings will carry it.
        rows: chunk_id, doc_id, source, text_hash and slice (int32, the position in `unit.slices`), in the
            order of the slices.
        inputs: What the model reads, a row each; None once they are encoded.
        vectors_ND: float32, a row each; None before.
        known: Rows whose vectors are there already.
        rejects: Rows that cannot be embedded, with REJECT_COLUMNS.
        tokens: What the model reads or has read, specials and prefixes included.
        copied: Rows that got the vector of an equal text.
        began: Unix time at which its encoder took it up; 0 before.
        busy: Seconds that its encoder took.
        padded: Tokens that the model has read, padding included.
    """

    unit: Unit
    names: tuple[Named, ...]
    rows: pa.Table
    inputs: Ragged | None
    vectors_ND: npt.NDArray[np.float32] | None  # noqa: N815 - the name carries its shape
    rejects: pa.Table
    tokens: int
    known: Known | None = None
    copied: int = 0
    began: float = 0.0
    busy: float = 0.0
    padded: int = 0


@dataclass(frozen=True)
class FinishedSlice:
    """A slice that is written but not committed.

    Attributes:
        name: Its name.
        partition: (source, bucket of doc_id).
        file: Its embeddings; None where every row was rejected.
    """

    name: Named
    partition: Partition
    file: WrittenFile | None


@dataclass(frozen=True)
class Finished:
    """A unit that is written but not committed.

    Attributes:
        unit: Which one.
        slices: Its slices.
        rejects: Rows for the table `rejects`.
        rows: Pending rows that it took on: embedded and rejected ones together.
        tokens: What the model read.
        padded: The same, padding included.
        copied: Rows that got the vector of an equal text.
        began: Unix time at which its encoder took it up.
        busy: Seconds that its encoder took.
    """

    unit: Unit
    slices: tuple[FinishedSlice, ...]
    rejects: pa.Table
    rows: int
    tokens: int
    padded: int = 0
    copied: int = 0
    began: float = 0.0
    busy: float = 0.0


def reject_rows(rows: pa.Table, reason: str, details: list[str]) -> pa.Table:
    """Rows that cannot be embedded, as REJECT_COLUMNS.

    Args:
        rows: With chunk_id, doc_id, source and slice.
        reason: A short fixed word.
        details: What exactly is wrong, row by row.
    """
    columns: list[Any] = [rows.column(name) for name in ("chunk_id", "doc_id", "source")]
    columns += [pa.array([reason] * rows.num_rows, pa.large_string()), pa.array(details, pa.large_string())]
    return pa.Table.from_arrays([*columns, rows.column("slice")], names=REJECT_COLUMNS.names).cast(
        REJECT_COLUMNS
    )


@lru_cache(maxsize=8)
def _table(lake_json: str, name: str, run_id: str) -> Table:
    # By run too: Ray lends a process to the next run, whose model an older copy does not know.
    return Lake.open(LakeConfig.model_validate_json(lake_json)).table(name)
