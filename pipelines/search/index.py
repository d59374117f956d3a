"""Indexes of a table's partitions, by FAISS: built where there is none of the files that a partition has now.

An index is rows of the lake's table `indexes`, so a build is one commit, as atomic as any; and it names the
files that it was built from, so that a search knows whether it is of the partition as it is (`indexed.py`).
Killed in a build, nothing has happened.
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any
from uuid import uuid4

import faiss
import numpy as np
import pyarrow as pa
from pyiceberg.io.pyarrow import schema_to_pyarrow

from pipelines.errors import CommitError, ModelError
from pipelines.lake import Lake
from pipelines.lake.datafiles import ParquetLayout, write_data_file
from pipelines.lake.delta import DeadRows, Delta, commit_delta
from pipelines.lake.faults import explained
from pipelines.lake.filters import equals
from pipelines.lake.scan import ScanFile, scan_files
from pipelines.lake.slices import read_slice
from pipelines.lake.tables import INDEXES, STAGE_PROPERTY
from pipelines.lake.vector_source import VectorSource
from pipelines.progress import Progress
from pipelines.search.config import SearchConfig
from pipelines.search.memory import Held

_PIECE = 16 * 2**20
_TRAIN_PER_LIST = 40  # FAISS asks for 39 and more
_ATTEMPTS = 20
_CODES = {"fp16": "SQfp16", "int8": "SQ8"}

Partition = tuple[Any, ...]


@dataclass(frozen=True)
class Entry:
    """An index, as the table records it, without its data.

    Attributes:
        partition: The partition's values, as JSON.
        files: Hash of the files that it is of.
        snapshot_id: The table's snapshot when it was built.
        index_id: Hash of its data.
        rows: Vectors in it.
        kind: See the table.
    """

    partition: str
    files: str
    snapshot_id: int
    index_id: str
    rows: int
    kind: str


@dataclass(frozen=True)
class Built:
    """What a build did.

    Attributes:
        table: The table of vectors.
        built: Partitions that got an index.
        kept: Partitions whose index is of the files that they have.
        small: Partitions with too few rows for one.
        rows: Vectors in the new indexes.
        bytes: Of their data.
    """

    table: str
    built: int
    kept: int
    small: int
    rows: int
    bytes: int


def build(
    lake: Lake, source: VectorSource, config: SearchConfig, progress: Progress, rebuild: bool = False
) -> Built:
    """Builds the indexes that the table's partitions lack or have of other files, and records them.

    Args:
        lake: The lake.
        source: The vectors.
        config: Kind of the indexes.
        progress: Told of the partitions.
        rebuild: Build those too that are there already.

    Raises:
        ModelError: There are no vectors.
        CommitError: Others kept changing the table of indexes.
    """
    with explained(lake.config):
        lake.ensure_tables()
        partitions = by_partition(source.files(source.filter()))
        if not partitions:
            raise ModelError(
                f"'{source.name}' has no vectors", "Run 'embedlake embed' or 'embedlake publish'"
            )
        there = {entry.partition: entry for entry in recorded(lake, source)}
        kept = small = rows = size = 0
        made: list[pa.Table] = []
        with progress.step("building indexes", len(partitions), "partitions") as step:
            for number, (values, files) in enumerate(partitions.items()):
                known = there.get(_named(values))
                if known is not None and known.files == files_hash(files) and not rebuild:
                    kept += 1
                elif sum(file.rows for file in files) < config.index_min_rows:
                    small += 1
                else:
                    held = Held.read(source, files, source.dim, config)
                    data, kind = _index(held, config)
                    made.append(_rows(source, values, files, data, kind, len(held.x_Nd)))
                    rows += len(held.x_Nd)
                    size += len(data)
                step.done(number + 1)
        gone = set(there) - {_named(values) for values in partitions}
        if made or gone:
            _commit(lake, source, made, gone)
        return Built(source.name, len(made), kept, small, rows, size)


def recorded(lake: Lake, source: VectorSource) -> list[Entry]:
    """The indexes of a table's vectors at their dimension, whatever files they are of."""
    if not lake.exists(INDEXES.name):
        return []
    scan = lake.table(INDEXES.name).scan(
        row_filter=equals("table_name", source.name),
        selected_fields=(
            "partition",
            "files",
            "snapshot_id",
            "index_id",
            "rows",
            "kind",
            "piece",
            "model",
            "dim",
        ),
    )
    found = [row for row in scan.to_arrow().to_pylist() if row.pop("piece") == 0]
    own = [row for row in found if (row.pop("model"), row.pop("dim")) == (source.model, source.dim)]
    return [Entry(**row) for row in own]


def by_partition(files: Sequence[ScanFile]) -> dict[Partition, list[ScanFile]]:
    """Files by their partition."""
    found: dict[Partition, list[ScanFile]] = defaultdict(list)
    for file in files:
        found[file.partition].append(file)
    return dict(found)


def files_hash(files: Sequence[ScanFile]) -> str:
    """Changes with every file of data or of deletes."""
    names = sorted([file.path, *sorted(file.deletes)] for file in files)
    return blake2b(json.dumps(names).encode(), digest_size=16).hexdigest()


def _index(held: Held, config: SearchConfig) -> tuple[bytes, str]:
    count, dim = held.x_Nd.shape
    lists = max(1, min(int(4 * np.sqrt(count)), count // _TRAIN_PER_LIST))
    kind = f"IVF{lists},{_CODES[config.index_codes]}"
    index = faiss.index_factory(dim, kind, faiss.METRIC_INNER_PRODUCT)
    chosen = np.random.default_rng(0).permutation(count)[: 256 * lists]
    index.train(np.ascontiguousarray(held.x_Nd[np.sort(chosen)]))
    index.add(held.x_Nd)
    body = faiss.serialize_index(index).tobytes()
    sink = pa.BufferOutputStream()
    keys = held.keys.combine_chunks()
    with pa.ipc.new_file(sink, keys.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(keys)
    return len(body).to_bytes(8, "little") + body + sink.getvalue().to_pybytes(), kind


def _rows(
    source: VectorSource, values: Partition, files: Sequence[ScanFile], data: bytes, kind: str, rows: int
) -> pa.Table:
    pieces = [data[start : start + _PIECE] for start in range(0, len(data), _PIECE)]
    common = {
        "table_name": source.name,
        "partition": _named(values),
        "model": source.model,
        "dim": source.dim,
        "files": files_hash(files),
        "snapshot_id": source.snapshot_id,
        "index_id": blake2b(data, digest_size=16).hexdigest(),
        "kind": kind,
        "rows": rows,
        "pieces": len(pieces),
    }
    return pa.Table.from_pylist(
        [{**common, "piece": number, "data": piece} for number, piece in enumerate(pieces)],
        schema=schema_to_pyarrow(INDEXES.schema, include_field_ids=False),
    )


def _commit(lake: Lake, source: VectorSource, made: Sequence[pa.Table], gone: set[str]) -> None:
    """Adds the new indexes and takes those that they replace away, in one commit."""
    table = lake.table(INDEXES.name)
    layout = ParquetLayout(code_columns=("data",), row_group_rows=1)
    files = [write_data_file(table, rows, "index", layout) for rows in made]
    replaced = gone | {rows["partition"][0].as_py() for rows in made}
    for _ in range(_ATTEMPTS):
        dead = []
        for file in scan_files(table, equals("table_name", source.name)):
            rows, positions = read_slice(table, file, 0, file.rows, ["partition", "model", "dim"])
            old = np.array(
                [
                    row["partition"] in replaced and (row["model"], row["dim"]) == (source.model, source.dim)
                    for row in rows.to_pylist()
                ],
                dtype=np.bool_,
            )
            if old.any():
                dead.append(DeadRows(file.path, file.partition, file.spec_id, positions[old]))
        if commit_delta(table, Delta(files, dead), uuid4().hex[:12], {STAGE_PROPERTY: "index"}, {}):
            return
    raise CommitError(f"the table of indexes was changed by others {_ATTEMPTS} times in a row", "Run again")


def _named(values: Partition) -> str:
    return json.dumps(list(values), default=str)
