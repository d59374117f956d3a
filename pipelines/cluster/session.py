"""One Ray for a run: one already connected, a cluster's, or one that is started here and ended afterwards."""

import importlib
import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pipelines.cluster.config import RayConfig
from pipelines.cluster.nodes import Node, alive
from pipelines.errors import EnvironmentFault
from pipelines.redact import redact

_CONNECT_SECONDS = 20
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray would run every worker through `uv run`, resolving the environment anew, if uv started us.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    # Else a warning on CPU machines, that a later release will not hide GPUs from CPU tasks.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Ray would start workers at 15, so that all else on the machine goes first: with one of two cores busy
    # the demo took 161 s, and 129 s so; 92 and 95 s on an idle machine (one run each).
    "RAY_worker_niceness": "0",
    # Ray's C++ core writes to our stderr, such as an "error" about each actor's large arguments; what fails
    # is raised besides.
    "RAY_BACKEND_LOG_LEVEL": "fatal",
}


def load_ray() -> Any:
    """The module `ray`, in the environment that it should start in. Seconds, the first time."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    return importlib.import_module("ray")


class RaySession:
    """Connects when first needed; a context manager that ends what it began and nothing else.

    Attributes:
        config: Where to connect, or what to start.
    """

    def __init__(self, config: RayConfig) -> None:
        self.config = config
        self._started = False

    def start(self) -> None:
        """Connects, once; does nothing where this process has a Ray already.

        Raises:
            EnvironmentFault: The cluster does not answer, or no Ray can be started here.
        """
        ray = load_ray()
        if ray.is_initialized():
            return
        try:
            if self.config.address:
                _check_answers(self.config.address)
            with _silenced_stderr():
                ray.init(**self._arguments())
        except (ConnectionError, RuntimeError, OSError, ValueError) as error:
            reason = redact(" ".join(str(error).split())[:300])
            where = f"the Ray cluster at {self.config.address}" if self.config.address else "a local Ray"
            raise EnvironmentFault(
                f"cannot use {where}: {reason}",
                "Check ray.address" if self.config.address else "Check memory, and ray.temp_dir for space",
            ) from error
        self._started = True

    def _arguments(self) -> dict[str, Any]:
        config = self.config
        # Workers' prints stay in Ray's own logs; what a worker raises reaches us as an exception.
        common = {
            "log_to_driver": False,
            "logging_level": logging.ERROR,
            "runtime_env": config.runtime_env,
        }
        if config.address:
            return common | {"address": config.address}
        return common | {
            "address": "local",  # never one that happens to run on this machine
            "num_cpus": config.num_cpus,
            "object_store_memory": config.object_store_memory,
            "include_dashboard": False,
            "_node_ip_address": "127.0.0.1",
            "_temp_dir": str(config.temp_dir) if config.temp_dir else None,
        }

    def nodes(self) -> list[Node]:
        """The living nodes of the connected Ray."""
        self.start()
        return alive(load_ray().nodes())

    def object_store_bytes(self) -> int:
        """Shared memory of the smallest node's object store."""
        self.start()
        nodes = [node for node in load_ray().nodes() if node["Alive"]]
        return int(min((node["Resources"].get("object_store_memory", 0) for node in nodes), default=0))

    def has_gpu(self) -> bool:
        """Whether encoders would find a GPU; starts no Ray for it where this machine alone is asked."""
        if self.config.address or is_connected():
            self.start()
            return any(node.gpus > 0 for node in self.nodes())
        return bool(local_gpus())

    def close(self) -> None:
        """Ends the Ray that `start` began, or leaves the cluster."""
        if self._started:
            load_ray().shutdown()
            self._started = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _check_answers(address: str) -> None:
    """Fails where nothing listens: ray.init was still waiting for such an address after five minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():  # `auto` names no address
        with socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS):
            pass


@contextmanager
def _silenced_stderr() -> Iterator[None]:
    """Keeps the C++ core, which writes to the file descriptor, from saying which level it logs at."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def is_connected() -> bool:
    """Whether this process has a Ray, without importing one."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def local_gpus(devices: Path = Path("/dev")) -> list[str]:
    """NVIDIA devices that this process may use, without torch or a driver call."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1", "NoDevFiles"):
        return []
    return sorted(device.name for device in devices.glob("nvidia[0-9]*"))
