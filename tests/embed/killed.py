"""A run that another process kills: `python -m tests.embed.killed LAKE_JSON RAY_ADDRESS`.

It prints the rows that are committed whenever a unit is done, and once there are some waits for a line that
never comes: its units and its Ray are then in full flight.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from pipelines.cluster.config import RayConfig
from pipelines.embed.config import EmbedConfig
from pipelines.embed.run import embed
from pipelines.encoder.conf import load_model_conf
from pipelines.lake import Lake, LakeConfig


class _Halting:
    def __init__(self, lake: Lake) -> None:
        self._lake = lake

    @contextmanager
    def step(self, label: str, total: int | None, unit: str) -> Iterator["_Halting"]:
        yield self

    def done(self, amount: int, note: str = "") -> None:
        committed = self._lake.table("embeddings").scan().count()
        print(f"committed {committed}", flush=True)  # noqa: T201 - read by the test
        if committed:
            sys.stdin.readline()

    def say(self, line: str) -> None:
        pass


if __name__ == "__main__":
    where = Lake.open(LakeConfig.model_validate_json(sys.argv[1]))
    config = EmbedConfig(actors=1, threads=1, commit_units=1, unit_tokens=150)
    embed(where, load_model_conf("minilm"), config, RayConfig(address=sys.argv[2]), _Halting(where))
