"""A cluster of several Ray nodes on this machine, and a driver on it: `python -m tests.embed.cluster`.

It has a head without CPUs, a node with CPUs alone, and nodes with a logical GPU: `a`, and `b` of another
kind. Each line of its input is a run, as JSON; it answers each with a line of JSON.
"""

import json
import os
import signal
import sys
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pipelines.cluster.config import RayConfig
from pipelines.cluster.session import load_ray
from pipelines.embed.config import EmbedConfig
from pipelines.embed.run import embed
from pipelines.encoder.conf import load_model_conf
from pipelines.errors import EmbedlakeError
from pipelines.lake import Lake, LakeConfig
from tests.embed.marking import Marking, noted, waited_for
from tests.told import Told

_SMALL: dict[str, Any] = {"object_store_memory": 100 * 2**20, "include_dashboard": False}
# A node that is gone is missed after some seconds, not after half a minute.
_HEALTH = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 1000,
    "health_check_failure_threshold": 5,
}


class Nodes:
    """The cluster."""

    def __init__(self, folder: str) -> None:
        os.environ["RAY_TMPDIR"] = folder  # where Ray notes the last cluster's address too, for `auto`
        self._ray = load_ray()
        from ray.cluster_utils import Cluster

        self._cluster = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 0, "_system_config": _HEALTH, **_SMALL}
        )
        self._nodes: dict[str, Any] = {}
        self.ids: dict[str, str] = {}
        self.add("cpu", num_cpus=2)
        self.add("a", num_cpus=1, num_gpus=1, labels={"kind": "fast"})
        self.add("b", num_cpus=0, num_gpus=1, labels={"kind": "slow"})
        self._ray.init(address=self._cluster.address, log_to_driver=False, logging_level="ERROR")

    def add(self, name: str, **has: Any) -> None:
        """A node joins."""
        self._nodes[name] = self._cluster.add_node(**has, **_SMALL)
        self.ids[self._nodes[name].node_id] = name

    def remove(self, name: str) -> None:
        """A node goes, all its processes killed."""
        self._cluster.remove_node(self._nodes.pop(name), allow_graceful=False)

    def id(self, name: str) -> str:
        """Ray's id of the living node of a name."""
        return str(self._nodes[name].node_id)

    def places(self) -> dict[str, list[str]]:
        """By class of actors, the nodes that any of them was ever on."""
        import ray._private.state

        found: dict[str, set[str]] = {}
        for actor in ray._private.state.actors().values():
            node = self.ids.get(actor["Address"]["NodeID"])
            if node:  # else it was not started yet
                found.setdefault(actor["ActorClassName"], set()).add(node)
        return {name: sorted(nodes) for name, nodes in found.items()}

    def close(self) -> None:
        """Ends all."""
        self._ray.shutdown()
        self._cluster.shutdown()  # type: ignore[no-untyped-call] # Ray's own


def _joins(nodes: Nodes, folder: Path) -> None:
    """Node c has joined; node a waits with its second unit until c has encoded one."""
    waited_for(folder / f"encoded-{nodes.id('c')}-*")


def _goes(nodes: Nodes, folder: Path) -> None:
    """Node c goes with a unit at its encoder; until then node a waits with its second."""
    waited_for(folder / f"encoding-{nodes.id('c')}-*")
    nodes.remove("c")


def _helper_goes(nodes: Nodes, folder: Path) -> None:
    """Node d goes, which reads and writes; the encoder waits with its second unit, and has others queued."""
    nodes.remove("d")


def _killed(nodes: Nodes, folder: Path) -> None:
    """The encoder, which waits with its second unit, is killed."""
    (pid,) = [pid for _, pid in noted(folder, "started")]
    os.kill(pid, signal.SIGKILL)


_EVENTS = {"joins": _joins, "goes": _goes, "helper goes": _helper_goes, "killed": _killed}


def _run(nodes: Nodes, asked: dict[str, Any]) -> dict[str, Any]:
    folder, event, told = Path(asked["folder"]), asked.get("event"), Told()
    if event == "goes":
        nodes.add("c", num_cpus=0, num_gpus=1, labels={"kind": "fast"})
    if event == "helper goes":
        nodes.add("d", num_cpus=2)
    factory = Marking(
        folder,
        gate="gate" if event else "",
        stuck=nodes.id("c") if event == "goes" else "",
        broken=asked.get("broken", ""),
    )
    with ThreadPoolExecutor(1) as beside:  # what happens meanwhile must not stop the run
        happening: list[Future[None]] = []

        def happen(event: str) -> None:
            try:
                _EVENTS[event](nodes, folder)
            finally:
                (folder / "gate").touch()

        def at_done(amount: int) -> None:
            if event and not happening:
                if event == "joins":  # Ray starts nodes from the main thread alone
                    nodes.add("c", num_cpus=0, num_gpus=1, labels={"kind": "fast"})
                happening.append(beside.submit(happen, event))

        told.at_done = at_done
        answer = _embedded(asked, told, factory)
        for future in happening:
            future.result()
    if event == "joins":
        nodes.remove("c")
    answer["encoded"] = sorted({nodes.ids[node] for node, _ in noted(folder, "encoded")})
    answer["started"] = sorted(nodes.ids[node] for node, _ in noted(folder, "started"))
    answer["places"] = nodes.places()
    return answer


def _embedded(asked: dict[str, Any], told: Told, factory: Marking) -> dict[str, Any]:
    lake = Lake.open(LakeConfig.model_validate(asked["lake"]))
    config = EmbedConfig(device="cuda", commit_units=1, **asked["config"])
    try:
        report = embed(lake, load_model_conf("minilm"), config, RayConfig(), told, factory=factory)
    except EmbedlakeError as error:
        return {"error": type(error).__name__, "message": str(error)}
    return {"rows": report.rows, "rejects": report.rejects}


def main() -> None:
    """Serves runs until its input ends."""
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as folder:
        nodes = Nodes(folder)
        try:
            for line in sys.stdin:
                # In one write: Ray tells of lost nodes on stdout too, from a thread.
                sys.stdout.write(f"\nANSWER {json.dumps(_run(nodes, json.loads(line)))}\n")
                sys.stdout.flush()
        finally:
            nodes.close()


if __name__ == "__main__":
    main()
