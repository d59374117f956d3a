"""Which nodes encode and which read and write, decided from what the nodes have. Pure."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pipelines.cluster.nodes import Device, Node
from pipelines.embed.config import EmbedConfig

# Encoders on a CPU node, while it has as many cores. Two threads of one encoder wait for each other at every
# operation. MiniLM, bf16, 4,800 rows of 37 tokens, 2-core EPYC, workers at niceness 15, tokens/s of
# 1 encoder x 1 thread, 1 x 2 and 2 x 1: 6,700, 10,400 and 8,200 while the machine was idle; 4,700, 2,000 to
# 3,600 and 3,100 to 5,200 while it was not. An encoder takes about 1 GB of memory (the demo), so beyond eight
# they get threads instead.
_CPU_ENCODERS = 8
# Encoders that one process for reading and writing serves; it has threads, and its work is in Arrow, which
# needs no lock of Python. On the same machine 40 units of 80 chunks took 48.4 s to encode on two threads,
# 0.2 s to read and 0.2 s to write.
_SERVED = {"cpu": 8, "cuda": 1}


@dataclass(frozen=True)
class Seat:
    """What encoders of one node get.

    Attributes:
        encoders: How many.
        cpus: Logical CPUs that Ray reserves for one.
        gpus: GPUs for one.
        threads: Of one encoder's forward pass; None leaves it to torch.
    """

    encoders: int
    cpus: float
    gpus: float
    threads: int | None


@dataclass(frozen=True)
class Placement:
    """Who works where.

    Attributes:
        encoders: By node.
        helpers: Processes that read and write, by node.
    """

    encoders: Mapping[str, Seat]
    helpers: Mapping[str, int]

    @property
    def actors(self) -> int:
        """Encoders on all nodes."""
        return sum(seat.encoders for seat in self.encoders.values())


def place(nodes: Iterable[Node], config: EmbedConfig, device: Device) -> Placement:
    """Encoders on every node that carries what they need; helpers on the others, if there are any with CPUs.

    A helper reserves nothing: it waits for storage more than it computes, and with any share of a CPU two
    jobs on one small cluster could stop each other for good (seen on 2 CPUs with 0.25). So it is kept off
    nodes without CPUs, such as a head that should run nothing.
    """
    nodes = list(nodes)
    able = {
        node.id: node
        for node in nodes
        if node.matches(config.label_selector) and _seats(node, config, device)
    }
    wanted = {id: _seats(node, config, device) for id, node in able.items()}
    if config.actors is not None:
        wanted = _capped(wanted, config.actors)
    encoders = {id: _seat(able[id], count, config, device) for id, count in wanted.items() if count}
    with_cpus = [node for node in nodes if node.cpus > 0]
    homes = [node for node in with_cpus if node.id not in able]
    homes = homes or [node for node in with_cpus if node.id in encoders] or with_cpus
    homes = homes or [able[id] for id in encoders]  # GPU nodes that tell Ray of no CPU
    helpers: dict[str, int] = {}
    if encoders:
        total = sum(seat.encoders for seat in encoders.values())
        each = math.ceil(total / _SERVED[device] / len(homes))
        helpers = {node.id: max(1, min(each, math.ceil(node.cpus / 2))) for node in homes}
    return Placement(encoders, helpers)


def _seats(node: Node, config: EmbedConfig, device: Device) -> int:
    if device == "cuda":
        return math.floor(node.gpus / config.gpus_per_actor + 1e-9)
    cores = math.floor(node.cpus)
    # More than fit would wait for CPUs for ever.
    return min(cores, max(1, cores // (config.threads or 1)), _CPU_ENCODERS)


def _capped(wanted: dict[str, int], most: int) -> dict[str, int]:
    """The same with no more than so many in all, spread over the nodes."""
    given = dict.fromkeys(wanted, 0)
    while sum(given.values()) < most:
        free = [id for id in wanted if given[id] < wanted[id]]
        if not free:
            break
        given[min(free, key=lambda id: given[id])] += 1
    return given


def _seat(node: Node, count: int, config: EmbedConfig, device: Device) -> Seat:
    if device == "cuda":
        return Seat(count, 0.0, config.gpus_per_actor, config.threads)
    threads = config.threads or max(1, math.floor(node.cpus / count))
    return Seat(count, float(min(threads, math.floor(node.cpus))), 0.0, threads)
