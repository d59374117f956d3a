"""What a serving table looks like: its columns, partitions and order, from the settings."""

import re
from dataclasses import dataclass

from pyiceberg.types import FixedType, FloatType, IcebergType, IntegerType, ListType, StringType

from pipelines.encoder.quantise import VectorType, bytes_per_vector
from pipelines.errors import ConfigError
from pipelines.lake.datafiles import ParquetLayout
from pipelines.lake.table_spec import TableSpec, metadata, schema
from pipelines.lake.tables import CHUNKS
from pipelines.publish.config import PublishConfig

VECTOR, SCALE = "vector", "scale"
KEYS = ("chunk_id", "doc_id", "source")
_KEY_DOCS = (
    "The chunk, as in the table `chunks`",
    "The chunk's document",
    "The part of the corpus that the document comes from",
)
_IDS = KEYS[:2]
_CHOICE = ("ordinal", "text", "text_hash", "char_start", "char_end", "n_tokens", "metadata")
_FIELD = re.compile(r"(?:(bucket|truncate)\()?(\w+)(?:, ?(\d+))?\)?$")

Column = tuple[str, IcebergType, bool, str]


@dataclass(frozen=True)
class Taken:
    """A column of a serving table that comes from `chunks`.

    Attributes:
        name: In the serving table.
        column: In `chunks`.
        key: The metadata's key, where it is the value of one.
    """

    name: str
    column: str
    key: str | None = None


def taken_columns(columns: tuple[str, ...]) -> tuple[Taken, ...]:
    """The chosen columns.

    Raises:
        ConfigError: `chunks` has no such column, or two would have one name.
    """
    found = []
    for column in columns:
        name, _, key = column.partition(".")
        if name not in _CHOICE or (key and name != "metadata"):
            raise ConfigError(
                f"publish.columns: chunks have no column '{column}'",
                f"Choose of {', '.join(_CHOICE)}, or metadata.KEY",
            )
        found.append(Taken(key or name, name, key or None))
    names = [*KEYS, VECTOR, SCALE, *(one.name for one in found)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(
            f"publish.columns: two columns would be called '{twice[0]}'", "Leave out one of the two"
        )
    return tuple(found)


def serving_spec(name: str, config: PublishConfig, dim: int) -> TableSpec:
    """The table's definition.

    Raises:
        ConfigError: A partition or the order is by a column that the table has not.
    """
    columns: list[Column] = [(key, StringType(), True, doc) for key, doc in zip(KEYS, _KEY_DOCS, strict=True)]
    columns.append((VECTOR, _vector_type(config.type, dim), True, _vector_doc(config.type, dim)))
    if config.type == "int8":
        columns.append((SCALE, FloatType(), True, "A coordinate is its int8 times this"))
    for one in taken_columns(config.columns):
        if one.key is not None:
            columns.append((one.name, StringType(), False, f"The document's {one.key}"))
        elif one.column == "metadata":
            columns.append((one.name, metadata(102), False, "The document's further columns, as strings"))
        else:
            field = CHUNKS.schema.find_field(one.column)
            kind = IntegerType() if isinstance(field.field_type, IntegerType) else StringType()
            columns.append((one.name, kind, True, field.doc or ""))
    names = [column[0] for column in columns]
    for setting, given in (("sort_by", config.sort_by), ("partition_by", _columns_of(config.partition_by))):
        unknown = [column for column in given if column not in names or column == VECTOR]
        if unknown:
            raise ConfigError(
                f"publish.{setting}: the table would have no column '{unknown[0]}'",
                "Add it to publish.columns" if unknown[0] != VECTOR else "Choose another",
            )
    # Bounds of these prune nothing, and a manifest holds them for every file.
    quiet = [name for name in names if name in ("chunk_id", VECTOR, SCALE, "text")]
    return TableSpec(
        name=name,
        doc=f"A chunk's vector at {dim} dimensions, as {config.type}. Made by embedlake publish",
        schema=schema(*columns),
        partitions=tuple(_partition(part) for part in config.partition_by),
        order=config.sort_by,
        properties={
            "write.merge.mode": "merge-on-read",
            "write.delete.mode": "merge-on-read",
            "write.metadata.metrics.column.vector.element": "none",
            "write.metadata.metrics.column.metadata.key": "none",
            "write.metadata.metrics.column.metadata.value": "none",
            **{f"write.metadata.metrics.column.{name}": "none" for name in quiet},
        },
    )


def parquet_layout(kind: VectorType) -> ParquetLayout:
    """How its files are encoded."""
    if kind == "float32":
        return ParquetLayout((VECTOR,), key_columns=_IDS)
    return ParquetLayout(code_columns=(VECTOR,), key_columns=_IDS)


def _columns_of(parts: tuple[str, ...]) -> list[str]:
    return [_partition(part)[0] for part in parts]


def _partition(part: str) -> tuple[str, str, str]:
    """(column, transform, field's name), as `TableSpec` takes them."""
    found = _FIELD.match(part)
    if found is None:
        raise ConfigError(f"publish.partition_by: '{part}' is no partition", "For example bucket(doc_id, 16)")
    transform, column, size = found.groups()
    if transform is None:
        return column, "identity", column
    return column, f"{transform}[{size}]" if size else transform, f"{column}_{transform}"


def _vector_type(kind: VectorType, dim: int) -> IcebergType:
    if kind == "float32":
        return ListType(101, FloatType(), element_required=True)
    return FixedType(bytes_per_vector(kind, dim) - (4 if kind == "int8" else 0))


def _vector_doc(kind: VectorType, dim: int) -> str:
    return {
        "float32": f"{dim} coordinates, L2 norm 1",
        "float16": f"{dim} coordinates as float16, little-endian, L2 norm 1",
        "int8": f"{dim} coordinates as int8; times scale, the L2 norm is 1",
        "binary": f"{dim} bits, 1 where the coordinate is above zero, the first in the highest bit",
    }[kind]
