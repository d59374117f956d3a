"""The actors, kept in step with the nodes: some join, some leave, some die."""

import importlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pipelines.cluster.nodes import Device, alive
from pipelines.cluster.session import load_ray
from pipelines.embed.config import EmbedConfig
from pipelines.embed.engine.actors import EncoderActor, HelperActor
from pipelines.embed.engine.nodes import Placement, Seat, place
from pipelines.embed.work.wire import EncoderFactory, Job

_STARTS = 3  # that may fail in a row on a node before it is given up


@dataclass
class Worker:
    """One actor.

    Attributes:
        id: Ray's.
        node: Its node's.
        handle: The actor.
        starting: Resolves when it is ready; None once that was seen.
        load: Units that it has been given and has not finished.
    """

    id: str
    node: str
    handle: Any
    starting: Any
    load: int = 0


@dataclass
class Pool:
    """Encoders and helpers; every one on a node that was chosen for it.

    Not Ray Data's pools: docs/adr/0011 has what they do when a node goes and another comes.

    Attributes:
        job: For the actors.
        factory: Makes the model in an encoder.
        config: Says how many encoders, and where.
        device: What they run on.
        encoders: By id.
        helpers: By id.
        shunned: Nodes on which no worker could start.
    """

    job: Job
    factory: EncoderFactory
    config: EmbedConfig
    device: Device
    encoders: dict[str, Worker] = field(default_factory=dict)
    helpers: dict[str, Worker] = field(default_factory=dict)
    shunned: set[str] = field(default_factory=set)
    _failed_starts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ray = load_ray()
        self._encoder = ray.remote(EncoderActor)
        self._helper = ray.remote(HelperActor)
        # Once in the object store, not with each actor.
        self._job, self._factory = ray.put(self.job), self.factory

    def refresh(self) -> Placement:
        """Looks at the nodes: starts what is wanted there, forgets what is gone."""
        nodes = alive(load_ray().nodes())
        placement = place([n for n in nodes if n.id not in self.shunned], self.config, self.device)
        living = {node.id for node in nodes}
        for workers in (self.encoders, self.helpers):
            for id in [id for id, worker in workers.items() if worker.node not in living]:
                del workers[id]
        for node, seat in placement.encoders.items():
            for _ in range(seat.encoders - self._count(self.encoders, node)):
                self._start_encoder(node, seat)
        for node, count in placement.helpers.items():
            for _ in range(count - self._count(self.helpers, node)):
                self._start_helper(node)
        if self.config.actors is not None and self.config.actors > placement.actors:
            self._ask_for(self.config.actors)
        return placement

    def idle(self, most: int, avoid: frozenset[str] = frozenset()) -> Worker | None:
        """The ready encoder with the least to do, if that is less than `most`; one to avoid if it must be."""
        ready = [w for w in self.encoders.values() if w.starting is None and w.load < most]
        return min(ready, key=lambda w: (w.id in avoid, w.load), default=None)

    def helper(self, node: str) -> Worker | None:
        """The ready helper with the least to do, on the node itself where it has one."""
        ready = [w for w in self.helpers.values() if w.starting is None]
        return min(ready, key=lambda w: (w.node != node, w.load), default=None)

    def starting(self) -> Iterator[tuple[Any, Worker]]:
        """Actors that were not seen ready yet, by what resolves when they are."""
        for worker in (*self.encoders.values(), *self.helpers.values()):
            if worker.starting is not None:
                yield worker.starting, worker

    def drop(self, id: str) -> None:
        """Forgets an actor, and ends it where it still lives."""
        worker = self.encoders.pop(id, None) or self.helpers.pop(id, None)
        if worker is not None:
            load_ray().kill(worker.handle)

    def close(self) -> None:
        """Ends all."""
        for id in [*self.encoders, *self.helpers]:
            self.drop(id)
        if self.config.actors is not None:
            self._ask_for(0)

    def failed_start(self, node: str) -> bool:
        """A worker did not start; whether its node is given up now."""
        self._failed_starts[node] = self._failed_starts.get(node, 0) + 1
        if self._failed_starts[node] < _STARTS:
            return False
        self.shunned.add(node)
        return True

    def seen_ready(self, worker: Worker) -> None:
        """An actor has answered."""
        self._failed_starts[worker.node] = 0
        worker.starting = None

    def _start_encoder(self, node: str, seat: Seat) -> None:
        handle = self._encoder.options(
            num_cpus=seat.cpus, num_gpus=seat.gpus, max_restarts=0, scheduling_strategy=_on(node)
        ).remote(self._job, self._factory, self.device, seat.threads)
        self._add(self.encoders, node, handle)

    def _start_helper(self, node: str) -> None:
        handle = self._helper.options(
            num_cpus=0, max_restarts=0, max_concurrency=4, scheduling_strategy=_on(node)
        ).remote(self._job)
        self._add(self.helpers, node, handle)

    @staticmethod
    def _add(workers: dict[str, Worker], node: str, handle: Any) -> None:
        id = handle._actor_id.hex()
        workers[id] = Worker(id, node, handle, handle.ready.remote())

    @staticmethod
    def _count(workers: dict[str, Worker], node: str) -> int:
        return sum(worker.node == node for worker in workers.values())

    def _ask_for(self, encoders: int) -> None:
        """Tells a cluster that can grow how many encoders should fit in it."""
        each = {"GPU": self.config.gpus_per_actor} if self.device == "cuda" else {"CPU": 1}
        sdk = importlib.import_module("ray.autoscaler.sdk")
        bundles = [each] * encoders
        if self.config.label_selector and bundles:
            sdk.request_resources(
                bundles=bundles, bundle_label_selectors=[self.config.label_selector] * encoders
            )
        else:
            sdk.request_resources(bundles=bundles)


def _on(node: str) -> Any:
    strategies = importlib.import_module("ray.util.scheduling_strategies")
    return strategies.NodeAffinitySchedulingStrategy(node, soft=False)
