"""Second step of a unit: token ids to vectors. Torch is imported by `load` alone, in the actor's process."""

# ruff: noqa: N803, N806  (tensor names carry their shape: x_ND)

import time
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.embed.read import list_column, list_parts
from pipelines.embed.work import Job, UnitRows, reject_rows
from pipelines.errors import ModelError

if TYPE_CHECKING:
    from pipelines.encoder.model import Encoder


class UnitEncoder:
    """A model in memory, that encodes unit after unit.

    Attributes:
        job: Whose model it is.
        encoder: The model.
    """

    def __init__(self, job: Job, encoder: "Encoder") -> None:
        self.job = job
        self.encoder = encoder

    @classmethod
    def load(cls, job: Job, device: str, threads: int | None) -> Self:
        """Loads the model as the driver has described it.

        Raises:
            ModelError: The weights cannot be loaded, or are others than the driver's.
        """
        from pipelines.encoder.model import Encoder

        encoder = Encoder.load(job.conf, device=device, precision=job.model.precision, threads=threads)
        if encoder.key != job.model.key:
            raise ModelError(
                f"a worker has the model '{encoder.key}', the driver '{job.model.key}'",
                "Bring the same model files to every machine",
            )
        return cls(job, encoder)

    def encode(self, unit: UnitRows) -> UnitRows:
        """The unit with an `embedding` for each row; rows without a usable vector become rejects.

        Raises:
            ModelError: The model gives vectors of another dimension than its configuration says.
        """
        encoded_from = time.time()
        values, offsets = list_parts(unit.rows.column("input_ids"))
        keys = unit.rows.drop_columns("input_ids")
        rows = np.split(values, offsets[1:-1]) if keys.num_rows else []
        dimension = self.job.model.dimension
        if rows:
            vectors_ND = self.encoder.encode_ids(rows, batch_tokens=self.job.batch_tokens)
        else:
            vectors_ND = np.empty((0, dimension), dtype=np.float32)
        if vectors_ND.shape != (keys.num_rows, dimension):
            raise ModelError(
                f"model '{self.job.conf.name}' gave vectors of shape {vectors_ND.shape}, where "
                f"{(keys.num_rows, dimension)} was expected"
            )
        good = usable(vectors_ND)
        bad = reject_rows(keys.filter(pa.array(~good)), "bad_vector", _complaints(vectors_ND[~good]))
        vectors_ND = vectors_ND[good]
        lengths = np.full(len(vectors_ND), dimension, dtype=np.int64)
        embedding = list_column(vectors_ND.reshape(-1), lengths)
        return UnitRows(
            unit=unit.unit,
            rows=keys.filter(pa.array(good)).append_column("embedding", embedding),
            rejects=pa.concat_tables([unit.rejects, bad]),
            tokens=unit.tokens,
            encoded_from=encoded_from,
        )


def usable(vectors_ND: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Which rows are finite and of length 1 (within 1 %): the others are of no use to any search."""
    with np.errstate(invalid="ignore", over="ignore"):
        norms_N = np.linalg.norm(vectors_ND, axis=1)
        whole_N: npt.NDArray[np.bool_] = np.isfinite(vectors_ND).all(axis=1) & (np.abs(norms_N - 1) < 0.01)
    return whole_N


def _complaints(vectors_ND: npt.NDArray[np.float32]) -> list[str]:
    return [
        f"the vector has length {np.linalg.norm(vector):.3g}"
        if np.isfinite(vector).all()
        else f"{int((~np.isfinite(vector)).sum())} of {len(vector)} coordinates are not finite"
        for vector in vectors_ND
    ]
