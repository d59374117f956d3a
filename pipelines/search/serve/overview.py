"""Which tables of a lake can be searched, and how: read from the catalogue and manifests, no data."""

from dataclasses import dataclass

from pyiceberg.table import Table

from pipelines.encoder.conf import ModelConf
from pipelines.errors import EmbedlakeError, ModelError
from pipelines.lake import Lake
from pipelines.lake.models import recorded_models
from pipelines.lake.serving import releases, serving_tables
from pipelines.lake.vector_source import EMBEDDINGS, VectorSource
from pipelines.search.choice import choose_model, conf_for

_NOT_FILTERED = ("vector", "scale", "embedding")


@dataclass(frozen=True)
class Searchable:
    """A table that can be searched.

    Attributes:
        name: The table.
        model: The model's key.
        type: How its vectors are stored.
        rotated: Whether they were rotated.
        dim: Their dimension.
        dims: Those that they may be compared in, the largest first.
        snapshot: The current one's id, as text: 64 bits are too many for a number of JavaScript.
        releases: Names of its releases, oldest first.
        sources: Parts of the corpus that it has vectors of; empty where its partitions do not tell.
        columns: What a filter may name.
    """

    name: str
    model: str
    type: str
    rotated: bool
    dim: int
    dims: list[int]
    snapshot: str | None
    releases: list[str]
    sources: list[str]
    columns: list[str]


@dataclass(frozen=True)
class Overview:
    """What can be searched.

    Attributes:
        tables: The embeddings first, then serving tables by name.
        faults: Of each table that cannot, what is wrong.
    """

    tables: list[Searchable]
    faults: dict[str, EmbedlakeError]

    @property
    def sources(self) -> list[str]:
        """Of all tables."""
        return sorted({source for table in self.tables for source in table.sources})


def overview(lake: Lake, conf: ModelConf) -> Overview:
    """What can be searched now.

    Args:
        lake: The lake.
        conf: The model that the embeddings are searched by.

    Raises:
        EmbedlakeError: Nothing can: what is wrong with the embeddings. Or the catalogue does not answer.
    """
    tables, faults = [], {}
    for name in (EMBEDDINGS, *serving_tables(lake)):
        try:
            tables.append(_searchable(lake, conf, name))
        except EmbedlakeError as error:
            faults[name] = error
    if not tables:
        raise faults[EMBEDDINGS]
    return Overview(tables, faults)


def _searchable(lake: Lake, conf: ModelConf, name: str) -> Searchable:
    key = None
    if name == EMBEDDINGS:
        _, key = choose_model(recorded_models(lake.table(name).properties), conf)
    source = VectorSource.open(lake, name, model=key)
    table = source.table()
    files = source.files(source.filter())
    if not files:
        raise ModelError(f"'{name}' has no vectors by '{source.model}' yet", "Run 'embedlake embed'")
    return Searchable(
        name=name,
        model=source.model,
        type=source.type,
        rotated=source.rotation is not None,
        dim=source.dim,
        dims=_dims(conf, source),
        snapshot=None if source.snapshot_id is None else str(source.snapshot_id),
        releases=list(releases(table)),
        sources=source.sources(files),
        columns=_columns(table),
    )


def _dims(conf: ModelConf, source: VectorSource) -> list[int]:
    """The stored dimension, and those below it that the model was made for."""
    known = conf_for(conf, source.model)
    return sorted({source.dim, *(dim for dim in known.dimensions if dim < source.dim)}, reverse=True)


def _columns(table: Table) -> list[str]:
    return [field.name for field in table.schema().fields if field.name not in _NOT_FILTERED]
