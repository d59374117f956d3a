"""What maintenance did, or would do."""

from dataclasses import asdict, dataclass, field
from typing import Any

from pipelines.maintain.files import TableFiles


@dataclass
class TableReport:
    """What became of one table. On a dry run the numbers of what goes are of what would go.

    Attributes:
        name: The table's.
        before: Its files when it was looked at.
        after: Its files afterwards; those before on a dry run.
        rows: Rows taken out that nothing needs any more: rotations of publications that are gone.
        rewritten: Data files that were written anew, or would be.
        snapshots: Snapshots expired.
        branches: Branches of dead runs dropped.
        orphans: Files removed that no snapshot referred to.
        orphan_bytes: Their size.
        seconds: What it took.
        skipped: What was left undone, and why, by step.
    """

    name: str
    before: TableFiles
    after: TableFiles
    rows: int = 0
    rewritten: int = 0
    snapshots: int = 0
    branches: int = 0
    orphans: int = 0
    orphan_bytes: int = 0
    seconds: float = 0.0
    skipped: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class MaintainReport:
    """What a run did.

    Attributes:
        dry_run: Whether it only looked.
        tables: By table, in the order of the run.
        seconds: The whole run.
    """

    dry_run: bool
    tables: tuple[TableReport, ...]
    seconds: float

    @property
    def is_complete(self) -> bool:
        """Whether every step of every table was done."""
        return not any(table.skipped for table in self.tables)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"complete": self.is_complete, **asdict(self)}
