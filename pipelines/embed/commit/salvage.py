"""Takes over what a killed run had written and not committed, so that only its units in flight are lost.

A run is in the table `runs` from its start; one that never ended well there was killed, has failed, or is
still at work. Its files are in a folder of its own. Each whole file of a slice of which every row is still
pending is committed as if it were ours, with the same looks at what others have committed. If the run is
alive after all, it finds its file in the table already and leaves it there: nothing of it is ever deleted
here.
"""

import contextlib
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.fs import FileSelector, FileType
from pyiceberg.io.pyarrow import PyArrowFileIO, schema_to_pyarrow
from pyiceberg.table import Table

from pipelines.embed.commit.committer import Committer
from pipelines.embed.plan.manifests import slice_name
from pipelines.embed.plan.plan import Plan
from pipelines.embed.plan.survey import STAGE
from pipelines.embed.plan.units import Named, Slice, Unit
from pipelines.embed.work.wire import Finished, FinishedSlice
from pipelines.embed.work.write import run_folder
from pipelines.errors import EmbedlakeError
from pipelines.lake import Lake
from pipelines.lake.datafiles import WrittenFile, describe_data_file
from pipelines.lake.faults import explained
from pipelines.lake.runs import recorded_runs
from pipelines.lake.tables import REJECTS

_NO_REJECTS = schema_to_pyarrow(REJECTS.schema, include_field_ids=False).empty_table()
_DAYS = 7  # older orphans are left to remove_orphan_files
_THREADS = 8


def salvage(lake: Lake, plan: Plan, committer: Committer) -> int:
    """Commits what killed runs of the plan's model have left; says how many rows.

    Raises:
        CommitError: Others kept changing the table, or changed its partitions.
        CatalogError: The catalogue does not answer.
        StorageError: The object store or disk does not.
    """
    since = datetime.now(UTC) - timedelta(days=_DAYS)
    runs = [
        run.run_id
        for run in recorded_runs(lake, plan.model)
        if run.outcome != "done" and run.job == STAGE and run.started_at > since
    ]
    if not runs or plan.pending_rows == 0:
        return 0
    before = committer.total.rows
    with explained(lake.config):
        table = lake.table("embeddings")
        found = pa.array([path for run in runs for path in _paths(table, run)], pa.large_string())
        orphans = found.filter(pc.invert(pc.is_in(found, value_set=plan.embedded.paths))).to_pylist()
        with ThreadPoolExecutor(_THREADS) as pool:
            described = [file for file in pool.map(lambda path: _described(table, path), orphans) if file]
    pending: dict[str, list[Slice]] = defaultdict(list)
    for piece in plan.slices() if described else ():
        pending[piece.file_id].append(piece)
    # A unit that was done again, as its first file was lost sight of, has left two: take one.
    taken: list[Named] = []
    finished = []
    for file in sorted(described, key=lambda file: -file.rows):
        unit = _finished(table, file, pending, plan.model)
        if unit is not None and not any(unit.slices[0].name.overlaps(name) for name in taken):
            taken.append(unit.slices[0].name)
            finished.append(unit)
    if finished:
        committer.commit(finished)
    return committer.total.rows - before


def _paths(table: Table, run_id: str) -> list[str]:
    """URIs of the data files that a run has written: they are in a folder of their own."""
    sample = table.location_provider().new_data_location(f"{run_folder(run_id)}/x.parquet")
    folder = sample.rpartition("/")[0]
    if not isinstance(table.io, PyArrowFileIO):
        return []
    scheme, netloc, path = table.io.parse_location(folder, table.io.properties)
    files = table.io.fs_by_scheme(scheme, netloc)
    found = files.get_file_info(FileSelector(path, allow_not_found=True))
    return [f"{folder}/{entry.base_name}" for entry in found if entry.type == FileType.File]


def _described(table: Table, path: str) -> WrittenFile | None:
    """What a commit needs to know of a file; None where it is not whole, or no file of this table."""
    with contextlib.suppress(EmbedlakeError, pa.ArrowException, OSError):
        return describe_data_file(table, path)
    return None


def _finished(
    table: Table, file: WrittenFile, pending: dict[str, list[Slice]], model: str
) -> Finished | None:
    """A unit of one file; None where not every row of its slice is pending.

    The run may have planned long ago. Rows may have been embedded since, under this slice's name or, moved to
    another file of `chunks`, under that one's: looks at what was committed after our plan do not see these.
    """
    key, source, bucket = file.partition
    name = slice_name(file.data_file(), table.schema().find_field("unit").field_id)
    found = [piece for piece in pending.get(name.file_id, ()) if _covers(piece, name)] if name else []
    if name is None or not found or key != model or found[0].partition != (source, bucket):
        return None
    return Finished(
        unit=Unit(0, (found[0],)),
        slices=(FinishedSlice(name, found[0].partition, file),),
        rejects=_NO_REJECTS,
        rows=file.rows,
        tokens=0,
    )


def _covers(piece: Slice, name: Named) -> bool:
    """Whether all rows that the name may stand for are there and pending."""
    stop = piece.file.rows if name.stop is None else name.stop
    return piece.keep is None and not piece.file.deletes and piece.start <= name.start and stop <= piece.stop
