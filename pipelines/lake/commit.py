"""Appends ready-made data files, atomically and never twice."""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from pyiceberg.exceptions import CommitStateUnknownException
from pyiceberg.table import Table, TableProperties

from pipelines.errors import CommitError
from pipelines.lake.datafiles import WrittenFile
from pipelines.lake.live import LiveFiles
from pipelines.lake.races import is_lost
from pipelines.redact import redact

_ATTEMPTS = 60  # with waits of up to 2 s: two minutes of others' commits


class HeldPaths(Protocol):
    """Tells the paths of a table's live data files; a `LiveFiles[str]` is one."""

    def of(self, table: Table) -> Iterator[str]:
        """The paths, as `table` was last read."""


# What is still to be appended, asked anew before every attempt.
StillMissing = Callable[[Table, Sequence[WrittenFile]], Sequence[WrittenFile]]


def append_files(
    table: Table,
    files: Sequence[WrittenFile],
    properties: Mapping[str, str],
    still_missing: StillMissing | None = None,
    live: HeldPaths | None = None,
) -> list[WrittenFile]:
    """Appends `files` in one atomic snapshot.

    Before each attempt the table is read anew, files that it already holds are left out, and
    `still_missing` may leave out more: pyiceberg's own retry would rebase the append without asking again.
    Killed before the commit, the table is as it was; killed after it, all files are in, and the same call
    again appends nothing.

    Args:
        table: Refreshed in place.
        files: Described by `pipelines.lake.datafiles`, which derives their partitions from their rows.
        properties: Go into the snapshot's summary.
        still_missing: Of the files not yet in the table, those still wanted.
        live: Keep one across calls, and each call reads only the manifests added since.

    Returns:
        The files that this call appended.

    Raises:
        CommitError: A file is given twice or was written for another partition spec; or the race was
            lost too often.
    """
    twice = [path for path, count in Counter(file.path for file in files).items() if count > 1]
    if twice:
        raise CommitError(f"the data file {redact(twice[0])} is given twice")
    held_paths: HeldPaths = live or LiveFiles(lambda file: file.file_path)
    landed: set[str] = set()
    for attempt in range(_ATTEMPTS):
        table.refresh()
        if any(file.spec_id != table.spec().spec_id for file in files):
            raise CommitError("data files were written for another partition spec", "Run again")
        held = set(held_paths.of(table))
        wanted: Sequence[WrittenFile] = [file for file in files if file.path not in held]
        if still_missing is not None and wanted:
            wanted = still_missing(table, wanted)
        if wanted:
            try:
                _append_once(table, wanted, properties)
            except CommitStateUnknownException:
                # It may have landed: the next look at the table tells.
                landed = {file.path for file in wanted}
                continue
            except Exception as error:
                if not is_lost(error):
                    raise
                time.sleep(random.uniform(0, min(2.0, 0.05 * 2**attempt)))  # noqa: S311 - back-off, not a secret
                continue
            table.refresh()
        return [file for file in files if file in wanted or (file.path in landed & held)]
    raise CommitError(f"{table.name()[-1]} was changed by others {_ATTEMPTS} times in a row", "Run again")


def _append_once(table: Table, files: Sequence[WrittenFile], properties: Mapping[str, str]) -> None:
    # A handle of its own, whose retries are off: a lost race must come back here, to ask again.
    metadata = table.metadata
    once = metadata.model_copy(
        update={"properties": {**metadata.properties, TableProperties.COMMIT_NUM_RETRIES: "0"}}
    )
    handle = Table(table.name(), once, table.metadata_location, table.io, table.catalog)
    with (
        handle.transaction() as transaction,
        transaction.update_snapshot(snapshot_properties=dict(properties)).fast_append() as append,
    ):
        for file in files:
            append.append_data_file(file.data_file())
