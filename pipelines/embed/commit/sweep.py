"""Takes out the embeddings and rejects of chunks that are gone.

Curate removes them itself. What is left are those that a running embed job committed just after curate had
looked. Killed in it, the table is as it was or swept: each delete is one commit, and the next run looks
again.
"""

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.exceptions import CommitFailedException
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
from pipelines.lake.scan import scan_files

_ATTEMPTS = 60


def sweep(lake: Lake, plan: Plan) -> int:
    """Takes out what a plan has found without a chunk, if it still has none; says how many rows.

    Raises:
        CommitError: Others kept changing a table.
        CatalogError: The catalogue does not answer.
        StorageError: The object store or disk does not.
    """
    swept = 0
    with explained(lake.config):
        for partition, ids in plan.stale.items():
            source = equals("source", partition[0])

            def gone(ids: pa.Array = ids, partition: Partition = partition) -> list[str]:
                # Looked at anew before each attempt: the chunk may have come back.
                chunks = lake.table("chunks")
                files = [
                    file
                    for file in scan_files(chunks, equals("source", partition[0]))
                    if file.partition == partition
                ]
                back = pc.is_in(ids, value_set=ids_of(chunks, files))
                return [str(chunk_id) for chunk_id in ids.filter(pc.invert(back)).to_pylist()]

            def embedded(found: list[str], source: BooleanExpression = source) -> BooleanExpression:
                return all_of(equals("model", plan.model), source, is_one_of("chunk_id", found))

            def rejected(found: list[str], source: BooleanExpression = source) -> BooleanExpression:
                keys = [f"{plan.model}/{chunk_id}" for chunk_id in found]
                return all_of(equals("stage", STAGE), source, is_one_of("key", keys))

            swept += _deleted(lake.table("embeddings"), gone, embedded)
            swept += _deleted(lake.table("rejects"), gone, rejected)
    return swept


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
        except CommitFailedException:
            continue
        return count
    raise CommitError("the table was changed by others again and again", "Run again")
