"""What a serving table holds: which model's vectors, how small and of which type, rotated or not.

Every publication writes it into the summary of its snapshot, so that a release or an earlier snapshot says
itself what it is, and into a property of the table, by the same commit, since snapshots expire.
"""

import contextlib
import json
from dataclasses import asdict, dataclass

from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from pipelines.encoder.quantise import VectorType
from pipelines.errors import InputError, ModelError
from pipelines.lake.delta import RUN_PROPERTY
from pipelines.lake.faults import explained
from pipelines.lake.lake import Lake
from pipelines.lake.tables import BY_NAME, PUBLISHED_PROPERTY

_REPUBLISH = "Publish it again with --rebuild"


@dataclass(frozen=True)
class Published:
    """What a serving table's snapshot holds.

    Attributes:
        run_id: Of the publication that made it.
        model: The model's key.
        dim: Dimension of the vectors.
        type: How they are stored.
        columns: Chosen columns of `chunks`, beside the keys.
        rotated: Whether they were rotated before they were sliced.
        embeddings: Snapshot of `embeddings` that they were taken from.
        chunks: Snapshot of `chunks` that the chosen columns were taken from; None where there are none.
    """

    run_id: str
    model: str
    dim: int
    type: VectorType
    columns: tuple[str, ...]
    rotated: bool
    embeddings: int | None
    chunks: int | None

    def to_json(self) -> str:
        """For a snapshot's summary and a table's property."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Published":
        """What `to_json` wrote.

        Raises:
            ModelError: It is something else.
        """
        try:
            values = json.loads(text)
            return cls(**{**values, "columns": tuple(values["columns"])})
        except (ValueError, TypeError, KeyError) as error:
            raise ModelError(
                f"the table property '{PUBLISHED_PROPERTY}' is not what a publication writes: {text[:80]}",
                _REPUBLISH,
            ) from error


def published(table: Table) -> Published | None:
    """What the table, as it was last read, holds now; None where nothing was ever published to it.

    Raises:
        ModelError: It was rolled back by another tool, to a snapshot of which nothing is known any more.
    """
    text = table.properties.get(PUBLISHED_PROPERTY)
    if text is None:
        return None
    last = Published.from_json(text)
    made, current = snapshot_of_run(table, last.run_id), table.current_snapshot()
    if made is None or current is None:
        return last  # expired since, which takes no newer ones away
    if any(snapshot.snapshot_id == made.snapshot_id for snapshot in _ancestors(table, current)):
        return last
    return published_at(table, current.snapshot_id)  # rolled back, and the property left alone


def published_at(table: Table, snapshot_id: int) -> Published:
    """What the table, as it was last read, held in a snapshot.

    Raises:
        ModelError: The snapshot's publication is not known any more.
    """
    for one in _ancestors(table, table.snapshot_by_id(snapshot_id)):
        if one.summary and PUBLISHED_PROPERTY in one.summary.additional_properties:
            return Published.from_json(one.summary.additional_properties[PUBLISHED_PROPERTY])
    raise ModelError(
        f"what a snapshot of '{table.name()[-1]}' holds is not known: its publication has expired", _REPUBLISH
    )


def known_runs(table: Table) -> set[str]:
    """The run_ids of all publications that the table's snapshots and its property are of."""
    texts = [table.properties.get(PUBLISHED_PROPERTY)]
    for snapshot in table.snapshots():
        if snapshot.summary is not None:
            texts.append(snapshot.summary.additional_properties.get(PUBLISHED_PROPERTY))
    return {Published.from_json(text).run_id for text in texts if text is not None}


def snapshot_of_run(table: Table, run_id: str) -> Snapshot | None:
    """The snapshot that a publication made; None where it has expired."""
    for snapshot in table.snapshots():
        if snapshot.summary and snapshot.summary.additional_properties.get(RUN_PROPERTY) == run_id:
            return snapshot
    return None


def snapshot_as_of(table: Table, as_of: str) -> int:
    """The id of the snapshot that `as_of` means: a release's name, a branch's, or a snapshot's id.

    Raises:
        InputError: There is none; names the releases that there are.
    """
    refs = table.metadata.refs
    if as_of in refs:
        return int(refs[as_of].snapshot_id)
    if as_of.isdigit() and table.snapshot_by_id(int(as_of)) is not None:
        return int(as_of)
    known = releases(table)
    told = f"It has {', '.join(known)}" if known else "It has no release: 'embedlake publish --release NAME'"
    raise InputError(f"the table '{table.name()[-1]}' has no release or snapshot '{as_of}'", told)


def serving_tables(lake: Lake) -> list[str]:
    """The names of the tables that something was published to, sorted."""
    found = []
    with explained(lake.config):
        try:
            listed = lake.catalog.list_tables(lake.config.namespace)
        except NoSuchNamespaceError:
            return []
        for *_, name in listed:
            if name in BY_NAME:
                continue
            with contextlib.suppress(
                NoSuchTableError
            ):  # dropped just now; or of a format that is not Iceberg
                if PUBLISHED_PROPERTY in lake.catalog.load_table(lake.identifier(name)).properties:
                    found.append(name)
    return sorted(found)


def releases(table: Table) -> dict[str, int]:
    """The snapshots of the table's tags, oldest first."""
    tags = {
        name: ref.snapshot_id for name, ref in table.metadata.refs.items() if ref.snapshot_ref_type == "tag"
    }
    order = {snapshot.snapshot_id: number for number, snapshot in enumerate(table.snapshots())}
    return dict(sorted(tags.items(), key=lambda item: (order.get(item[1], -1), item[0])))


def _ancestors(table: Table, snapshot: Snapshot | None) -> list[Snapshot]:
    found = []
    while snapshot is not None:
        found.append(snapshot)
        parent = snapshot.parent_snapshot_id
        snapshot = None if parent is None else table.snapshot_by_id(parent)
    return found
