"""Checkpoints in the lake: each one commit, so it is there whole or not at all."""

from collections.abc import Sequence
from contextlib import suppress
from hashlib import blake2b

import pyarrow as pa
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.expressions import And, LessThan
from pyiceberg.table import Table

from pipelines.errors import ModelError
from pipelines.lake import Lake
from pipelines.lake.commit import append_files
from pipelines.lake.datafiles import WrittenFile, write_data_file
from pipelines.lake.faults import explained
from pipelines.lake.filters import equals
from pipelines.lake.scan import ScanFile, read_file, scan_files
from pipelines.lake.tables import STAGE_PROPERTY
from pipelines.lake.training_tables import CHECKPOINTS

_PIECE = 32 * 2**20
_COLUMNS = ("digest", "piece", "pieces", "data")


class Checkpoints:
    """Those of one run.

    Attributes:
        lake: Where they are.
        run: Name of the model that comes out.
    """

    def __init__(self, lake: Lake, run: str) -> None:
        self.lake, self.run = lake, run

    def save(self, step: int, data: bytes, keep: int) -> None:
        """Adds one, and then takes all but the newest `keep` away.

        Killed before the commit, what was written is an orphan; killed after it, older ones stay until the
        next. Another process at the same run has the same bytes, and the first one's stay.

        Args:
            step: Steps done.
            data: The state; see `pipelines.train.state`.
            keep: At least 1.
        """
        self.lake.ensure_namespace()
        self.lake.create(CHECKPOINTS)
        table = self.lake.table(CHECKPOINTS.name)
        digest = blake2b(data, digest_size=16).hexdigest()
        starts = range(0, len(data), _PIECE)
        with explained(self.lake.config):
            files = [
                write_data_file(
                    table,
                    pa.Table.from_pylist(
                        [
                            {
                                "run": self.run,
                                "step": step,
                                "digest": digest,
                                "piece": number,
                                "pieces": len(starts),
                                "data": data[start : start + _PIECE],
                            }
                        ]
                    ),
                    f"checkpoint-{step}",
                )
                for number, start in enumerate(starts)
            ]

            def still_missing(now: Table, wanted: Sequence[WrittenFile]) -> Sequence[WrittenFile]:
                return [] if step in self._steps(now) else wanted

            append_files(table, files, {STAGE_PROPERTY: "train"}, still_missing)
            self._prune(keep)

    def newest(self) -> bytes | None:
        """The last one that is whole; None where there is none."""
        if not self.lake.exists(CHECKPOINTS.name):
            return None
        table = self.lake.table(CHECKPOINTS.name)
        with explained(self.lake.config):
            by_step: dict[int, list[ScanFile]] = {}
            for file in scan_files(table, equals("run", self.run)):
                by_step.setdefault(file.partition[1], []).append(file)
            for step in sorted(by_step, reverse=True):
                data = _joined(table, by_step[step])
                if data is not None:
                    return data
        if by_step:
            raise ModelError(
                f"no checkpoint of '{self.run}' is whole", "Delete its rows from the table 'checkpoints'"
            )
        return None

    def delete(self) -> None:
        """Takes all of them away."""
        if self.lake.exists(CHECKPOINTS.name):
            with explained(self.lake.config):
                self.lake.table(CHECKPOINTS.name).delete(equals("run", self.run))

    def _steps(self, table: Table) -> set[int]:
        return {int(file.partition[1]) for file in scan_files(table, equals("run", self.run))}

    def _prune(self, keep: int) -> None:
        table = self.lake.table(CHECKPOINTS.name)
        steps = sorted(self._steps(table))
        if len(steps) > keep:
            # Whole partitions: no file is rewritten. Where others commit meanwhile, the next call does it.
            with suppress(CommitFailedException):
                table.delete(And(equals("run", self.run), _below("step", steps[-keep])))


def _below(column: str, value: int) -> LessThan:
    return LessThan(column, value)  # type: ignore[call-arg, arg-type]  # see pipelines.lake.filters


def _joined(table: Table, files: Sequence[ScanFile]) -> bytes | None:
    """The pieces of a checkpoint, one after the other; None where they do not make up what was written."""
    pieces: dict[int, bytes] = {}
    digest = ""
    for file in files:
        for row in read_file(table, file, _COLUMNS).to_pylist():
            pieces[row["piece"]], digest = row["data"], row["digest"]
    data = b"".join(pieces[number] for number in sorted(pieces))
    return data if blake2b(data, digest_size=16).hexdigest() == digest else None
