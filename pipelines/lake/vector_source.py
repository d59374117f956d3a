"""What is searched: the embeddings, or a serving table, as one of their snapshots has them."""
# ruff: noqa: N803, N806  (array names carry their shape: x_ND)

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyiceberg.expressions import BooleanExpression
from pyiceberg.table import Table

from pipelines.encoder.quantise import VectorType, bytes_per_vector, decode
from pipelines.encoder.rotation import Rotation, reduced
from pipelines.errors import CatalogError, InputError
from pipelines.lake import Lake
from pipelines.lake.added import opened_table
from pipelines.lake.config import LakeConfig
from pipelines.lake.filters import all_of, equals
from pipelines.lake.models import choose_key, recorded_dimension
from pipelines.lake.rotations import recorded_rotation
from pipelines.lake.scan import ScanFile, read_batches, scan_files
from pipelines.lake.serving import published, published_at, serving_tables, snapshot_as_of
from pipelines.lake.vectors import as_bytes, as_matrix

KEYS = ["chunk_id", "doc_id", "source"]
EMBEDDINGS = "embeddings"


@dataclass(frozen=True)
class VectorSource:
    """Vectors of one model in one snapshot of a table; may cross processes and holds no secret.

    Attributes:
        config: Of the lake.
        metadata_location: Of the table, as it was when the source was opened.
        name: The table's.
        snapshot_id: The snapshot; None where the table has none.
        is_current: Whether it is the table's current one.
        model: The model's key.
        dim: Dimension of the stored vectors.
        type: How they are stored.
        rotation: Of a table that was published rotated.
    """

    config: LakeConfig
    metadata_location: str
    name: str
    snapshot_id: int | None
    is_current: bool
    model: str
    dim: int
    type: VectorType
    rotation: Rotation | None

    @classmethod
    def open(
        cls, lake: Lake, name: str = EMBEDDINGS, as_of: str | None = None, model: str | None = None
    ) -> "VectorSource":
        """The vectors of a table, now or as of a release or a snapshot.

        Args:
            lake: The lake.
            name: `embeddings`, or a serving table.
            as_of: A release's name or a snapshot's id; None is now.
            model: A model's key or name; None where there is one only.

        Raises:
            CatalogError: There is no such table, or it holds no vectors.
            InputError: There is no such release or snapshot.
            ModelError: No model fits, or several do.
        """
        table = _table(lake, name)
        current = table.metadata.current_snapshot_id
        snapshot_id = current if as_of is None else snapshot_as_of(table, as_of)
        place = (lake.config, table.metadata_location, name, snapshot_id, snapshot_id == current)
        if name == EMBEDDINGS:
            key = choose_key(table.properties, model)
            return cls(*place, key, recorded_dimension(table.properties, key), "float32", None)
        state = (
            published(table) if snapshot_id in (None, current) else published_at(table, int(snapshot_id or 0))
        )
        if state is None:
            raise CatalogError(
                f"the table '{name}' holds no published vectors", "Name a table of 'embedlake publish'"
            )
        if model not in (None, state.model, state.model.partition("@")[0]):
            raise InputError(f"'{name}' holds vectors of '{state.model}', not of '{model}'")
        record = recorded_rotation(lake, state)
        return cls(*place, state.model, state.dim, state.type, record.rotation if record else None)

    def table(self) -> Table:
        """The table as it was when the source was opened, in any process."""
        return opened_table(self.config, self.metadata_location)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the table's columns."""
        return tuple(field.name for field in self.table().schema().fields)

    def filter(self, *more: BooleanExpression) -> BooleanExpression | None:
        """Rows of the source's model that match every further filter."""
        own = (equals("model", self.model),) if self.name == EMBEDDINGS else ()
        wanted = (*own, *more)
        return all_of(wanted[0], *wanted[1:]) if wanted else None

    def files(self, where: BooleanExpression | None) -> list[ScanFile]:
        """The data files that may hold rows of `where`: partitions and statistics leave others out."""
        if self.snapshot_id is None:
            return []
        return scan_files(self.table(), where, None if self.is_current else self.snapshot_id)

    def sources(self, files: Sequence[ScanFile]) -> list[str]:
        """The sources that files are of, by their partitions alone; none where these do not name it."""
        specs = self.table().specs()
        places = {
            key: [field.name for field in spec.fields].index("source")
            for key, spec in specs.items()
            if any(field.name == "source" for field in spec.fields)
        }
        return sorted({str(file.partition[places[file.spec_id]]) for file in files if file.spec_id in places})

    def batches(
        self,
        file: ScanFile,
        dim: int,
        where: BooleanExpression | None,
        columns: Sequence[str] = tuple(KEYS),
    ) -> Iterator[tuple[npt.NDArray[np.float32], pa.RecordBatch]]:
        """One file's vectors, cut to `dim`, with columns of their rows.

        Yields:
            x_Nd float32, of any length; and the columns.
        """
        stored = ["embedding"] if self.name == EMBEDDINGS else ["vector"]
        for batch in read_batches(self.table(), file, [*columns, *stored], where):
            yield self._matrix(batch)[:, :dim], batch.select(list(columns))

    def query(self, full_QD: npt.NDArray[np.float32], dim: int) -> npt.NDArray[np.float32]:
        """Queries' vectors as the stored ones are: x_Qd float32 with rows of length 1."""
        return reduced(full_QD, dim, self.rotation)

    def _matrix(self, batch: pa.RecordBatch) -> npt.NDArray[np.float32]:
        if self.name == EMBEDDINGS:
            return as_matrix(batch.column("embedding"), self.dim)
        if self.type == "float32":
            return as_matrix(batch.column("vector"), self.dim)
        width = bytes_per_vector(self.type, self.dim) - (4 if self.type == "int8" else 0)
        rows_NB = as_bytes(batch.column("vector"), width)
        # Without its scale an int8 row has another length, which a cosine does not see.
        return decode(rows_NB, self.type, self.dim)


def _table(lake: Lake, name: str) -> Table:
    if name == EMBEDDINGS or lake.exists(name):
        return lake.table(name)
    known = ", ".join(serving_tables(lake))
    raise CatalogError(
        f"the lake has no table '{lake.config.namespace}.{name}'",
        f"'embedlake publish' has made {known}" if known else "'embedlake publish' makes one",
    )
