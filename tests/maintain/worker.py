"""A process that does the steps of one job: `python -m tests.maintain.worker curate`.

Each line of its input is a step, as JSON: the lake and what the job is asked. It answers each with a line:
empty, or what went wrong.
"""

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pipelines.errors import EmbedlakeError
from pipelines.lake import Lake, LakeConfig

_ROOT = Path(__file__).parents[2]


class StepError(Exception):
    """A step has failed in its process."""


class Worker:
    """Such a process, from outside; a context manager that ends it.

    Attributes:
        name: Of the job, in `jobs.JOBS`.
        log: Gets its standard error.
    """

    def __init__(self, name: str, log: Path) -> None:
        self.name = name
        with log.open("ab") as stream:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.maintain.worker", name],
                cwd=_ROOT,
                env=os.environ | {"PYTHONPATH": str(_ROOT)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                text=True,
            )

    def __call__(self, lake: Lake, asked: Mapping[str, Any]) -> None:
        """Does a step.

        Raises:
            StepError: It has failed.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        line = {"lake": lake.config.model_dump_json(), "asked": dict(asked)}
        self._process.stdin.write(json.dumps(line) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise StepError(f"{self.name} has ended with {self._process.wait()}")
        if error := json.loads(answer):
            raise StepError(f"{self.name}: {error}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()  # it ends its engine, and itself
        try:
            self._process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self._process.kill()


def main() -> None:
    """Steps, until there are no more."""
    from tests.maintain.jobs import JOBS

    # Engines print: a channel of our own.
    channel = os.dup(1)
    os.dup2(2, 1)
    job = JOBS[sys.argv[1]]
    with job.engine():
        for line in sys.stdin:
            told, answer = json.loads(line), ""
            try:
                job.step(Lake.open(LakeConfig.model_validate_json(told["lake"])), told["asked"])
            except EmbedlakeError as error:
                answer = f"{type(error).__name__}: {error}"
            except Exception:
                answer = traceback.format_exc()
            os.write(channel, (json.dumps(answer) + "\n").encode())


if __name__ == "__main__":
    main()
