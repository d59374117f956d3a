"""Units of work, and the names under which their rows are known; pure.

A *slice* is a range of rows of one data file of `chunks`. A *unit* is the slices that are read, encoded and
written together: part of a large file, or many small ones, of about equal tokens. Each slice's embeddings are
one data file, in the slice's partition, and carry the slice's name in their `unit` column, one value a file:
so files' statistics tell which slices are there.
"""

import re
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from pipelines.lake.scan import ScanFile

Partition = tuple[str, int]  # source, bucket of doc_id

_FILE_SCHEME = re.compile(r"^(file|s3a?):/*")
_NAME = re.compile(r"([0-9a-f]{32})(?::(\d+)-(\d+)(?:/(\d+))?)?")


@dataclass(frozen=True)
class Named:
    """A slice as its name tells it.

    Attributes:
        file_id: Of the data file of `chunks`.
        start: First row.
        stop: One past the last; None is the file's end.
        live: How many of its rows were there when it was read, deleted ones left out; None is all.
    """

    file_id: str
    start: int = 0
    stop: int | None = None
    live: int | None = None

    def __str__(self) -> str:
        if self.stop is None:
            return self.file_id
        live = "" if self.live is None else f"/{self.live}"
        return f"{self.file_id}:{self.start}-{self.stop}{live}"

    def overlaps(self, other: "Named") -> bool:
        """Whether the two may share a row."""
        if self.file_id != other.file_id:
            return False
        return (other.stop is None or self.start < other.stop) and (
            self.stop is None or other.start < self.stop
        )


def parsed(name: str | None) -> Named | None:
    """The inverse of `str(Named)`; None for anything else."""
    found = _NAME.fullmatch(name) if name else None
    if found is None:
        return None
    file_id, start, stop, live = found.groups()
    if stop is None:
        return Named(file_id)
    return Named(file_id, int(start), int(stop), None if live is None else int(live))


def file_id(path: str, location: str) -> str:
    """The id of a data file of `chunks`: 32 hex digits.

    It hashes the path below the table's location, so a lake that was moved with its files keeps its ids.

    Args:
        path: The data file's URI.
        location: The table's.
    """
    # The two engines write one place in two ways: file:/lake and file:///lake, s3:// and s3a://.
    plain, base = (_FILE_SCHEME.sub("/", uri) for uri in (path, location))
    return blake2b(plain.removeprefix(base.rstrip("/") + "/").encode(), digest_size=16).hexdigest()


@dataclass(frozen=True)
class Slice:
    """Rows of one data file with work left; crosses processes.

    Attributes:
        file_id: The file's id.
        file: The file with its position deletes.
        start: First row.
        stop: One past the last.
        rows: How many of them are pending, as far as the plan knows; at least one.
        tokens: About how many tokens they have, without prefix and specials.
        keep: Which are pending: a bit for each row from start to stop, as `numpy.packbits` packs them; None
            where all are.
    """

    file_id: str
    file: ScanFile
    start: int
    stop: int
    rows: int
    tokens: int
    keep: bytes | None = None

    @property
    def partition(self) -> Partition:
        """Where its embeddings belong, below the model."""
        source, bucket = self.file.partition
        return source, bucket

    def named(self, live: int | None = None) -> Named:
        """Its name.

        Args:
            live: How many of its rows there are; None where only some of them were taken.
        """
        told = live if live is not None and live != self.stop - self.start else None
        if self.start == 0 and self.stop == self.file.rows and told is None:
            return Named(self.file_id)
        return Named(self.file_id, self.start, self.stop, told)

    def mask(self) -> npt.NDArray[np.bool_]:
        """Which of the rows from start to stop are pending."""
        count = self.stop - self.start
        if self.keep is None:
            return np.ones(count, dtype=np.bool_)
        return np.unpackbits(np.frombuffer(self.keep, np.uint8), count=count).astype(np.bool_)

    def part(self, start: int, stop: int) -> "Slice | None":
        """The slice's rows from `start` to before `stop`, positions of the file; None if none is pending."""
        mask = self.mask()[start - self.start : stop - self.start]
        rows = int(mask.sum())
        if rows == 0:
            return None
        keep = None if self.keep is None or mask.all() else np.packbits(mask).tobytes()
        return Slice(
            self.file_id, self.file, start, stop, rows, max(1, self.tokens * rows // max(1, self.rows)), keep
        )


@dataclass(frozen=True)
class Unit:
    """What is read, encoded and written together; crosses processes.

    Attributes:
        number: Of its run, from 0; a half has its whole's.
        slices: At least one.
    """

    number: int
    slices: tuple[Slice, ...]

    @property
    def rows(self) -> int:
        """Pending rows."""
        return sum(part.rows for part in self.slices)

    @property
    def tokens(self) -> int:
        """About how many tokens, without prefixes and specials."""
        return sum(part.tokens for part in self.slices)

    def halves(self) -> list["Unit"]:
        """The unit in two, to find the row that it fails by; itself where it is one row."""
        if self.rows <= 1:
            return [self]
        if len(self.slices) > 1:
            middle = len(self.slices) // 2
            parts = [self.slices[:middle], self.slices[middle:]]
        else:
            (whole,) = self.slices
            pending = np.flatnonzero(whole.mask())
            cut = whole.start + int(pending[len(pending) // 2])
            halves = (whole.part(whole.start, cut), whole.part(cut, whole.stop))
            parts = [(half,) for half in halves if half is not None]
        return [Unit(self.number, part) for part in parts]
