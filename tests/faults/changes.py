"""What others do to the tables meanwhile: compaction, expiry, and curate's changes of chunks.

Each is one commit on what it has read, and starts anew where the table has changed since, as Spark's do:
pyiceberg's own retry would put a rewritten file beside what has come in between.
"""

import contextlib
from collections.abc import Callable, Sequence
from random import Random

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.expressions import AlwaysTrue
from pyiceberg.table import Table, TableProperties, Transaction

from pipelines.embed.plan.reconcile import IDS, pending_mask
from pipelines.encoder.tokenizer import Tokenizer
from pipelines.lake import Lake
from pipelines.lake.datafiles import derive_partition, write_data_file
from pipelines.lake.filters import equals, is_one_of
from pipelines.lake.scan import scan_files
from pipelines.lake.slices import read_slice
from tests.chunks import ChunkText, chunk_rows
from tests.embed.deletes import add_position_deletes

_ATTEMPTS = 60
TABLES = ("chunks", "embeddings", "rejects")


def compact(lake: Lake, name: str, random: Random) -> str:
    """Rewrites a table, or one source of it, into one file a partition."""
    table = lake.table(name)
    sources = sorted(set(table.scan(selected_fields=("source",)).to_arrow().column(0).to_pylist()))
    source = random.choice([None, *sources])

    def rewrite(table: Table, transaction: Transaction) -> None:
        rows = equals("source", source) if source else AlwaysTrue()
        kept = table.scan(row_filter=rows).to_arrow()
        if kept.num_rows:
            transaction.overwrite(kept, overwrite_filter=rows)

    _changed(lake, name, rewrite)
    return f"{source or 'all'}"


def expire(lake: Lake) -> str:
    """Drops all snapshots but the current one, and deletes the files that only those held.

    A file that no snapshot has ever held stays: a run may be about to commit it, and a real removal of
    orphans leaves young files alone.
    """
    deleted = 0
    for name in TABLES:
        before = files_of(lake.table(name))
        for _ in range(_ATTEMPTS):
            table = lake.table(name)
            current = table.current_snapshot()
            old = [
                s.snapshot_id for s in table.snapshots() if current and s.snapshot_id != current.snapshot_id
            ]
            if not old:
                break
            with contextlib.suppress(CommitFailedException):
                table.maintenance.expire_snapshots().by_ids(old).commit()
                break
        table = lake.table(name)
        for path in sorted(before - files_of(table)):
            with contextlib.suppress(OSError):
                table.io.delete(path)
                deleted += 1
    return f"{deleted} files"


def files_of(table: Table) -> set[str]:
    """Every file that a snapshot of the table refers to."""
    found = set()
    for snapshot in table.snapshots():
        found.add(snapshot.manifest_list)
        for manifest in snapshot.manifests(table.io):
            found.add(manifest.manifest_path)
            entries = manifest.fetch_manifest_entry(table.io, discard_deleted=True)
            found |= {entry.data_file.file_path for entry in entries}
    return found


def replace(lake: Lake, tokenizer: Tokenizer, random: Random, share: float, by_position: bool) -> str:
    """Does what curate does when documents change and go: new chunks, and no embedding of a gone one."""
    rows = lake.table("chunks").scan(selected_fields=("doc_id", "source", "ordinal", "chunk_id", "text"))
    chunks = rows.to_arrow().sort_by([("doc_id", "ascending"), ("ordinal", "ascending")]).to_pylist()
    documents = sorted({chunk["doc_id"] for chunk in chunks})
    chosen = random.sample(documents, min(len(documents), 1 + int(share * 12)))
    gone: list[str] = []
    fresh = []
    for number, doc_id in enumerate(chosen):
        own = [chunk for chunk in chunks if chunk["doc_id"] == doc_id]
        if number % 3:  # changed: the first chunk's text, the last one's place; others are as before
            gone += {own[0]["chunk_id"], own[-1]["chunk_id"]}
            source, last = own[0]["source"], own[-1]["ordinal"] + 1
            word = random.randrange(10**9)
            fresh.append(ChunkText(source, doc_id, f"{own[0]['text']} As of {word}.", own[0]["ordinal"]))
            fresh.append(ChunkText(source, doc_id, own[-1]["text"], last))
        else:
            gone += [chunk["chunk_id"] for chunk in own]
    added = chunk_rows(fresh, tokenizer) if fresh else None
    _changed(lake, "chunks", lambda table, t: _swap(table, t, gone, added, by_position))
    # As curate's follow step: what has no chunk, as both tables are now.
    _changed(lake, "embeddings", lambda table, t: _swap(table, t, gone, None, by_position))
    return f"{len(gone)} chunks gone, {len(fresh)} new"


def move(lake: Lake, random: Random, share: float, by_position: bool) -> str:
    """Does what curate does when documents get other metadata: the same chunks, ids too, in new files."""
    chunks = lake.table("chunks").scan().to_arrow().sort_by("chunk_id")
    count = min(chunks.num_rows, 1 + int(share * 40))
    moved = chunks.take(pa.array(sorted(random.sample(range(chunks.num_rows), count))))
    place = moved.schema.get_field_index("metadata")
    metadata = pa.array([[("edition", str(random.random()))]] * count, moved.schema.field(place).type)
    moved = moved.set_column(place, moved.schema.field(place), metadata)
    ids = moved.column("chunk_id").to_pylist()
    _changed(lake, "chunks", lambda table, t: _swap(table, t, ids, moved, by_position))
    return f"{count} chunks"


def _changed(lake: Lake, name: str, change: Callable[[Table, Transaction], None]) -> None:
    for _ in range(_ATTEMPTS):
        table = lake.table(name)
        if table.current_snapshot() is None:
            return
        metadata = table.metadata.model_copy(
            update={"properties": {**table.metadata.properties, TableProperties.COMMIT_NUM_RETRIES: "0"}}
        )
        once = Table(table.name(), metadata, table.metadata_location, table.io, table.catalog)
        with contextlib.suppress(CommitFailedException):
            with once.transaction() as transaction:
                change(once, transaction)
            return
    raise RuntimeError(f"{name} cannot be changed")


def _swap(
    table: Table, transaction: Transaction, gone: Sequence[str], added: pa.Table | None, by_position: bool
) -> None:
    """Takes rows out by chunk_id, and puts others in, in one commit."""
    if by_position:
        wanted = pa.array(gone, IDS)
        for file in scan_files(table):
            rows, positions = read_slice(table, file, 0, file.rows, ["chunk_id"])
            here = positions[~pending_mask(rows.column(0), wanted)].tolist()
            if here:
                add_position_deletes(transaction, table, file, here, named=len(here) % 4 != 0)
    elif table.scan(row_filter=is_one_of("chunk_id", gone), selected_fields=("chunk_id",)).count():
        transaction.delete(is_one_of("chunk_id", gone))
    if added is None:
        return
    with transaction.update_snapshot().fast_append() as append:
        for rows in _by_partition(table, added):
            append.append_data_file(write_data_file(table, rows.sort_by("n_tokens"), "chunks").data_file())


def _by_partition(table: Table, rows: pa.Table) -> list[pa.Table]:
    places = [derive_partition(table, rows.slice(at, 1)) for at in range(rows.num_rows)]
    return [
        rows.filter(pc.equal(pa.array([str(place) for place in places]), str(wanted)))
        for wanted in sorted(set(places))
    ]
