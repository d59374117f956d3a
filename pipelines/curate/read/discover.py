"""What there is to read: files of a folder or an object store, cut into splits of about equal bytes."""

import itertools
import posixpath
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import fsspec
from fsspec.spec import AbstractFileSystem

from pipelines.curate.read.file_names import DATASET_CARDS, encodes, ending_of, format_of, is_hidden
from pipelines.curate.read.partitions import Partition, drifts, partition_of
from pipelines.curate.read.table_folders import delta_tables, live_files, refuse_other_tables
from pipelines.errors import EmptyInputError, InputError
from pipelines.lake.config import LakeConfig
from pipelines.lake.faults import explained
from pipelines.lake.s3 import fsspec_options

# Measured: a file of an S3 server on the same machine takes 2.1 ms to open; in that time 190 kB of JSON lines
# are read and normalised.
_OPEN_COST = 256 * 1024


@dataclass(frozen=True)
class InputFile:
    """A file to read.

    Attributes:
        path: As its file system names it.
        uri: The input's location and the file's name: what rejects are named by.
        name: Relative to the input, with `/`: the id of a text file.
        format: parquet, jsonl, csv, tsv, warc or text.
        compression: gzip, zstd or empty.
        size: Bytes.
        source: Of its documents that name none.
        partition: The columns that its folders name, or of a Delta table the log.
        drift: What is odd about its partition columns beside those of the other files; else empty.
        table_columns: Of a Delta table, its columns: one that the file lacks is null in that table.
        deletions: Of a Delta table, the rows that are deleted, as in `LiveFile`.
    """

    path: str
    uri: str
    name: str
    format: str
    compression: str
    size: int
    source: str
    partition: Partition = ()
    drift: str = ""
    table_columns: tuple[str, ...] = ()
    deletions: bytes = field(default=b"", repr=False)


class Listing(list[InputFile]):
    """The files to read, by name.

    Attributes:
        left_out: How many files are not read, by ending or name. Hidden files and markers are not counted.
    """

    def __init__(self, files: Iterable[InputFile], left_out: Counter[str]) -> None:
        super().__init__(files)
        self.left_out = left_out

    def left_out_line(self) -> str:
        """Such as `12 files left out: .bin 10, .pdf 2`; empty where none is."""
        if not self.left_out:
            return ""
        kinds = ", ".join(f"{kind} {count}" for kind, count in self.left_out.most_common(8))
        more = f" and {len(self.left_out) - 8} more kinds" if len(self.left_out) > 8 else ""
        total = self.left_out.total()
        return f"{total} {'file' if total == 1 else 'files'} left out: {kinds}{more}"


@dataclass(frozen=True)
class Split:
    """A part of a file that one task reads: what begins in bytes [start, end)."""

    file: InputFile
    start: int
    end: int


def filesystem(location: str, config: LakeConfig) -> tuple[AbstractFileSystem, str]:
    """The file system of a path or `s3://` URI, and the path within it."""
    options: dict[str, Any] = fsspec_options(config.s3) if location.startswith(("s3://", "s3a://")) else {}
    with explained(config):
        fs, path = fsspec.core.url_to_fs(location, **options)
    return fs, path


def discover(location: str, format: str, source: str | None, config: LakeConfig) -> Listing:
    """The readable files at `location`, by name.

    Hidden files and markers (`.x`, `_SUCCESS`) are left out; with format `auto`, so are unknown endings, and
    beside Parquet files a data set's README and descriptions. Of a folder with a Delta log, the files of the
    table's newest version.

    Raises:
        EmptyInputError: It holds nothing to read.
        InputError: There is no such path, it cannot be read, or it is a table that has to be read otherwise.
        StorageError: The object store does not answer, refuses, or has no such bucket.
    """
    fs, root = filesystem(location, config)
    base = root.rstrip("/")
    default = source or posixpath.basename(base).split(".")[0] or "default"
    with explained(config):
        listed = _listing(fs, root, location)
        tables = delta_tables(listed)
        plain = {name: at for name, at in listed.items() if not _is_within(name, tables)}
        refuse_other_tables(plain, location)
        files: list[InputFile] = []
        left_out: Counter[str] = Counter()
        for name, (path, size) in plain.items():
            if is_hidden(name):
                continue
            kind, compression = format_of(name, format)
            if not kind or not encodes(name):
                left_out[ending_of(name) if not kind else "names that are not UTF-8"] += 1
                continue
            uri = location if path == base else f"{location.rstrip('/')}/{name}"
            files.append(InputFile(path, uri, name, kind, compression, size, default, partition_of(name)))
        if format == "auto":
            files = _without_cards(files, left_out)
        odd = drifts([file.partition for file in files])
        files = [replace(file, drift=drift) for file, drift in zip(files, odd, strict=True)]
        for table in tables:
            files += _delta_files(fs, base, table, listed, location, default)
    if not files:
        _refuse_nothing(location, listed, tables)
    return Listing(sorted(files, key=lambda file: file.name), left_out)


def _listing(fs: AbstractFileSystem, root: str, location: str) -> dict[str, tuple[str, int]]:
    """All files by their names relative to the location: path and size."""
    if location.startswith(("s3://", "s3a://")) and not root.strip("/"):
        raise InputError(f"'{location}' names no bucket")
    try:
        details = fs.find(root, detail=True)
        if not details and not fs.exists(root):
            raise FileNotFoundError(root)
    except FileNotFoundError as error:
        if "bucket" in str(error).lower():
            raise
        raise InputError(f"there is no {location}", "Check the path") from error
    except PermissionError as error:
        if location.startswith("s3"):
            raise
        raise InputError(f"{location} cannot be read: permission denied") from error
    start = len(root.rstrip("/"))
    return {
        path[start:].lstrip("/") or posixpath.basename(path): (path, int(info["size"]))
        for path, info in details.items()
        if info["type"] == "file"
    }


def _refuse_nothing(location: str, names: Iterable[str], tables: Sequence[str]) -> None:
    if tables:
        raise EmptyInputError(f"the Delta table {location} is empty")
    seen = ", ".join(sorted({posixpath.splitext(name)[1] or "no ending" for name in names})[:8])
    if not seen:
        raise EmptyInputError(
            f"{location} is empty", "Give a folder with Parquet, JSONL, CSV, WARC or text files"
        )
    raise EmptyInputError(
        f"{location} has no file to read (it has: {seen})",
        "Known endings: .parquet .jsonl .json .csv .tsv .warc .wet .txt .md, and .gz or .zst; else name one "
        "by --format",
    )


def _is_within(name: str, tables: Sequence[str]) -> bool:
    return any(not table or name.startswith(f"{table}/") for table in tables)


def _without_cards(files: list[InputFile], left_out: Counter[str]) -> list[InputFile]:
    if not any(file.format == "parquet" for file in files):
        return files
    kept = []
    for file in files:
        base = posixpath.basename(file.name)
        if base.lower() in DATASET_CARDS:
            left_out[base] += 1
        else:
            kept.append(file)
    return kept


def _delta_files(
    fs: AbstractFileSystem,
    base: str,
    table: str,
    listed: dict[str, tuple[str, int]],
    location: str,
    source: str,
) -> Iterable[InputFile]:
    prefix = f"{table}/" if table else ""
    where = f"{location.rstrip('/')}/{table}".rstrip("/")
    inside = (name.removeprefix(prefix) for name in listed if name.startswith(prefix))
    live, columns = live_files(fs, f"{base}/{table}".rstrip("/"), inside, where)
    for file in live:
        path, size = listed[prefix + file.name]
        uri = f"{where}/{file.name}"
        yield InputFile(
            path, uri, prefix + file.name, "parquet", "", size, source,
            partition=file.partition, table_columns=columns, deletions=file.deletions,
        )  # fmt: skip


def split_files(files: Iterable[InputFile], split_bytes: int) -> list[list[Split]]:
    """Groups of splits, each of about `split_bytes`: one group a task.

    Every byte of every file is in exactly one split. Only Parquet and plain JSONL are cut; small files
    are read together, each counted as 256 KiB at least.
    """
    groups: list[list[Split]] = []
    open_group: list[Split] = []
    filled = 0
    for file in files:
        for split in _cut(file, split_bytes):
            size = max(split.end - split.start, _OPEN_COST)
            if open_group and filled + size > split_bytes:
                groups.append(open_group)
                open_group, filled = [], 0
            open_group.append(split)
            filled += size
    if open_group:
        groups.append(open_group)
    return groups


def _cut(file: InputFile, split_bytes: int) -> Sequence[Split]:
    can_be_cut = file.format in ("parquet", "jsonl") and not file.compression and not file.drift
    if not can_be_cut or file.size <= split_bytes:
        return [Split(file, 0, file.size)]
    parts = -(-file.size // split_bytes)
    edges = [file.size * part // parts for part in range(parts + 1)]
    return [Split(file, start, end) for start, end in itertools.pairwise(edges)]
