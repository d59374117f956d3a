"""A real Ray cluster on this machine: several nodes with labels and logical accelerators."""

import importlib
import os
import shutil
import signal
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from pipelines.cluster.session import load_ray

LABELS = {"embedlake.test/kind": "accelerator"}
_ACCELERATORS = 2
# A node that is killed is known to be gone in seconds, not in a quarter of a minute.
_ENVIRONMENT = {
    "RAY_health_check_initial_delay_ms": "0",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "10000",
    "RAY_health_check_failure_threshold": "3",
}


class FaultyCluster:
    """A head without CPUs, two nodes of two accelerators each, and at times one for helpers.

    Two accelerators each, and drivers that want two encoders in all: two drivers find room at once, and one
    does on what a lost node leaves. A context manager.

    Attributes:
        address: For drivers.
    """

    def __init__(self, helper_node: bool) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="rf", dir="/tmp"))
        os.environ |= _ENVIRONMENT | {"RAY_TMPDIR": str(self._folder)}
        load_ray()
        utils = importlib.import_module("ray.cluster_utils")
        head = {"num_cpus": 0, "include_dashboard": False}
        self._cluster = utils.Cluster(initialize_head=True, head_node_args=head)
        self._accelerators: list[Any] = []
        self._helpers: list[Any] = []
        self.settle(helper_node)

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def settle(self, helper_node: bool) -> None:
        """Brings back what was lost, and has the helpers' node or has not."""
        self._accelerators = [node for node in self._accelerators if _lives(node)]
        self._helpers = [node for node in self._helpers if _lives(node)]
        while len(self._accelerators) < 2:
            self._accelerators.append(
                self._cluster.add_node(num_cpus=1, num_gpus=_ACCELERATORS, labels=LABELS)
            )
        while helper_node and not self._helpers:
            self._helpers.append(self._cluster.add_node(num_cpus=1))
        while not helper_node and self._helpers:
            self._cluster.remove_node(self._helpers.pop(), allow_graceful=False)

    def lose(self, share: float) -> str:
        """Ends a node's processes at once."""
        nodes = [(node, "accelerator") for node in self._accelerators]
        nodes += [(node, "helper") for node in self._helpers]
        node, kind = nodes[int(share * len(nodes))]
        (self._accelerators if kind == "accelerator" else self._helpers).remove(node)
        left = [psutil.Process(pid) for pid in self._workers(node, "")]
        self._cluster.remove_node(node, allow_graceful=False)
        for process in left:
            if process.is_running():
                process.kill()
        return kind

    def kill_worker(self, kind: str, share: float) -> bool:
        """Kills the process of an actor, if there is one.

        Args:
            kind: `EncoderActor` or `HelperActor`.
            share: Which of them.
        """
        nodes = [*self._accelerators, *self._helpers, self._cluster.head_node]
        pids = [pid for node in nodes for pid in self._workers(node, kind)]
        if pids:
            os.kill(pids[int(share * len(pids))], signal.SIGKILL)
        return bool(pids)

    def close(self) -> None:
        self._cluster.shutdown()
        shutil.rmtree(self._folder, ignore_errors=True)

    @staticmethod
    def _workers(node: Any, kind: str) -> list[int]:
        found = []
        for raylet in node.all_processes.get("raylet", []):
            try:
                children = psutil.Process(raylet.process.pid).children(recursive=True)
            except psutil.NoSuchProcess:
                continue
            for child in children:
                try:
                    title = " ".join(child.cmdline())
                except psutil.Error:
                    continue
                if title.startswith("ray::") and kind in title:
                    found.append(child.pid)
        return sorted(found)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _lives(node: Any) -> bool:
    return all(process.process.poll() is None for process in node.all_processes.get("raylet", []))
