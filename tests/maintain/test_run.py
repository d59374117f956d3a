"""Tables after maintenance: the same rows in fewer files, and nothing that is needed is gone."""

import json
import os
import random
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from pipelines.curate.ledger.follow import Follower
from pipelines.curate.read.inputs import list_inputs
from pipelines.curate.removals import NOTHING_REMOVED
from pipelines.curate.run import Run
from pipelines.curate.spark_ops import chunker
from pipelines.encoder.tokenizer import Tokenizer
from pipelines.errors import CatalogError
from pipelines.lake import Lake, LakeConfig
from pipelines.lake.config import SparkConfig
from pipelines.lake.scan import read_file, scan_files
from pipelines.lake.spark import spark_session
from pipelines.lake.tables import TABLES
from pipelines.maintain.config import MaintainConfig
from pipelines.maintain.report import TableReport
from pipelines.maintain.run import maintain
from pipelines.progress import Silent
from tests.chunks import append_chunks, corpus
from tests.curate.test_incremental import MODEL, Corpus
from tests.dedup.oracle import Doc, day, families
from tests.faults.model import model_conf
from tests.maintain.jobs import embed_inline

pytestmark = pytest.mark.usefixtures("spark")
DOCS = list(families(random.Random(21), 60, 0, 10, "a"))
# They resemble none: the ledger only grows by them, and what follows it appends.
STRANGERS = [
    Doc(f"new{number}", " ".join(f"word{number}x{place}" for place in range(30)), source, day(20))
    for number in range(12)
    for source in ["web", "books", "news"][number % 3 : number % 3 + 1]
]
# Nothing is left for later, and nothing old is kept.
ALL = MaintainConfig(min_input_files=2, min_manifests=2, delete_ratio=0.01, expire_days=0, retain_last=1)


def maintained(
    lake: Lake, config: MaintainConfig = ALL, *tables: str, dry: bool = False
) -> dict[str, TableReport]:
    report = maintain(lake, config, SparkConfig(), Silent(), tables, dry)
    assert report.is_complete
    return {table.name: table for table in report.tables}


def filled(config: LakeConfig, rows_per_file: int = 4) -> Lake:
    """A lake with 60 chunks in many files, each with its embedding."""
    lake = Lake.open(config)
    append_chunks(lake, corpus(30), Tokenizer.load(model_conf()), rows_per_file)
    assert embed_inline(lake) == 60
    return lake


def done_in_spark(lake: Lake, *statements: str) -> None:
    """Runs statements, with the name of a table for each {name}."""
    names = {name: lake.spark_identifier(name) for name in ("chunks", "embeddings", "served")}
    with spark_session(lake, SparkConfig()) as session:
        for statement in statements:
            session.sql(statement.format(**names))


def rows_of(lake: Lake, name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = lake.table(name).scan().to_arrow().to_pylist()
    assert len({row["chunk_id"] for row in rows}) == len(rows)
    return sorted(rows, key=lambda row: str(row["chunk_id"]))


def test_small_files_and_deletes_become_few_files_with_the_same_rows_and_that_once(
    local_config: LakeConfig,
) -> None:
    lake = filled(local_config)
    gone = "doc_id IN ('doc-00001', 'doc-00002', 'doc-00007')"
    done_in_spark(lake, *(f"DELETE FROM {{{name}}} WHERE {gone}" for name in ("chunks", "embeddings")))
    rows = {name: rows_of(lake, name) for name in ("chunks", "embeddings")}
    assert 0 < len(rows["chunks"]) == len(rows["embeddings"]) < 60
    before = {name: lake.table(name).metadata_location for name in rows}
    planned = maintained(lake, dry=True)
    assert set(planned) == {spec.name for spec in TABLES}
    assert {name: lake.table(name).metadata_location for name in rows} == before
    done = maintained(lake, ALL, *rows)
    for name in rows:
        assert done[name].before.data > done[name].after.data == 4  # one a partition
        assert done[name].before.deletes > 0 == done[name].after.deletes
        assert planned[name].rewritten == done[name].rewritten > 0
        assert len(lake.table(name).snapshots()) == 1
        assert rows_of(lake, name) == rows[name]
    # A unit's batches rely on it: a compacted file of chunks is sorted by length, as those before.
    for file in scan_files(lake.table("chunks")):
        lengths = read_file(lake.table("chunks"), file, ["n_tokens"]).column(0).to_pylist()
        assert lengths == sorted(lengths)
    before = {name: lake.table(name).metadata_location for name in rows}
    again = maintained(lake, ALL, *rows)
    assert {name: lake.table(name).metadata_location for name in rows} == before
    assert not any(table.rewritten or table.snapshots or table.orphans for table in again.values())
    assert embed_inline(lake) == 0
    assert rows_of(lake, "embeddings") == rows["embeddings"]


def test_files_beyond_the_target_are_not_written_anew_for_nothing(local_config: LakeConfig) -> None:
    lake = filled(local_config)
    small = ALL.model_copy(update={"target_file_mib": 0.001})  # less than a file of one row
    maintained(lake, small, "chunks", "embeddings")
    before = {name: lake.table(name).metadata_location for name in ("chunks", "embeddings")}
    again = maintained(lake, small, *before)
    assert not any(table.rewritten for table in again.values())
    assert {name: lake.table(name).metadata_location for name in before} == before


class Killed(BaseException):
    """In place of a kill."""


def test_curate_after_a_kill_and_expiry_gives_the_tables_of_one_run_over_all(tmp_path: Path) -> None:
    # Killed after the chunks, before the ledger's mark: a snapshot of `chunks` alone tells that they are
    # there, and the compaction is a newer one. Were it expired, they would be appended once more.
    corpus = Corpus(tmp_path)
    lake = corpus.lake
    corpus.run(DOCS[:20])
    folder = tmp_path / "killed"
    folder.mkdir()
    (folder / "docs.jsonl").write_text("".join(json.dumps(doc.row()) + "\n" for doc in STRANGERS))

    def until_chunks(label: str, step: Callable[[], None]) -> None:
        if label != "chunking and writing":
            raise Killed
        step()

    with spark_session(lake, SparkConfig()) as spark:
        run = Run(spark, lake, MODEL, corpus.config, Silent(), "killed")
        run.enter(list_inputs([str(folder)], corpus.config, lake), [], NOTHING_REMOVED)
        with pytest.raises(Killed):
            Follower(spark, lake, chunker(MODEL, corpus.config.chunk), "killed").follow(until_chunks)
    assert maintained(lake, ALL, "chunks")["chunks"].rewritten > 0
    changed = replace(DOCS[3], text=STRANGERS[3].text + " and more", arrived_at=day(30))
    corpus.run([changed], deletes=[DOCS[0].doc_id])
    corpus.check([changed if doc is DOCS[3] else doc for doc in (*DOCS[1:20], *STRANGERS)])


@pytest.mark.slow
def test_curate_after_maintenance_of_all_tables_gives_those_of_one_run_over_all(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    corpus.run(DOCS[:30])
    maintained(corpus.lake)
    changed = replace(DOCS[3], text=DOCS[40].text + " and more", arrived_at=day(30))
    corpus.run([*DOCS[30:], changed], deletes=[DOCS[0].doc_id])
    maintained(corpus.lake)
    assert corpus.run(DOCS[40:]).new == 0
    corpus.check([changed if doc is DOCS[3] else doc for doc in DOCS[1:]])


def test_a_tag_can_be_read_after_expiry_and_a_dead_runs_branch_is_gone(local_config: LakeConfig) -> None:
    lake = filled(local_config)
    dead, alive = f"run_dead_{int(time.time()) - 30 * 86400}", f"run_alive_{int(time.time()) - 86400}"
    refs = ["TAG `release`", *(f"BRANCH `{branch}`" for branch in (dead, alive))]
    done_in_spark(lake, *(f"ALTER TABLE {{chunks}} CREATE {ref}" for ref in refs))
    tagged = lake.table("chunks").metadata.refs["release"].snapshot_id
    done_in_spark(
        lake, "DELETE FROM {chunks} WHERE doc_id = 'doc-00003'", "DELETE FROM {chunks} WHERE n_tokens < 9"
    )
    assert maintained(lake, ALL, "chunks")["chunks"].branches == 1
    table = lake.table("chunks")
    assert set(table.metadata.refs) == {"main", "release", alive}
    assert table.scan(snapshot_id=tagged).to_arrow().num_rows == 60
    assert {one.snapshot_id for one in table.snapshots()} == {tagged, table.metadata.current_snapshot_id}


def aged(path: Path, days: float) -> None:
    then = time.time() - days * 86400
    os.utime(path, (then, then))


def test_old_orphans_go_and_young_ones_and_live_files_stay(local_config: LakeConfig) -> None:
    lake = filled(local_config)
    done_in_spark(lake, "DELETE FROM {embeddings} WHERE doc_id = 'doc-00003'")
    maintained(lake, MaintainConfig(min_input_files=2), "embeddings")  # files by Spark, whose paths have %40
    data = Path(urlsplit(lake.table("embeddings").location()).path) / "data"
    folder = data / "run-of-a-killed-one"
    folder.mkdir()
    old, young = folder / "old.parquet", folder / "young.parquet"
    old.write_bytes(b"x" * 1000)
    young.write_bytes(b"x")
    for file in data.rglob("*"):
        if file.is_file():
            aged(file, 40)
    aged(young, 9)  # `embed` no longer takes it up; it goes in some days
    rows, snapshots = rows_of(lake, "embeddings"), lake.table("embeddings").snapshots()
    config = MaintainConfig()
    planned = maintained(lake, config, "embeddings", dry=True)["embeddings"]
    assert (planned.orphans, planned.orphan_bytes, old.exists()) == (1, 1000, True)
    done = maintained(lake, config, "embeddings")["embeddings"]
    assert (done.orphans, done.orphan_bytes) == (1, 1000)
    assert (old.exists(), young.exists()) == (False, True)
    assert rows_of(lake, "embeddings") == rows
    for snapshot in snapshots:  # older ones can be read, too
        lake.table("embeddings").scan(snapshot_id=snapshot.snapshot_id).to_arrow()


def test_tables_that_other_stages_made_are_maintained_too(local_config: LakeConfig) -> None:
    lake = Lake.open(local_config)
    lake.ensure_namespace()
    done_in_spark(
        lake,
        "CREATE TABLE {served} (id bigint, n int) USING iceberg",
        "ALTER TABLE {served} WRITE ORDERED BY n",
        *(f"INSERT INTO {{served}} VALUES ({n}, {10 - n}), ({n}, {n})" for n in range(3)),
    )
    done = maintained(lake)
    assert set(done) == {"served"}
    assert done["served"].after.data == 1
    rows = lake.table("served").scan().to_arrow().column("n").to_pylist()
    assert rows == [0, 1, 2, 8, 9, 10]


def test_an_empty_lake_and_a_wrong_name_are_told(local_config: LakeConfig) -> None:
    lake = Lake.open(local_config)
    with pytest.raises(CatalogError, match=r"no namespace 'embedlake'.*curate"):
        maintain(lake, ALL, SparkConfig(), Silent())
    lake.ensure_tables()
    with pytest.raises(CatalogError, match=r"no table 'embedlake\.chunk'"):
        maintain(lake, ALL, SparkConfig(), Silent(), ["chunk"])


def test_on_s3_files_are_joined_and_nothing_that_is_live_or_young_goes(s3_config: LakeConfig) -> None:
    lake = filled(s3_config)
    rows = {name: rows_of(lake, name) for name in ("chunks", "embeddings")}
    done = maintained(lake, ALL, *rows)
    for name in rows:
        assert done[name].before.data > done[name].after.data == 4
        assert done[name].orphans == 0
        assert rows_of(lake, name) == rows[name]
    assert embed_inline(lake) == 0
