"""Takes out what two jobs leave that change the lake at the same moment, and neither could see.

- Embeddings and rejects of chunks that are gone. Curate removes them itself; what is left are those that a
  running embed job committed just after curate had looked.
- Rejects of chunks that another embed job could embed.

Killed in it, the table is as it was or swept: each delete is one commit, and the next run looks
again.
"""

from collections.abc import Callable
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.expressions import BooleanExpression
from pyiceberg.table import Table, TableProperties

from pipelines.embed.plan.plan import Plan
from pipelines.embed.plan.reconcile import ids_of
from pipelines.embed.plan.survey import STAGE
from pipelines.embed.plan.units import Partition
from pipelines.errors import CommitError
from pipelines.lake import Lake
from pipelines.lake.faults import explained
from pipelines.lake.filters import all_of, equals, is_one_of
from pipelines.lake.races import is_lost
from pipelines.lake.scan import scan_files

_ATTEMPTS = 60


def sweep(lake: Lake, plan: Plan) -> int:
    """Takes out what a plan has found without a chunk, if it still has none, and rejects of what is embedded.

    Returns:
        How many rows.

    Raises:
        CommitError: Others kept changing a table.
        CatalogError: The catalogue does not answer.
        StorageError: The object store or disk does not.
    """
    swept = 0
    with explained(lake.config):
        for partition, ids in plan.stale.items():
            gone = partial(_without_chunk, lake, partition, ids)
            swept += _deleted(lake.table("embeddings"), gone, partial(_embeddings, plan.model, partition))
            swept += _deleted(lake.table("rejects"), gone, partial(_rejects, plan.model, partition))
        for partition, ids in plan.doubled.items():
            twice = partial(list[str], ids.to_pylist())
            swept += _deleted(lake.table("rejects"), twice, partial(_rejects, plan.model, partition))
    return swept


def _without_chunk(lake: Lake, partition: Partition, ids: pa.Array) -> list[str]:
    """Looked at anew before each attempt: a chunk may have come back."""
    chunks = lake.table("chunks")
    files = [
        file for file in scan_files(chunks, equals("source", partition[0])) if file.partition == partition
    ]
    back = pc.is_in(ids, value_set=ids_of(chunks, files))
    return [str(chunk_id) for chunk_id in ids.filter(pc.invert(back)).to_pylist()]


def _embeddings(model: str, partition: Partition, found: list[str]) -> BooleanExpression:
    return all_of(equals("model", model), equals("source", partition[0]), is_one_of("chunk_id", found))


def _rejects(model: str, partition: Partition, found: list[str]) -> BooleanExpression:
    keys = [f"{model}/{chunk_id}" for chunk_id in found]
    return all_of(equals("stage", STAGE), equals("source", partition[0]), is_one_of("key", keys))


def _deleted(
    table: Table, gone: Callable[[], list[str]], rows: Callable[[list[str]], BooleanExpression]
) -> int:
    for _ in range(_ATTEMPTS):
        table.refresh()
        found = gone()
        if not found:
            return 0
        count = int(table.scan(row_filter=rows(found)).count())
        if count == 0:
            return 0
        # Its own retry would put a file that it has rewritten beside what a compaction made of it.
        metadata = table.metadata.model_copy(
            update={"properties": {**table.metadata.properties, TableProperties.COMMIT_NUM_RETRIES: "0"}}
        )
        once = Table(table.name(), metadata, table.metadata_location, table.io, table.catalog)
        try:
            once.delete(rows(found), snapshot_properties={"embedlake.stage": f"{STAGE}-sweep"})
        except Exception as error:
            if not is_lost(error):
                raise
            continue
        return count
    raise CommitError("the table was changed by others again and again", "Run again")
