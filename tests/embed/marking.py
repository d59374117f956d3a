"""An encoder without a model, that notes where it works and fails as it is told to."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import ray

from pipelines.embed.work.wire import Job
from pipelines.encoder.encoded import Encoded
from pipelines.encoder.ragged import Ragged

RAISES, ENDS = 29_998, 29_999  # token ids that it cannot take
_PATIENCE_SECONDS = 120


@dataclass(frozen=True)
class Marking:
    """Makes them.

    Attributes:
        folder: Where they note what they do.
        gate: After its first unit each waits for a file of this name in the folder; empty is no gate.
        stuck: On the node with this id each waits for ever at its first unit.
        broken: `raises` or `ends`, its process, whatever it is given; empty is sound.
    """

    folder: Path
    gate: str = ""
    stuck: str = ""
    broken: str = ""

    def __call__(self, job: Job, device: str, threads: int | None) -> "MarkingEncoder":
        return MarkingEncoder(self, job, device)


class MarkingEncoder:
    """Gives each row a vector of its own, which depends on its ids alone."""

    def __init__(self, made: Marking, job: Job, device: str) -> None:
        self._made, self._job = made, job
        self._node = ray.get_runtime_context().get_node_id()
        self._units = 0
        self._note("started", device)

    @property
    def key(self) -> str:
        return self._job.model.key

    def encode(self, rows: Ragged, batch_tokens: int | None) -> Encoded:
        self._note("encoding", "")
        if self._made.stuck == self._node:
            waited_for(self._made.folder / "never")
        if self._made.gate and self._units:
            waited_for(self._made.folder / self._made.gate)
        self._units += 1
        if self._made.broken == "ends":
            os._exit(1)
        if self._made.broken:
            raise RuntimeError("this accelerator is broken")
        vectors = [self._vector(row) for row in rows]
        self._note("encoded", "")
        return Encoded(np.stack(vectors), len(rows.values_T), len(rows.values_T))

    def _vector(self, row: npt.NDArray[np.integer]) -> npt.NDArray[np.float32]:
        if RAISES in row:
            raise ValueError("a row that cannot be encoded")
        if ENDS in row:
            os._exit(1)
        return vector_of(row, self._job.model.dimension)

    def _note(self, what: str, text: str) -> None:
        (self._made.folder / f"{what}-{self._node}-{os.getpid()}").write_text(text)


def vector_of(row: npt.NDArray[np.integer], dimension: int) -> npt.NDArray[np.float32]:
    """The vector of a row of ids."""
    drawn = np.random.default_rng(row.astype(np.int64)).standard_normal(dimension)
    vector: npt.NDArray[np.float32] = (drawn / np.linalg.norm(drawn)).astype(np.float32)
    return vector


def noted(folder: Path, what: str) -> Iterator[tuple[str, int]]:
    """Nodes and process ids of the encoders that have noted this."""
    for file in sorted(folder.glob(f"{what}-*")):
        _, node, pid = file.name.split("-")
        yield node, int(pid)


def waited_for(file: Path) -> None:
    """Returns once there is a file, or files, of this name."""
    end = time.monotonic() + _PATIENCE_SECONDS
    while not any(file.parent.glob(file.name)):
        if time.monotonic() > end:
            raise TimeoutError(f"{file} never came")
        time.sleep(0.05)
