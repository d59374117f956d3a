"""The nodes of a Ray, as far as a placement needs them. Pure."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Device = Literal["cpu", "cuda"]

_LISTED = re.compile(r"(!?)in\(([^)]*)\)")


@dataclass(frozen=True)
class Node:
    """A Ray node.

    Attributes:
        id: Ray's.
        cpus: Logical CPUs.
        gpus: Logical GPUs.
        labels: Its labels.
    """

    id: str
    cpus: float
    gpus: float
    labels: Mapping[str, str]

    def matches(self, selector: Mapping[str, str] | None) -> bool:
        """Whether the labels are as a selector of Ray asks: `A`, `!A`, `in(A, B)` or `!in(A, B)`."""
        for key, wanted in (selector or {}).items():
            value = self.labels.get(key)
            listed = _LISTED.fullmatch(wanted)
            if listed:
                inside = value in [word.strip() for word in listed[2].split(",")]
                matches = inside != bool(listed[1])
            elif wanted.startswith("!"):
                matches = value != wanted[1:]
            else:
                matches = value == wanted
            if not matches:
                return False
        return True


def alive(nodes: Iterable[Mapping[str, Any]]) -> list[Node]:
    """The living ones of what `ray.nodes()` gives, in a fixed order."""
    found = [
        Node(
            str(node["NodeID"]),
            float(node["Resources"].get("CPU", 0.0)),
            float(node["Resources"].get("GPU", 0.0)),
            dict(node.get("Labels") or {}),
        )
        for node in nodes
        if node["Alive"]
    ]
    return sorted(found, key=lambda node: node.id)
