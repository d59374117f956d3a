"""The rotations of publications, in the table `rotations`: written before one, read by its run's id."""
# ruff: noqa: N806  (array names carry their shape: x_DD)

from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa
from pyiceberg.io.pyarrow import schema_to_pyarrow

from pipelines.encoder.rotation import Moment, Rotation
from pipelines.errors import ModelError
from pipelines.lake.commit import append_files
from pipelines.lake.datafiles import write_data_file
from pipelines.lake.delta import RUN_PROPERTY
from pipelines.lake.filters import equals
from pipelines.lake.lake import Lake
from pipelines.lake.serving import Published
from pipelines.lake.tables import ROTATIONS


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
    row: dict[str, Any] = {
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
            f"the rotation of publication {state.run_id} is not in the lake's table 'rotations'",
            "Publish it again with --rebuild",
        )
    dim = int(rows[0]["dimension"])
    matrix_DD = np.frombuffer(rows[0]["matrix"], dtype="<f4").reshape(dim, dim).astype(np.float32)
    sum_DD = np.zeros((dim, dim))
    sum_DD[np.triu_indices(dim)] = np.frombuffer(rows[0]["moment"], dtype="<f8")
    sum_DD = sum_DD + np.triu(sum_DD, 1).T
    return RotationRecord(Rotation(matrix_DD), Moment(sum_DD, int(rows[0]["rows"])))
