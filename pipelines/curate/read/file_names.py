"""What a file's name tells: whether it is one to read, its format, and how it is compressed."""

import posixpath

_FORMATS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".warc": "warc",
    ".wet": "warc",
    ".txt": "text",
    ".text": "text",
    ".md": "text",
    ".rst": "text",
}
_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".zstd": "zstd"}

# What describes a data set beside its Parquet files, and is no document of it.
DATASET_CARDS = {
    "readme.md",
    "dataset_dict.json",
    "dataset_info.json",
    "dataset_infos.json",
    "state.json",
}


def is_hidden(name: str) -> bool:
    """Whether it is a hidden file or a marker (`.x`, `_SUCCESS`), or in a folder that is."""
    parts = name.split("/")
    # A partition folder may be named by a column that begins with `_`.
    return any(part.startswith(".") or (part.startswith("_") and "=" not in part) for part in parts)


def encodes(name: str) -> bool:
    """Whether the name has a UTF-8 form: a local file system may hold others."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def ending_of(name: str) -> str:
    """The name's ending, that of a compression with the one before it; in words where there is none."""
    stem, ending = posixpath.splitext(name.lower())
    if ending in _COMPRESSIONS:
        ending = posixpath.splitext(stem)[1] + ending
    return ending or "no ending"


def format_of(name: str, format: str) -> tuple[str, str]:
    """The format, empty where `auto` does not know the ending, and the compression or empty."""
    stem, ending = posixpath.splitext(name.lower())
    compression = _COMPRESSIONS.get(ending, "")
    if compression:
        ending = posixpath.splitext(stem)[1]
    return (_FORMATS.get(ending, "") if format == "auto" else format), compression
