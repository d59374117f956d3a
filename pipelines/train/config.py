"""How a recipe is run here: nothing of it changes what comes out, beyond the order of sums."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from pipelines.config import Config

# A choice, not yet measured.
_MICRO = {"cpu": (2048, 8192), "cuda": (32_768, 65_536)}


@dataclass(frozen=True)
class Micro:
    """How a batch is cut.

    Attributes:
        batch_tokens: Most tokens of a forward pass with its graph, padding included.
        keep_tokens: So many, padding included, keep their graphs until the loss is known.
    """

    batch_tokens: int
    keep_tokens: int = 0


class TrainConfig(Config):
    """On what, how large at once, and what is kept.

    Attributes:
        device: `auto` is `cuda` where Ray has GPUs, else `cpu`.
        workers: Processes that share each batch; None is one per GPU, or one without GPUs.
        threads: CPU threads of a worker; None shares the machine's cores among the workers of one machine.
        precision: Of the forward pass; `auto` is bfloat16 where the device multiplies it in hardware.
        batch_tokens: Most tokens of a forward pass with its graph, padding included; None is 2,048 on CPUs
            and 32,768 on GPUs.
        keep_tokens: So many tokens of a step keep their graphs, and need no second forward pass; None is
            8,192 on CPUs and 65,536 on GPUs.
        gradient_checkpointing: Whether layers are computed again backwards instead of being kept.
        checkpoint_steps: Steps from one checkpoint to the next.
        keep_checkpoints: How many of them stay.
        failures: How often workers that died are started again, from the last checkpoint.
        out: Folder of the models that come out, each in a folder of its name.
        logs: Folder of TensorBoard's files, each run in a folder of its name.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    workers: int | None = Field(default=None, ge=1)
    threads: int | None = Field(default=None, ge=1)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    batch_tokens: int | None = Field(default=None, ge=1)
    keep_tokens: int | None = Field(default=None, ge=0)
    gradient_checkpointing: bool = False
    checkpoint_steps: int = Field(default=500, ge=1)
    keep_checkpoints: int = Field(default=2, ge=1)
    failures: int = Field(default=3, ge=0)
    out: Path = Path("models")
    logs: Path = Path("logs")

    def micro(self, device: str) -> Micro:
        """How a worker on a device cuts its share of a batch."""
        batch_tokens, keep_tokens = _MICRO[device]
        return Micro(
            self.batch_tokens or batch_tokens,
            keep_tokens if self.keep_tokens is None else self.keep_tokens,
        )
