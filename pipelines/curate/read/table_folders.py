"""Tables in a folder: which files and rows a Delta table has; Iceberg and Hudi tables are refused."""

import contextlib
import json
import posixpath
import re
import tempfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from fsspec.implementations.local import LocalFileSystem
from fsspec.spec import AbstractFileSystem

from pipelines.curate.read.partitions import Partition
from pipelines.errors import InputError

_LOG_FILE = re.compile(r"(?:^|(.*)/)_delta_log/\d{20}\.(?:json|checkpoint\.[\w.-]+)")
_VECTORS = re.compile(r"(?:.*/)?deletion_vector_[^/]+\.bin")
# Tables whose folders hold rows that the table no longer has.
_TABLES = (
    (
        re.compile(r"(.*/)?metadata/[^/]+\.metadata\.json"),
        "an Iceberg table",
        "Name it as iceberg:NAMESPACE.TABLE",
    ),
    (re.compile(r"(.*/)?\.hoodie/.+"), "a Hudi table", "Copy it to plain Parquet"),
)


@dataclass(frozen=True)
class LiveFile:
    """A file that belongs to the table's newest version.

    Attributes:
        name: Relative to the table's folder.
        partition: The values of the table's partition columns.
        deletions: A bit per row, set where it is deleted, packed and compressed by zlib; empty: none is.
    """

    name: str
    partition: Partition
    deletions: bytes = b""


def delta_tables(names: Iterable[str]) -> list[str]:
    """The folders with a Delta log among the files `names`; `""` is the folder that all are relative to."""
    found = (_LOG_FILE.fullmatch(name) for name in names if "_delta_log/" in name)
    return sorted({match[1] or "" for match in found if match})


def refuse_other_tables(names: Iterable[str], location: str) -> None:
    """Refuses a folder with a table whose files alone do not tell which rows it has.

    Raises:
        InputError: There is an Iceberg or Hudi table among the files `names` at `location`.
    """
    for name in names:
        for pattern, what, hint in _TABLES:
            if match := pattern.fullmatch(name):
                where = f"{location.rstrip('/')}/{match[1] or ''}".rstrip("/")
                raise InputError(f"{where} is {what}, whose files hold rows that it no longer has", hint)


def live_files(
    fs: AbstractFileSystem, root: str, names: Iterable[str], where: str
) -> tuple[list[LiveFile], tuple[str, ...]]:
    """The files of the newest version of the table in folder `root`, and the table's columns.

    Args:
        fs: Where the folder is.
        root: The folder's path.
        names: All files in it, relative to it.
        where: The table's name in errors.

    Raises:
        InputError: The log cannot be read, names a file that is not there or is outside the folder, or uses
            a feature without a reader.
    """
    there = set(names)
    with tempfile.TemporaryDirectory(prefix="embedlake-delta-") as copy:
        folder = Path(root)
        if not isinstance(fs, LocalFileSystem):
            # The library that reads the log knows only a part of the AWS chain; the log is small beside
            # the data.
            folder = Path(copy)
            _copy(fs, root, _needed(fs, root, there), folder)
        try:
            folder = folder.resolve()
            table = DeltaTable(str(folder))
            _check_mapping(table, where)
            columns = tuple(field.name for field in table.schema().fields)
            deletions = _deletions(table, folder)
            actions = pa.table(table.get_add_actions())
        except DeltaError as error:
            said = (str(error).splitlines() or [""])[0].removeprefix("Kernel error: ")[:200]
            raise InputError(
                f"the Delta table {where} cannot be read ({said})",
                "See its _delta_log, or copy the table to plain Parquet",
            ) from error
    partitions = actions["partition"].to_pylist() if "partition" in actions.column_names else []
    files = []
    for at, path in enumerate(actions["path"].to_pylist()):
        name = unquote(path)
        if name not in there:
            raise InputError(
                f"the Delta table {where} names a file that is not in its folder ({name})",
                "Copy the table to a folder of its own: a shallow clone and a damaged table cannot be read",
            )
        values = partitions[at] if partitions else {}
        partition = tuple((key, _as_in_log(value)) for key, value in values.items())
        files.append(LiveFile(name, partition, deletions.get(name, b"")))
    return files, columns


def _needed(fs: AbstractFileSystem, root: str, there: set[str]) -> list[str]:
    """The files that the newest version is made of: the log from its last checkpoint on, deletion vectors."""
    checkpoint = 0
    if "_delta_log/_last_checkpoint" in there:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            pointer = json.loads(fs.cat_file(posixpath.join(root, "_delta_log/_last_checkpoint")))
            checkpoint = int(pointer["version"])
    needed = [name for name in there if _VECTORS.fullmatch(name)]
    for name in there:
        if name.startswith("_delta_log/"):
            version = name.removeprefix("_delta_log/")[:20]
            if not version.isdigit() or int(version) >= checkpoint:
                needed.append(name)
    return needed


def _copy(fs: AbstractFileSystem, root: str, names: list[str], folder: Path) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    fs.get([posixpath.join(root, name) for name in names], [str(folder / name) for name in names])


def _check_mapping(table: DeltaTable, where: str) -> None:
    if table.metadata().configuration.get("delta.columnMapping.mode", "none") != "none":
        raise InputError(
            f"the Delta table {where} maps its columns: its files name them otherwise than the table",
            "Rewrite it with delta.columnMapping.mode = none, or copy it to plain Parquet",
        )


def _deletions(table: DeltaTable, folder: Path) -> dict[str, bytes]:
    """By file the rows that a deletion vector takes from it."""
    if "deletionVectors" not in (table.protocol().reader_features or ()):
        return {}
    deletions: dict[str, bytes] = {}
    for batch in pa.RecordBatchReader.from_stream(table.deletion_vectors()):
        for uri, rows in zip(batch["filepath"], batch["selection_vector"], strict=True):
            name = Path(unquote(uri.as_py().removeprefix("file://"))).relative_to(folder).as_posix()
            live = rows.values.to_numpy(zero_copy_only=False)
            deletions[name] = zlib.compress(np.packbits(~live).tobytes())
    return deletions


def _as_in_log(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return None if value is None else str(value)
