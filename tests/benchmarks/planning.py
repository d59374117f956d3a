"""Planning: seconds and memory for many units of which most are done, from manifests alone."""

import json
import resource
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

from pyiceberg.conversions import to_bytes
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.table import Table
from pyiceberg.typedef import Record
from pyiceberg.types import IntegerType, StringType

from pipelines.embed.plan.survey import survey
from pipelines.embed.plan.units import file_id
from pipelines.lake import Lake, LakeConfig

_MODEL = "noop@000000000000"
_SOURCES, _BUCKETS = 8, 16
_ROWS = 4000
_TOKENS = 200 * _ROWS
_PER_COMMIT = 10_000
_DONE = 0.9
_SIZES = (100_000, 1_000_000)


def main() -> None:
    """Prints the rows of `python -m tests.benchmarks`; each plan is a process of its own."""
    rows = []
    for files in _SIZES:
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(
                [sys.executable, "-m", "tests.benchmarks.planning", "make", folder, str(files)], check=True
            )
            command = [sys.executable, "-m", "tests.benchmarks.planning", "plan", folder]
            told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        bar = "bar 30 s and 1,024 MiB" if files == _SIZES[0] else "in a stream, in bounded memory"
        rows.append(
            {
                "what": f"planning: {files:,} units, {_DONE:.0%} done, {told['units']:,} left",
                "figure": f"{told['seconds']:.1f} s, {told['peak']:,.0f} MiB",
                "beside": f"{bar}; reading the manifests alone: {told['manifests']:.1f} s",
            }
        )
    print(json.dumps(rows))  # noqa: T201


def make(folder: str, files: int) -> None:
    """A lake whose manifests tell of so many files that are not there: a plan reads none of them."""
    lake = Lake.open(LakeConfig(dir=Path(folder), buckets=_BUCKETS))
    lake.ensure_tables()
    chunks, embeddings = lake.table("chunks"), lake.table("embeddings")
    for start in range(0, files, _PER_COMMIT):
        made = [_chunks_file(chunks, number) for number in range(start, min(files, start + _PER_COMMIT))]
        _append(chunks, made)
        done = [file for place, file in enumerate(made) if place % 10 < _DONE * 10]
        _append(embeddings, [_embeddings_file(embeddings, chunks, file) for file in done])


def _append(table: Table, files: list[DataFile]) -> None:
    table.refresh()
    with table.transaction() as transaction, transaction.update_snapshot().fast_append() as append:
        for file in files:
            append.append_data_file(file)


def _chunks_file(table: Table, number: int) -> DataFile:
    ids = {name: table.schema().find_field(name).field_id for name in ("n_tokens", "input_ids.element")}
    names = [field.field_id for field in table.schema().fields]
    strings = {
        field.field_id: b"0123456789abcdef" for field in table.schema().fields if field.name.endswith("_id")
    }
    path = f"{table.location()}/data/source=s{number % _SOURCES}/{uuid.uuid4()}-{number:06d}.parquet"
    return _file(
        table,
        path,
        (f"s{number % _SOURCES}", number // _SOURCES % _BUCKETS),
        column_sizes=dict.fromkeys(names, 1000),
        value_counts=dict.fromkeys(names, _ROWS) | {ids["input_ids.element"]: _TOKENS},
        lower_bounds=strings | {ids["n_tokens"]: to_bytes(IntegerType(), 20)},
        upper_bounds=strings | {ids["n_tokens"]: to_bytes(IntegerType(), 254)},
    )


def _embeddings_file(table: Table, chunks: Table, file: DataFile) -> DataFile:
    unit = table.schema().find_field("unit").field_id
    name = to_bytes(StringType(), file_id(file.file_path, chunks.location()))
    names = [field.field_id for field in table.schema().fields]
    path = f"{table.location()}/data/embed-{'0' * 32}/{uuid.uuid4()}.parquet"
    return _file(
        table,
        path,
        (_MODEL, file.partition[0], file.partition[1]),
        column_sizes=dict.fromkeys(names, 1000),
        value_counts=dict.fromkeys(names, _ROWS),
        lower_bounds={unit: name},
        upper_bounds={unit: name},
    )


def _file(table: Table, path: str, partition: tuple[object, ...], **statistics: Any) -> DataFile:
    file = DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=path,
        file_format=FileFormat.PARQUET,
        partition=Record(*partition),
        record_count=_ROWS,
        file_size_in_bytes=4_000_000,
        null_value_counts={},
        nan_value_counts={},
        split_offsets=[4],
        sort_order_id=None,
        equality_ids=None,
        key_metadata=None,
        **statistics,
    )
    file.spec_id = table.spec().spec_id
    return file


def plan(folder: str) -> None:
    """Plans, cuts every unit, and prints what it took."""
    lake = Lake.open(LakeConfig(dir=Path(folder), buckets=_BUCKETS))
    began = time.perf_counter()
    found = survey(lake, _MODEL)
    units = sum(1 for _ in found.units(_TOKENS, 16_384))
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    began = time.perf_counter()
    for table in (lake.table("chunks"), lake.table("embeddings")):
        snapshot = table.current_snapshot()
        assert snapshot is not None
        for manifest in snapshot.manifests(table.io):
            manifest.fetch_manifest_entry(table.io)
    told = {"units": units, "seconds": seconds, "peak": peak, "manifests": time.perf_counter() - began}
    print(json.dumps(told))  # noqa: T201


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["make", folder, files]:
            make(folder, int(files))
        case ["plan", folder]:
            plan(folder)
        case _:
            main()
