"""Rows of `rotations` that no publication needs: each adds one, with a matrix and a moment of megabytes."""

from datetime import datetime
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.table import Table

from pipelines.errors import CommitError
from pipelines.lake import Lake
from pipelines.lake.delta import DeadRows, Delta, commit_delta
from pipelines.lake.scan import scan_files
from pipelines.lake.serving import known_runs, serving_tables
from pipelines.lake.slices import read_slice
from pipelines.lake.tables import ROTATIONS, STAGE_PROPERTY


def unneeded(lake: Lake, before: datetime) -> set[str]:
    """The publications, by run_id, whose rows may go.

    Kept are those that a snapshot of a serving table is of, or its present state. A row is there before its
    publication is, so one that came since the moment stays too: its publication may be about to commit.

    Args:
        lake: The lake.
        before: The moment; what the table was then is known, as no snapshot goes that it was since.
    """
    table = lake.table(ROTATIONS.name)
    past = table.snapshot_as_of_timestamp(int(before.timestamp() * 1000))
    if past is None or (now := table.current_snapshot()) is None:
        return set()
    old = _runs(table, past.snapshot_id) & _runs(table, now.snapshot_id)
    return old - {run for name in serving_tables(lake) for run in known_runs(lake.table(name))}


def remove(lake: Lake, runs: set[str]) -> None:
    """Takes the rows of publications out, in one commit. Killed before it, the table is as it was.

    Raises:
        CommitError: Another job changed the table meanwhile.
    """
    table = lake.table(ROTATIONS.name)
    dead = []
    for file in scan_files(table):
        rows, positions = read_slice(table, file, 0, file.rows, ["run_id"])
        gone = np.asarray(pc.is_in(rows["run_id"], value_set=pa.array(sorted(runs), rows["run_id"].type)))
        if gone.any():
            dead.append(DeadRows(file.path, file.partition, file.spec_id, positions[gone]))
    if not commit_delta(table, Delta([], dead), uuid4().hex[:12], {STAGE_PROPERTY: "maintain"}, {}):
        raise CommitError(f"'{ROTATIONS.name}' was changed by another job", "Run again")


def _runs(table: Table, snapshot_id: int) -> set[str]:
    return set(
        table.scan(snapshot_id=snapshot_id, selected_fields=("run_id",)).to_arrow()["run_id"].to_pylist()
    )
