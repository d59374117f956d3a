"""What a serving table holds: which model's vectors, how small and of which type, rotated or not.

Every publication writes it into the summary of its snapshot, so that a release or an earlier snapshot says
itself what it is, and into a property of the table, by the same commit, since snapshots expire.
"""
# ruff: noqa: N803, N806  (array names carry their shape: x_NB)

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from pipelines.encoder.matryoshka import slice_renormalise
from pipelines.encoder.quantise import VectorType
from pipelines.encoder.rotation import Moment, Rotation
from pipelines.errors import InputError, ModelError
from pipelines.lake.commit import append_files
from pipelines.lake.datafiles import write_data_file
from pipelines.lake.delta import RUN_PROPERTY
from pipelines.lake.filters import equals
from pipelines.lake.lake import Lake
from pipelines.lake.tables import PUBLISHED_PROPERTY, ROTATIONS

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


def published(table: Table, snapshot_id: int | None = None) -> Published | None:
    """What the table, as it was last read, holds in a snapshot; the current one where None is given.

    Returns:
        None where nothing was ever published to it.

    Raises:
        ModelError: The snapshot is older than anything that is known of the table.
    """
    if snapshot_id is None:
        text = table.properties.get(PUBLISHED_PROPERTY)
        if text is None:
            return None
        last = Published.from_json(text)
        made = snapshot_of_run(table, last.run_id)
        if made is None or table.current_snapshot() is None:
            return last  # expired since, which takes no newer ones away
        current = table.current_snapshot()
        if any(snapshot.snapshot_id == made.snapshot_id for snapshot in _ancestors(table, current)):
            return last
        # Rolled back by another tool, which left the property alone.
        return _stated(table, current)
    return _stated(table, table.snapshot_by_id(snapshot_id))


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


def releases(table: Table) -> dict[str, int]:
    """The snapshots of the table's tags, oldest first."""
    tags = {
        name: ref.snapshot_id for name, ref in table.metadata.refs.items() if ref.snapshot_ref_type == "tag"
    }
    order = {snapshot.snapshot_id: number for number, snapshot in enumerate(table.snapshots())}
    return dict(sorted(tags.items(), key=lambda item: (order.get(item[1], -1), item[0])))


def _stated(table: Table, snapshot: Snapshot | None) -> Published:
    for one in _ancestors(table, snapshot):
        if one.summary and PUBLISHED_PROPERTY in one.summary.additional_properties:
            return Published.from_json(one.summary.additional_properties[PUBLISHED_PROPERTY])
    raise ModelError(
        f"what a snapshot of '{table.name()[-1]}' holds is not known: its publication has expired", _REPUBLISH
    )


def _ancestors(table: Table, snapshot: Snapshot | None) -> list[Snapshot]:
    found = []
    while snapshot is not None:
        found.append(snapshot)
        parent = snapshot.parent_snapshot_id
        snapshot = None if parent is None else table.snapshot_by_id(parent)
    return found


def serving_vectors(
    full_ND: npt.NDArray[np.float32], dim: int, rotation: Rotation | None
) -> npt.NDArray[np.float32]:
    """Full vectors as a serving table has them before they are stored: rotated, sliced, of length 1.

    Args:
        full_ND: Documents' or queries' vectors, of length 1.
        dim: Of the serving table.
        rotation: The serving table's; None where it has none.

    Returns:
        x_Nd float32.
    """
    return slice_renormalise(full_ND if rotation is None else rotation.apply(full_ND), dim)


@dataclass(frozen=True)
class RotationRecord:
    """A row of `rotations`.

    Attributes:
        rotation: The matrix.
        moment: Of all vectors that were published with it, deleted ones included.
    """

    rotation: Rotation
    moment: Moment


def rotation_id(rotation: Rotation) -> str:
    """Tells rotations apart."""
    return blake2b(rotation.matrix_DD.tobytes(), digest_size=8).hexdigest()


def record_rotation(lake: Lake, table: str, state: Published, record: RotationRecord) -> None:
    """Adds a publication's row to `rotations`, before the publication is committed.

    Killed in between, a row is left that no snapshot names, and the next run adds its own.
    """
    upper = np.triu_indices(record.rotation.dimension)
    row: Mapping[str, Any] = {
        "run_id": state.run_id,
        "rotation_id": rotation_id(record.rotation),
        "table_name": table,
        "model": state.model,
        "dimension": record.rotation.dimension,
        "matrix": record.rotation.matrix_DD.astype("<f4").tobytes(),
        "rows": record.moment.rows,
        "moment": record.moment.sum_DD[upper].astype("<f8").tobytes(),
    }
    rotations = lake.table("rotations")
    rows = pa.Table.from_pylist([row], schema=schema_to_pyarrow(ROTATIONS.schema, include_field_ids=False))
    append_files(rotations, [write_data_file(rotations, rows, "rotation")], {RUN_PROPERTY: state.run_id})


def recorded_rotation(lake: Lake, state: Published) -> RotationRecord | None:
    """The rotation that a publication used; None where it used none.

    Raises:
        ModelError: It used one, and the row is gone.
    """
    if not state.rotated:
        return None
    rows = lake.table("rotations").scan(row_filter=equals("run_id", state.run_id)).to_arrow().to_pylist()
    if not rows:
        raise ModelError(
            f"the rotation of publication {state.run_id} is not in the lake's table 'rotations'", _REPUBLISH
        )
    dim = int(rows[0]["dimension"])
    matrix_DD = np.frombuffer(rows[0]["matrix"], dtype="<f4").reshape(dim, dim).astype(np.float32)
    sum_DD = np.zeros((dim, dim))
    sum_DD[np.triu_indices(dim)] = np.frombuffer(rows[0]["moment"], dtype="<f8")
    sum_DD = sum_DD + np.triu(sum_DD, 1).T
    return RotationRecord(Rotation(matrix_DD), Moment(sum_DD, int(rows[0]["rows"])))
