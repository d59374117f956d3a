"""Second step of a unit: token ids to vectors. Torch is imported by `load_encoder` alone, in the actor."""
# ruff: noqa: N803, N806  (tensor names carry their shape: x_ND)

import time

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.embed.work.read import same_text
from pipelines.embed.work.wire import BatchEncoder, Job, UnitRows, reject_rows
from pipelines.encoder.encoded import Encoded
from pipelines.encoder.ragged import Ragged
from pipelines.errors import ModelError


def load_encoder(job: Job, device: str, threads: int | None) -> BatchEncoder:
    """Loads the model as the driver has described it.

    Raises:
        ModelError: The weights cannot be loaded, or are others than the driver's.
    """
    from pipelines.encoder.model import Encoder

    encoder = Encoder.load(
        job.conf, device=device, precision=job.model.precision, threads=threads, backend=job.backend
    )
    if encoder.key != job.model.key:
        raise ModelError(
            f"a worker has the model '{encoder.key}', the driver '{job.model.key}'",
            "Bring the same model files to every machine",
        )
    return encoder


def encode_unit(job: Job, encoder: BatchEncoder, unit: UnitRows) -> UnitRows:
    """The unit with a vector for each row; rows without a usable vector become rejects.

    A text that the unit holds twice is encoded once.

    Raises:
        ModelError: The model gives vectors of another dimension than its configuration says.
    """
    began, clock = time.time(), time.perf_counter()
    inputs = unit.inputs
    if inputs is None:
        raise ModelError("a unit was encoded twice")
    new_N = np.ones(len(inputs), dtype=np.bool_)
    if unit.known is not None:
        new_N[unit.known.rows_K] = False
    new_K = np.flatnonzero(new_N)
    hashes = unit.rows.column("text_hash")
    first_U, text_K = same_text(hashes if new_N.all() else hashes.filter(pa.array(new_N)))
    first_U = new_K[first_U]
    encoded = _encoded(job, encoder, inputs if len(first_U) == len(inputs) else inputs.take(first_U))
    vectors_ND = encoded.vectors_ND
    if len(first_U) < len(inputs):
        vectors_ND = np.empty((len(inputs), job.model.dimension), dtype=np.float32)
        vectors_ND[new_K] = encoded.vectors_ND[text_K]
        if unit.known is not None:
            vectors_ND[unit.known.rows_K] = unit.known.vectors_KD
    good_N = usable(vectors_ND)
    rows, rejects = unit.rows, unit.rejects
    if not good_N.all():
        bad = reject_rows(rows.filter(pa.array(~good_N)), "bad_vector", _complaints(vectors_ND[~good_N]))
        rows, rejects, vectors_ND = (
            rows.filter(pa.array(good_N)),
            pa.concat_tables([rejects, bad]),
            vectors_ND[good_N],
        )
    return UnitRows(
        unit=unit.unit,
        names=unit.names,
        rows=rows,
        inputs=None,
        vectors_ND=vectors_ND,
        rejects=rejects,
        tokens=encoded.tokens,
        padded=encoded.padded_tokens,
        copied=unit.copied + len(inputs) - len(first_U),
        began=began,
        busy=time.perf_counter() - clock,
    )


def _encoded(job: Job, encoder: BatchEncoder, inputs: Ragged) -> Encoded:
    dimension = job.model.dimension
    if len(inputs) == 0:
        return Encoded(np.empty((0, dimension), dtype=np.float32), 0, 0)
    encoded = encoder.encode(inputs, job.batch_tokens)
    if encoded.vectors_ND.shape != (len(inputs), dimension):
        raise ModelError(
            f"model '{job.conf.name}' gave vectors of shape {encoded.vectors_ND.shape}, where "
            f"{(len(inputs), dimension)} was expected"
        )
    return encoded


def usable(vectors_ND: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Which rows are finite and of length 1 (within 1 %): the others are of no use to any search."""
    with np.errstate(invalid="ignore", over="ignore"):
        # A row with a coordinate that is not finite has a length that is not either.
        norms_N = np.sqrt(np.einsum("nd,nd->n", vectors_ND, vectors_ND))
        whole_N: npt.NDArray[np.bool_] = np.abs(norms_N - 1) < 0.01
    return whole_N


def _complaints(vectors_ND: npt.NDArray[np.float32]) -> list[str]:
    return [
        f"the vector has length {np.linalg.norm(vector):.3g}"
        if np.isfinite(vector).all()
        else f"{int((~np.isfinite(vector)).sum())} of {len(vector)} coordinates are not finite"
        for vector in vectors_ND
    ]
