"""Releases of a serving table: tags on what was published, and going back to one."""

from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table
from pyiceberg.table.update.snapshot import ManageSnapshots

from pipelines.errors import CommitError, InputError
from pipelines.lake import Lake
from pipelines.lake.delta import Delta, commit_delta
from pipelines.lake.faults import explained
from pipelines.lake.serving import Published, published_at, releases, snapshot_as_of, snapshot_of_run
from pipelines.lake.tables import PUBLISHED_PROPERTY

_ATTEMPTS = 20


def tag_release(table: Table, release: str, run_id: str) -> None:
    """Tags the snapshot that a publication made.

    That one, and not one that compaction has made of it since: its summary says what it holds. Where it has
    expired, a snapshot without a change is added that says so again.

    Raises:
        InputError: The release is there, and is another publication.
        CommitError: Others kept changing the table.
    """
    for _ in range(_ATTEMPTS):
        table.refresh()
        there = releases(table).get(release)
        snapshot = snapshot_of_run(table, run_id)
        if there is not None:
            if snapshot is None or there != snapshot.snapshot_id:
                raise InputError(
                    f"another job has made the release '{release}' of '{table.name()[-1]}' meanwhile",
                    "Give this one another name",
                )
            return
        if snapshot is None:
            text = table.properties[PUBLISHED_PROPERTY]
            commit_delta(table, Delta([]), Published.from_json(text).run_id, {PUBLISHED_PROPERTY: text}, {})
            continue
        try:
            table.manage_snapshots().create_tag(snapshot.snapshot_id, release).commit()
        except CommitFailedException:
            continue
        return
    raise CommitError(f"'{table.name()[-1]}' was changed by others {_ATTEMPTS} times in a row", "Run again")


def roll_back(lake: Lake, name: str, as_of: str) -> Published:
    """Makes a release, or an earlier snapshot, the table again, with the state that it was published with.

    One commit: killed before it, nothing has happened. What was published since stays readable by its own
    release or snapshot. The next publication brings the table up to the embeddings again.

    Args:
        lake: The lake.
        name: The serving table.
        as_of: A release's name or a snapshot's id.

    Raises:
        InputError: There is no such release.
        ModelError: What the snapshot holds is not known.
        CatalogError: There is no such table.
        CommitError: Others kept changing the table.
    """
    table = lake.table(name)
    with explained(lake.config):
        for _ in range(_ATTEMPTS):
            snapshot_id = snapshot_as_of(table, as_of)
            state = published_at(table, snapshot_id)
            try:
                with table.transaction() as transaction:
                    transaction.set_properties({PUBLISHED_PROPERTY: state.to_json()})
                    ManageSnapshots(transaction).set_current_snapshot(snapshot_id=snapshot_id)
            except CommitFailedException:
                table.refresh()
                continue
            return state
    raise CommitError(f"'{name}' was changed by others {_ATTEMPTS} times in a row", "Run again")
