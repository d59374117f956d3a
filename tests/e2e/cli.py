"""The command as a user types it, run in this process so that Spark and Ray are started once."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from typer.testing import CliRunner

from jobs.cli import app


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Its standard output, which is one JSON value."""
        assert self.code == 0, self.err
        return json.loads(self.out)


def embedlake(*words: str, env: Mapping[str, str] | None = None) -> Result:
    """Runs `embedlake WORDS`."""
    done = CliRunner().invoke(app, list(words), env=dict(env or {}))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Result(done.exit_code, done.stdout, done.stderr)
