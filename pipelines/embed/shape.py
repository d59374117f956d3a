"""How many encoders, with what: decided from what the machines have. Pure."""

import math
from dataclasses import dataclass
from typing import Literal

from pipelines.embed.config import EmbedConfig
from pipelines.errors import EnvironmentFault

# Logical CPUs that a reading or a writing task reserves: none. It waits for storage more than it computes,
# and its number is bounded anyway. With any share of a CPU, two jobs on one small cluster could stop each
# other for good: their encoders take all, and neither's readers get any (seen on 2 CPUs with 0.25).
IO_CPUS = 0
# Encoders on a CPU node, while it has as many cores. Two threads of one encoder wait for each other at every
# operation. MiniLM, bf16, 4,800 rows of 37 tokens, 2-core EPYC, workers at niceness 15, tokens/s of
# 1 encoder x 1 thread, 1 x 2 and 2 x 1: 6,700, 10,400 and 8,200 while the machine was idle; 4,700, 2,000 to
# 3,600 and 3,100 to 5,200 while it was not. Leaving a core to Ray does not pay: its processes take a tenth of
# one. An encoder takes about 1 GB of memory (the demo), so beyond eight they get threads instead.
_CPU_ENCODERS = 8
# Encoders on CPUs that one reader and one writer serve. On the same machine 40 units of 80 chunks took 48.4 s
# to encode on two threads, 0.2 s to read and 0.2 s to write.
_CPU_ENCODERS_SERVED = 4


@dataclass(frozen=True)
class Resources:
    """What Ray has.

    Attributes:
        cpus: Logical CPUs of all nodes.
        gpus: GPUs of all nodes.
        node_cpus: Logical CPUs of the largest node.
    """

    cpus: float
    gpus: float
    node_cpus: float


@dataclass(frozen=True)
class Shape:
    """The pool of encoders and what feeds it.

    Attributes:
        device: What encoders run on.
        actors: Encoders.
        cpus: Logical CPUs that Ray reserves for one.
        gpus: GPUs for one; 0 on CPUs.
        threads: Of one encoder's forward pass; None leaves it to torch.
        readers: Actors that read units.
        writers: Actors that write them.
    """

    device: Literal["cpu", "cuda"]
    actors: int
    cpus: float
    gpus: float
    threads: int | None
    readers: int
    writers: int


def shape(config: EmbedConfig, device: Literal["cpu", "cuda"], resources: Resources) -> Shape:
    """The shape of a run.

    Raises:
        EnvironmentFault: GPUs are wanted, Ray has none, and no number of actors says to wait for some.
    """
    if device == "cuda":
        if config.actors is None and resources.gpus < config.gpus_per_actor:
            raise EnvironmentFault(
                f"an encoder wants {config.gpus_per_actor:g} GPU and Ray has {resources.gpus:g}",
                "Set embed.actors to wait for a cluster that grows, or embed.device to cpu",
            )
        actors = config.actors or math.floor(resources.gpus / config.gpus_per_actor)
        cpus = min(1.0, _share(resources, actors))
        # Twice as many readers: one must not wait for storage while another encodes.
        return Shape("cuda", actors, cpus, config.gpus_per_actor, config.threads, 2 * actors, actors)
    nodes = max(1, round(resources.cpus / max(resources.node_cpus, 1.0)))
    actors = config.actors or nodes * max(1, min(math.floor(resources.node_cpus), _CPU_ENCODERS))
    on_one_node = math.ceil(actors * resources.node_cpus / max(resources.cpus, 1.0))
    threads = config.threads or max(1, math.floor(resources.node_cpus / on_one_node))
    cpus = min(float(threads), _share(resources, actors))
    served = math.ceil(actors / _CPU_ENCODERS_SERVED)
    return Shape("cpu", actors, cpus, 0.0, threads, served, served)


def _share(resources: Resources, actors: int) -> float:
    """CPUs that Ray can reserve for each encoder and still run a reader and a writer."""
    on_one_node = math.ceil(actors * resources.node_cpus / max(resources.cpus, 1.0))
    share = (resources.node_cpus - 2 * IO_CPUS) / on_one_node
    # Ray takes whole CPUs above one.
    return float(math.floor(share)) if share >= 1 else math.floor(share * 100) / 100
