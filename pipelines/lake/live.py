"""Which data files a table holds now, read from manifests alone, each manifest once."""

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from pyiceberg.manifest import DataFile, ManifestContent
from pyiceberg.table import Table

T = TypeVar("T")


class LiveFiles(Generic[T]):
    """A view of a table's live data files that costs, when asked again, only the manifests added since.

    Manifests never change once written, so what was read of one is kept until no snapshot asked for it.

    Attributes:
        extract: What to keep of a data file; keep little, a table may have millions.
        content: Which manifests to read: those of data files, or those of delete files.
    """

    def __init__(
        self, extract: Callable[[DataFile], T], content: ManifestContent = ManifestContent.DATA
    ) -> None:
        self.extract = extract
        self.content = content
        self._manifests: dict[str, tuple[T, ...]] = {}

    def of(self, table: Table) -> Iterator[T]:
        """The extract of every live file of the table's current snapshot, as `table` was last read."""
        snapshot = table.current_snapshot()
        seen: dict[str, tuple[T, ...]] = {}
        for manifest in snapshot.manifests(table.io) if snapshot else ():
            if manifest.content != self.content:
                continue
            kept = self._manifests.get(manifest.manifest_path)
            if kept is None:
                kept = tuple(
                    self.extract(entry.data_file)
                    for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True)
                )
            seen[manifest.manifest_path] = kept
            yield from kept
        self._manifests = seen
