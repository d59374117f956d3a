"""What there is to read: files of a folder or an object store, cut into splits of about equal bytes."""

import itertools
import posixpath
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import fsspec
from fsspec.spec import AbstractFileSystem

from pipelines.errors import InputError
from pipelines.lake.config import LakeConfig
from pipelines.lake.faults import explained
from pipelines.lake.s3 import fsspec_options

_FORMATS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".txt": "text",
    ".text": "text",
    ".md": "text",
    ".rst": "text",
}
_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".zstd": "zstd"}


@dataclass(frozen=True)
class InputFile:
    """A file to read.

    Attributes:
        path: As its file system names it.
        uri: The input's location and the file's name: what rejects are named by.
        name: Relative to the input, with `/`: the id of a text file.
        format: parquet, jsonl or text.
        compression: gzip, zstd or empty.
        size: Bytes.
        source: Of its documents that name none.
    """

    path: str
    uri: str
    name: str
    format: str
    compression: str
    size: int
    source: str


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


def discover(location: str, format: str, source: str | None, config: LakeConfig) -> list[InputFile]:
    """The readable files at `location`, by name.

    Hidden files and markers (`.x`, `_SUCCESS`) are left out; with format `auto`, so are unknown endings.

    Raises:
        InputError: There is no such path, it cannot be read, or it holds nothing to read.
        StorageError: The object store does not answer, refuses, or has no such bucket.
    """
    fs, root = filesystem(location, config)
    with explained(config):
        if location.startswith(("s3://", "s3a://")) and not root.strip("/"):
            raise InputError(f"'{location}' names no bucket")
        try:
            found = _listing(fs, root)
        except FileNotFoundError as error:
            if "bucket" in str(error).lower():
                raise
            raise InputError(f"there is no {location}", "Check the path") from error
        except PermissionError as error:
            if location.startswith("s3"):
                raise
            raise InputError(f"{location} cannot be read: permission denied") from error
    base = root.rstrip("/")
    default = source or posixpath.basename(base).split(".")[0] or "default"
    files = []
    for path, size in found:
        name = path[len(base) :].lstrip("/") or posixpath.basename(path)
        if any(part.startswith((".", "_")) for part in name.split("/")):
            continue
        kind, compression = _kind(name, format)
        if kind:
            uri = location if path == base else f"{location.rstrip('/')}/{name}"
            files.append(InputFile(path, uri, name, kind, compression, size, default))
    if not files:
        seen = ", ".join(sorted({posixpath.splitext(path)[1] or "no ending" for path, _ in found})[:8])
        if not found:
            raise InputError(f"{location} is empty", "Give a folder with Parquet, JSONL or text files")
        raise InputError(
            f"{location} has no file to read (it has: {seen})",
            "Known endings: .parquet .jsonl .json .txt .md, and .gz or .zst; else name one by --format",
        )
    return sorted(files, key=lambda file: file.name)


def _listing(fs: AbstractFileSystem, root: str) -> list[tuple[str, int]]:
    details = fs.find(root, detail=True)
    if not details and not fs.exists(root):
        raise FileNotFoundError(root)
    return [(path, int(info["size"])) for path, info in details.items() if info["type"] == "file"]


def _kind(name: str, format: str) -> tuple[str, str]:
    stem, ending = posixpath.splitext(name.lower())
    compression = _COMPRESSIONS.get(ending, "")
    if compression:
        ending = posixpath.splitext(stem)[1]
    return (_FORMATS.get(ending, "") if format == "auto" else format), compression


def split_files(files: Iterable[InputFile], split_bytes: int) -> list[list[Split]]:
    """Groups of splits, each of about `split_bytes`: one group a task.

    Every byte of every file is in exactly one split. Only Parquet and plain JSONL are cut; small files
    are read together.
    """
    groups: list[list[Split]] = []
    open_group: list[Split] = []
    filled = 0
    for file in files:
        for split in _cut(file, split_bytes):
            size = split.end - split.start
            if open_group and filled + size > split_bytes:
                groups.append(open_group)
                open_group, filled = [], 0
            open_group.append(split)
            filled += size
    if open_group:
        groups.append(open_group)
    return groups


def _cut(file: InputFile, split_bytes: int) -> Sequence[Split]:
    whole = file.compression or file.format == "text" or file.size <= split_bytes
    if whole:
        return [Split(file, 0, file.size)]
    parts = -(-file.size // split_bytes)
    edges = [file.size * part // parts for part in range(parts + 1)]
    return [Split(file, start, end) for start, end in itertools.pairwise(edges)]
