"""How many rows the lake's tables hold."""

from dataclasses import dataclass

from pyiceberg.table import Table

from pipelines.lake.faults import explained
from pipelines.lake.lake import Lake


@dataclass(frozen=True)
class DocumentCounts:
    """Rows by what they stand for.

    Attributes:
        documents: Documents in the ledger.
        kept: Documents that have a first chunk.
        duplicates: Documents removed for a kept twin.
        rejects: Files and documents that could not be used.
        chunks: Chunks.
    """

    documents: int
    kept: int
    duplicates: int
    rejects: int
    chunks: int


def document_counts(lake: Lake) -> DocumentCounts:
    """Counts the documents' tables, each by itself; all zero in a lake without tables."""
    return DocumentCounts(
        documents=count(lake, "documents"),
        kept=count(lake, "chunks", "ordinal = 0"),
        duplicates=count(lake, "duplicates"),
        rejects=count(lake, "rejects", "stage in ('read', 'curate')"),
        chunks=count(lake, "chunks"),
    )


def count(lake: Lake, name: str, where: str | None = None) -> int:
    """Rows of a table, by its metadata where that is enough; 0 where there is no such table."""
    if not lake.exists(name):
        return 0
    table = lake.table(name)
    with explained(lake.config):
        return int((table.scan(row_filter=where) if where else table.scan()).count())


def live_rows(table: Table) -> int:
    """Rows of a table as it was last read, from its manifests alone: those of its files, less the deleted.

    True of tables whose files of deletes name a data file each, as Spark's and embedlake's own do.
    """
    tasks = list(table.scan().plan_files())
    deletes = {file.file_path: file.record_count for task in tasks for file in task.delete_files}
    return sum(task.file.record_count for task in tasks) - sum(deletes.values())
