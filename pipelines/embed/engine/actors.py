"""The two kinds of Ray actors. What goes wrong in one comes back as a value, so that it says where it was."""

import platform
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.embed.engine.trouble import Fault
from pipelines.embed.plan.units import Slice, Unit
from pipelines.embed.work.cache import CacheIndex, Hashes, matches, pending_hashes, with_cached
from pipelines.embed.work.encode import encode_unit
from pipelines.embed.work.read import GoneError, read_unit
from pipelines.embed.work.wire import EncoderFactory, Finished, Job, UnitRows, reject_rows
from pipelines.embed.work.write import write_unit
from pipelines.encoder.ragged import Ragged
from pipelines.encoder.tokenizer import Tokenizer
from pipelines.errors import CatalogError, EmbedlakeError, StorageError
from pipelines.lake.faults import explained
from pipelines.redact import redact

_DETAIL_CHARS = 300


@dataclass(frozen=True)
class Failure:
    """What went wrong with a unit in an actor.

    Attributes:
        fault: What kind of thing; None where the whole run must end with `error`.
        error: What it was; of a kind that survives pickling.
        detail: In one line, for the reject.
    """

    fault: Fault | None
    error: EmbedlakeError | None
    detail: str

    @classmethod
    def of(cls, error: Exception) -> "Failure":
        """The failure that an exception is."""
        said = " ".join(str(error).split())[:_DETAIL_CHARS]
        detail = redact(f"{type(error).__name__}: {said}" if said else type(error).__name__)
        if isinstance(error, GoneError):
            return cls(Fault.GONE, error, detail)
        if isinstance(error, StorageError | CatalogError):
            return cls(Fault.UNREACHABLE, error, detail)
        if isinstance(error, EmbedlakeError):
            return cls(None, error, detail)
        return cls(Fault.FAILED, None, detail)


@dataclass(frozen=True)
class Ready:
    """What an encoder says of itself once its model is loaded.

    Attributes:
        hardware: The accelerator's or the processor's name.
        how: How it encodes, for a person; empty where there is nothing to say.
    """

    hardware: str
    how: str


class EncoderActor:
    """A model in memory, in a process of its own."""

    def __init__(self, job: Job, factory: EncoderFactory, device: str, threads: int | None) -> None:
        self._job = job
        self._device = device
        self._encoder = factory(job, device, threads)

    def ready(self) -> Ready:
        """Answers when the model is loaded."""
        return Ready(hardware(self._device), str(getattr(self._encoder, "described", "")))

    def encode(self, unit: UnitRows | Failure) -> UnitRows | Failure:
        """The unit with vectors."""
        if isinstance(unit, Failure):
            return unit
        try:
            return encode_unit(self._job, self._encoder, unit)
        except Exception as error:
            return Failure.of(error)

    def probe(self, head: list[int]) -> str:
        """Encodes a row that no model can fail on; what went wrong, if it did."""
        try:
            row = Ragged.of([np.array(head, dtype=np.int32)])
            encoded = self._encoder.encode(row, self._job.batch_tokens)
            return "" if np.isfinite(encoded.vectors_ND).all() else "its vector is not finite"
        except Exception as error:
            return Failure.of(error).detail


class HelperActor:
    """Reads and writes, several units at once in threads; also where it shares a node with encoders."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._tokenizer = Tokenizer.load(job.conf)

    def ready(self) -> None:
        """Answers when the tokenizer is loaded."""

    def read(self, unit: Unit, index: CacheIndex | None = None) -> UnitRows | Failure:
        """The unit's pending rows, those with their vectors whose texts are in the index."""
        try:
            with explained(self._job.lake):
                rows = read_unit(self._job, unit, self._tokenizer)
                return rows if index is None else with_cached(self._job, rows, index)
        except EmbedlakeError as error:
            return Failure.of(error)
        except Exception as error:  # a damaged file, most likely: no row of it can be named in a reject
            paths = ", ".join(sorted({piece.file.path for piece in unit.slices})[:3])
            damaged = StorageError(f"chunks cannot be read from {paths} ({Failure.of(error).detail})")
            return Failure(None, damaged, damaged.message)

    def write(self, unit: UnitRows | Failure) -> Finished | Failure:
        """The unit's files, uncommitted."""
        if isinstance(unit, Failure):
            return unit
        try:
            with explained(self._job.lake):
                return write_unit(self._job, unit)
        except EmbedlakeError as error:
            return Failure.of(error)

    def hashes(self, slices: tuple[Slice, ...]) -> Hashes | Failure:
        """See `pending_hashes`."""
        try:
            with explained(self._job.lake):
                return pending_hashes(self._job.table("chunks"), slices)
        except EmbedlakeError as error:
            return Failure.of(error)

    def matches(self, files: tuple[tuple[int, str], ...], probe: Hashes) -> Any:
        """See `matches`."""
        try:
            with explained(self._job.lake):
                return matches(self._job.table("embeddings"), files, probe)
        except EmbedlakeError as error:
            return Failure.of(error)

    def refuse(self, unit: Unit, reason: str, detail: str) -> Finished | Failure:
        """The unit's rows as rejects."""
        rows = self.read(unit)
        if isinstance(rows, Failure):
            return rows
        rejects = pa.concat_tables(
            [rows.rejects, reject_rows(rows.rows, reason, [detail] * rows.rows.num_rows)]
        )
        none = np.empty((0, self._job.model.dimension), dtype=np.float32)
        return self.write(
            replace(rows, rows=rows.rows.slice(0, 0), inputs=None, vectors_ND=none, rejects=rejects, tokens=0)
        )

    def probe_row(self) -> list[int]:
        """What the model reads of an empty text."""
        return [
            int(value) for value in self._tokenizer.model_inputs([""], self._job.conf.prefix("document"))[0]
        ]


def hardware(device: str) -> str:
    """The name of what a process encodes on: `NVIDIA H100 80GB HBM3`, or the processor's."""
    if device != "cpu":
        torch = sys.modules.get("torch")  # a model that uses none is not made to wait for it
        return str(torch.cuda.get_device_name()) if torch and torch.cuda.is_available() else device
    info = Path("/proc/cpuinfo")
    lines: list[str] = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return name or platform.processor() or "CPU"
