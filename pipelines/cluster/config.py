"""Settings of the Ray that runs a stage."""

from pathlib import Path
from typing import Any

from pydantic import Field

from pipelines.config import Config


class RayConfig(Config):
    """The Ray that runs the stage. Where this process has one already, that one is used and left running.

    Attributes:
        address: Of a running cluster, `auto` for the one that this machine belongs to; None starts one of its
            own on this machine and ends it afterwards.
        num_cpus: CPUs of the one it starts; None is what the machine has.
        object_store_memory: Bytes of shared memory of the one it starts; None is Ray's choice, 30 % of
            memory.
        temp_dir: Where the one it starts keeps sockets and logs; None is `/tmp/ray`. Keep it short: the path
            of a socket has at most 107 bytes.
        runtime_env: Ray runtime environment of the workers, for a cluster whose image lacks this package.
    """

    address: str | None = None
    num_cpus: int | None = Field(default=None, ge=1)
    object_store_memory: int | None = Field(default=None, ge=80 * 2**20)
    temp_dir: Path | None = None
    runtime_env: dict[str, Any] | None = None
