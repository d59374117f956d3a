"""Held-out pairs as retrieval data sets: each query is to find its own document among its source's."""

from collections import defaultdict
from collections.abc import Sequence

import pyarrow as pa

from pipelines.errors import InputError
from pipelines.evaluate.beir import Dataset, Document
from pipelines.lake import Lake
from pipelines.lake.filters import equals
from pipelines.lake.scan import read_file, scan_files
from pipelines.lake.training_tables import PAIRS

_COLUMNS = ("source", "query", "document", "query_hash", "document_hash", "outcome")


def held_out_pairs(lake: Lake, sources: Sequence[str] | None = None) -> dict[str, Dataset]:
    """A data set for each source that has held-out pairs, by name.

    Args:
        lake: With pairs.
        sources: Those wanted; None is all.

    Raises:
        InputError: A source has no held-out pairs, or none has.
        CatalogError: There are no pairs.
    """
    table = lake.table(PAIRS.name)
    rows = [read_file(table, file, _COLUMNS, equals("outcome", "held_out")) for file in scan_files(table)]
    found: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in pa.concat_tables(rows).to_pylist() if rows else []:
        found[row["source"]].append(row)
    wanted = sorted(found) if sources is None else list(sources)
    for source in wanted or ["any source"]:
        if source not in found:
            raise InputError(
                f"no pair of {source} is held out", "Set held_out in the file that 'embedlake pairs' reads"
            )
    return {source: _dataset(found[source]) for source in wanted}


def _dataset(rows: Sequence[dict[str, str]]) -> Dataset:
    documents = {row["document_hash"]: Document("", row["document"]) for row in rows}
    queries = {row["query_hash"]: row["query"] for row in rows}
    answers: dict[str, dict[str, int]] = defaultdict(dict)
    for row in rows:
        answers[row["query_hash"]][row["document_hash"]] = 1
    return Dataset(dict(sorted(documents.items())), dict(sorted(queries.items())), dict(answers))
