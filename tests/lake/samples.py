"""Rows for the lake's tables, small and valid, without an engine."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.table import Table

from pipelines.errors import EmbedlakeError
from pipelines.lake import Lake, LakeConfig
from pipelines.lake.datafiles import ParquetLayout, WrittenFile, write_data_file
from pipelines.lake.tables import BY_NAME

VECTORS = ParquetLayout(vector_columns=("embedding",))


def opened(config: LakeConfig) -> Lake:
    """A lake with its tables."""
    lake = Lake.open(config)
    lake.ensure_tables()
    return lake


def rejects(keys: Sequence[str], stage: str = "curate") -> pa.Table:
    """Rows of `rejects`, whose only partition field is the stage."""
    rows = [{"key": key, "stage": stage, "source": "notes", "reason": "empty_text"} for key in keys]
    return typed("rejects", rows)


def embeddings(
    chunk_ids: Sequence[str], doc_id: str = "doc", model: str = "m@1", source: str = "notes", unit: str = "u"
) -> pa.Table:
    """Rows of `embeddings`, all of one document, so of one partition."""
    rows = [
        {
            "chunk_id": chunk_id,
            "model": model,
            "doc_id": doc_id,
            "source": source,
            "text_hash": f"hash of {chunk_id}",
            "embedding": [0.0, 0.6, 0.8, float(number)],
            "unit": unit,
        }
        for number, chunk_id in enumerate(chunk_ids)
    ]
    return typed("embeddings", rows)


def typed(name: str, rows: Sequence[Mapping[str, object]]) -> pa.Table:
    """Rows with a table's columns and types."""
    return pa.Table.from_pylist(rows, schema=schema_to_pyarrow(BY_NAME[name].schema, include_field_ids=False))


def with_column(rows: pa.Table, name: str, values: pa.Array) -> pa.Table:
    """`rows` with one column replaced."""
    return rows.set_column(rows.column_names.index(name), name, values)


def written(table: Table, keys: Sequence[str], stage: str = "curate") -> WrittenFile:
    """One uncommitted file of `rejects`."""
    return write_data_file(table, rejects(keys, stage), "test")


def keys_of(lake: Lake) -> list[str]:
    """The keys in `rejects`, as a fresh reader sees them, sorted."""
    found: list[str] = lake.table("rejects").scan(selected_fields=("key",)).to_arrow()["key"].to_pylist()
    return sorted(found)


def foreign(folder: Path, table: Table, rows: pa.Table) -> str:
    """A file that another engine wrote for the table, with its field ids."""
    path = folder / "foreign.parquet"
    fields = []
    for field in schema_to_pyarrow(table.schema()):
        if field.name in rows.column_names:
            own = rows.schema.field(field.name).type  # and the table's where that only adds the element's id
            is_list = pa.types.is_list(own) or pa.types.is_large_list(own)
            is_same = is_list and own.value_type == field.type.value_type
            fields.append(pa.field(field.name, field.type if is_same else own, metadata=field.metadata))
    columns = [rows[field.name].cast(field.type) for field in fields]
    pq.write_table(pa.Table.from_arrays(columns, schema=pa.schema(fields)), path)
    return f"file://{path}"


@contextmanager
def fault(kind: type[EmbedlakeError], *words: str) -> Iterator[None]:
    """Expects a fault that keeps to what every fault keeps to, and has all the words.

    It is one line of message and a hint, and holds no secret of the environment.
    """
    with pytest.raises(kind) as caught:
        yield
    error, line = caught.value, str(caught.value)
    assert error.message
    assert error.hint
    assert "\n" not in line
    assert len(line) < 500
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "EMBEDLAKE_CATALOG_CREDENTIAL"):
        for part in os.environ.get(name, "").split(":"):
            assert not part or part not in line, name
    for word in words:
        assert word in line
