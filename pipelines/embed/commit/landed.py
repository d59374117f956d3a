"""What came to `embeddings` since a plan: few files, whatever the table's size."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from pyiceberg.manifest import ManifestContent
from pyiceberg.table import Table

from pipelines.embed.plan.manifests import slice_name
from pipelines.embed.plan.units import Named, Partition
from pipelines.lake.scan import ScanFile, partition_values


@dataclass(frozen=True)
class LandedFile:
    """A data file of `embeddings` that a plan did not know.

    Attributes:
        file: Itself, without its deletes.
        model: Key of the model.
        partition: (source, bucket of doc_id).
        name: The slice of all its rows; None where they are of several, as compaction makes them.
    """

    file: ScanFile
    model: str
    partition: Partition
    name: Named | None


@dataclass
class Landed:
    """A view of the files that came after a snapshot of `embeddings`; each manifest is read once.

    A file that compaction made has the sequence number of the snapshot that compaction began with, no lower
    than that of any file whose rows it holds: with a row that is new to the plan, it is new too.

    Attributes:
        since: Sequence number of that snapshot.
    """

    since: int
    _manifests: dict[str, tuple[LandedFile, ...]] = field(default_factory=dict)

    def files(self, table: Table) -> Iterator[LandedFile]:
        """The live ones, of all models, as `table` was last read."""
        snapshot = table.current_snapshot()
        seen: dict[str, tuple[LandedFile, ...]] = {}
        unit_field = table.schema().find_field("unit").field_id
        for manifest in snapshot.manifests(table.io) if snapshot else ():
            if manifest.content != ManifestContent.DATA or manifest.sequence_number <= self.since:
                continue
            kept = self._manifests.get(manifest.manifest_path)
            if kept is None:
                found = []
                for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True):
                    if (entry.sequence_number or 0) > self.since:
                        file = entry.data_file
                        model, source, bucket = partition_values(file)
                        scan = ScanFile(
                            file.file_path, (model, source, bucket), file.spec_id, file.record_count
                        )
                        name = slice_name(file, unit_field)
                        found.append(LandedFile(scan, str(model), (str(source), int(bucket)), name))
                kept = tuple(found)
            seen[manifest.manifest_path] = kept
            yield from kept
        self._manifests = seen

    def of(self, table: Table) -> Iterator[str]:
        """Their paths, as `append_files` asks for them."""
        return (landed.file.path for landed in self.files(table))
