"""Free ports of the loopback interface, for servers that also take a gRPC port."""

import random
import socket

from pipelines.errors import EnvironmentFault

HOST = "127.0.0.1"
GRPC_OFFSET = 10_000
# Both ports stay below 32768, from where on Linux hands out ports to outgoing connections.
_PORTS = range(12_000, 32_768 - GRPC_OFFSET)


def free_ports(count: int) -> list[int]:
    """Ports that are free together with the port 10,000 above each; drawn at random, for parallel runs.

    Raises:
        EnvironmentFault: There are fewer.
    """
    found: list[int] = []
    for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
        if _is_free(port) and _is_free(port + GRPC_OFFSET):
            found.append(port)
        if len(found) == count:
            return found
    raise EnvironmentFault(f"{HOST} has no {count} free ports", "End some of the servers that run on it")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True
