"""What was run: one row a run in the table `runs`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
from pyiceberg.io.pyarrow import schema_to_pyarrow

from pipelines.lake import Lake
from pipelines.lake.commit import append_files
from pipelines.lake.datafiles import write_data_file
from pipelines.lake.faults import explained
from pipelines.lake.filters import equals
from pipelines.lake.tables import RUNS


@dataclass(frozen=True)
class Run:
    """A row of `runs`; see the table for its columns."""

    run_id: str
    job: str
    model: str | None
    started_at: datetime
    ended_at: datetime
    outcome: str
    detail: str | None
    hardware: str | None
    encoders: int
    rows: int
    rejects: int
    copied_rows: int
    needless_rows: int
    units: int
    commits: int
    retries: int
    tokens: int
    padded_tokens: int
    seconds: float
    encoding_seconds: float
    busy_seconds: float


def append_run(lake: Lake, run: Run) -> None:
    """Adds a row. Killed before its commit, the run is not there: what it did is, in its own tables.

    Raises:
        CatalogError: There is no such table, or the catalogue does not answer.
        StorageError: The object store or a disk fails.
    """
    with explained(lake.config):
        table = lake.table("runs")
        rows = pa.Table.from_pylist(
            [asdict(run)], schema=schema_to_pyarrow(RUNS.schema, include_field_ids=False)
        )
        file = write_data_file(table, rows, f"run-{run.run_id}")
        append_files(table, [file], {"embedlake.run-id": run.run_id, "embedlake.stage": run.job})


def recorded_runs(lake: Lake, model: str | None = None) -> list[Run]:
    """The runs that the lake knows, oldest first; those of one model where it is given."""
    if not lake.exists("runs"):
        return []
    with explained(lake.config):
        scan = lake.table("runs").scan()
        rows = (scan if model is None else scan.filter(equals("model", model))).to_arrow()
    found: list[Mapping[str, Any]] = rows.sort_by("started_at").to_pylist()
    return [Run(**{name: row[name] for name in Run.__dataclass_fields__}) for row in found]
