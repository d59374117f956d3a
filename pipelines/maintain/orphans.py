"""Orphan files, once found: their size, and their removal."""

import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from pyiceberg.table import Table

# Each is a request to the object store.
_THREADS = 16


def total_size(table: Table, paths: Sequence[str]) -> int:
    """Bytes of files of a table; one that is gone has none."""

    def size(path: str) -> int:
        with contextlib.suppress(FileNotFoundError):
            return len(table.io.new_input(path))
        return 0

    return sum(_each(size, paths))


def remove(table: Table, paths: Sequence[str]) -> None:
    """Deletes files; one that is gone already is no matter."""

    def delete(path: str) -> int:
        with contextlib.suppress(FileNotFoundError):
            table.io.delete(path)
        return 0

    _each(delete, paths)


def _each(action: Callable[[str], int], paths: Sequence[str]) -> list[int]:
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(action, paths))
