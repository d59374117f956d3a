"""The ledger's rows that a few new records may have to do with, found in one pass over its keys.

Each lookup by Spark would be a scan of its own. These rows answer what most runs ask: which of the records'
ids are known, which texts are there already, and what is worth comparing with the new texts.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession

from pipelines.curate.ledger.file_rows import rows_of_files
from pipelines.curate.spark_ops import Batches
from pipelines.dedup.spark_sql import cut
from pipelines.lake.added import RemoteTable
from pipelines.lake.scan import ScanFile

_DDL = {
    "doc_id": "string",
    "source": "string",
    "arrival": "timestamp",
    "text_hash": "string",
    "version": "string",
    "n_chars": "int",
    "outcome": "string",
    "kept_doc_id": "string",
    "kind": "string",
    "similarity": "double",
    "bands": "array<bigint>",
}


_PROBE_ROWS = 100_000  # rows that are looked up at once: a lookup prepares its tables anew


@dataclass(frozen=True)
class Probe:
    """What rows are looked for by; any of the three will do.

    Attributes:
        ids: doc_id, large_string.
        hashes: text_hash, large_string.
        keys: Of MinHash bands, int64, sorted: looked up as they are, where pyarrow would make a hash table of
            them for each batch.
    """

    ids: pa.Array
    hashes: pa.Array
    keys: npt.NDArray[np.int64]

    @classmethod
    def of(cls, records: pa.Table) -> "Probe":
        """For records with doc_id, text_hash and bands."""
        ids, hashes = (
            pc.unique(records.column(name).combine_chunks().cast(pa.large_string()))
            for name in ("doc_id", "text_hash")
        )
        return cls(ids, hashes, np.unique(np.asarray(records.column("bands").combine_chunks().flatten())))

    def found(self, rows: pa.Table) -> pa.Table:
        """Those of the rows that are looked for."""
        bands = rows.column("bands").combine_chunks()
        is_found = np.zeros(rows.num_rows, np.bool_)
        for name, values in (("doc_id", self.ids), ("text_hash", self.hashes)):
            is_found |= np.asarray(pc.is_in(rows.column(name).cast(pa.large_string()), values))
        own = np.asarray(pc.list_flatten(bands)).astype(np.int64)
        places = np.searchsorted(self.keys, own)
        shares = np.append(self.keys, 0)[places] == own
        shares &= places < len(self.keys)
        is_found[np.asarray(pc.list_parent_indices(bands))[shares]] = True
        return rows.filter(pa.array(is_found))


def nearby_rows(
    spark: SparkSession, ledger: RemoteTable, files: list[ScanFile], records: pa.Table
) -> DataFrame:
    """The ledger's rows that have an id, a text or a MinHash band in common with the records; held.

    Args:
        spark: The session.
        ledger: Whose files they are.
        files: All of its live files.
        records: doc_id, text_hash and bands; few.

    Returns:
        doc_id, source, arrival, text_hash, version, n_chars, outcome, kept_doc_id, kind, similarity, bands.
    """
    probe = Probe.of(records)

    def find(batches: Batches) -> Iterator[pa.RecordBatch]:
        for table in _joined(batches):
            yield from probe.found(table).to_batches()

    ddl = ", ".join(f"{name} {type_}" for name, type_ in _DDL.items())
    return cut(rows_of_files(spark, ledger, files, list(_DDL), ddl, find))


def _joined(batches: Batches) -> Iterator[pa.Table]:
    """The batches in tables of at least `_PROBE_ROWS`, but for the last: files may be many and small."""
    held: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        held.append(batch)
        rows += batch.num_rows
        if rows >= _PROBE_ROWS:
            yield _table(held)
            held, rows = [], 0
    if held:
        yield _table(held)


def _table(batches: list[pa.RecordBatch]) -> pa.Table:
    # pyiceberg gives string or large_string, as a file has it.
    tables = [pa.Table.from_batches([batch]) for batch in batches]
    return pa.concat_tables(tables, promote_options="permissive")
