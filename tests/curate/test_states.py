"""States that a run may find: left by a killed run, made with other settings, changed by another run."""

import json
import random
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyspark.sql import SparkSession

from pipelines.curate.config import ChunkConfig, CurateConfig
from pipelines.curate.ledger.rebuild import rebuild
from pipelines.curate.ledger.rejects import rejects_of, replay_of
from pipelines.curate.ledger.settings import REBUILDING, bind_settings, check_settings
from pipelines.curate.read.inputs import list_inputs
from pipelines.curate.removals import NOTHING_REMOVED
from pipelines.curate.rules.quality_config import QualityConfig
from pipelines.curate.run import Run, curate
from pipelines.dedup.config import NearConfig
from pipelines.encoder.conf import load_model_conf
from pipelines.errors import ConfigError, InputError
from pipelines.lake.branch import branch
from pipelines.lake.config import SparkConfig
from pipelines.lake.spark import SparkJobError, spark_session
from pipelines.lake.tables import CURATION_PROPERTY
from pipelines.progress import Silent
from tests.curate.test_incremental import Corpus, compacted
from tests.dedup.oracle import Doc, day, families

pytestmark = pytest.mark.usefixtures("spark")
MODEL = load_model_conf("minilm")


@pytest.mark.parametrize("is_compacted", [False, True], ids=["as-it-was-left", "compacted-meanwhile"])
def test_what_a_run_left_that_was_killed_after_the_ledger_the_next_run_finishes(
    tmp_path: Path, is_compacted: bool
) -> None:
    docs = list(families(random.Random(1), 40, 0, 10, "a"))
    corpus = Corpus(tmp_path)
    corpus.run(docs[:20])
    path = tmp_path / "rest/docs.jsonl"
    path.parent.mkdir()
    path.write_text("".join(json.dumps(doc.row()) + "\n" for doc in docs[20:]))
    with spark_session(corpus.lake, SparkConfig()) as spark:
        run = Run(spark, corpus.lake, MODEL, corpus.config, Silent(), "killed")
        run.enter(list_inputs([str(path.parent)], corpus.config, corpus.lake), [], NOTHING_REMOVED)
    chunks = {row["doc_id"] for row in corpus.tables()["chunks"]}
    assert chunks <= {doc.doc_id for doc in docs[:20]}
    if is_compacted:
        assert compacted(corpus.lake) > 1
    # Something else altogether: a document of its own.
    other = Doc("other", "a document that has nothing to do with the others", "web", day(11))
    corpus.run([other])
    corpus.check([*docs, other])


def test_what_another_run_publishes_first_stands_and_a_stale_branch_is_refused(
    tmp_path: Path, spark: SparkSession
) -> None:
    corpus = Corpus(tmp_path)
    docs = [Doc("a", "one text", "s", day(0)), Doc("b", "another text", "s", day(1))]
    corpus.run(docs[:1])
    with (
        spark_session(corpus.lake, SparkConfig()) as session,
        branch(session, corpus.lake, "documents", "slow") as made,
    ):
        rows = session.table(made.identifier)
        corpus.run(docs)
        rows.writeTo(made.identifier).append()
        assert not made.publish()
    corpus.check(docs)
    assert set(corpus.lake.table("documents").metadata.refs) == {"main"}


@pytest.mark.parametrize(
    ("words", "is_lost"),
    [
        # As SeaweedFS has it of a commit that one to another branch of the table came before.
        ("Failed to apply update: can't add snapshot with sequence number 26, must be > than last", True),
        ("Cannot write: no such column", False),
    ],
)
def test_a_write_that_came_too_late_is_as_one_that_was_not_published(
    tmp_path: Path, words: str, is_lost: bool
) -> None:
    corpus = Corpus(tmp_path)
    corpus.run([Doc("a", "one text", "s", day(0))])

    def refuse() -> None:
        raise SparkJobError(words)

    with (
        nullcontext() if is_lost else pytest.raises(SparkJobError, match="no such column"),
        spark_session(corpus.lake, SparkConfig()) as session,
        branch(session, corpus.lake, "documents", "slow"),
    ):
        refuse()
    assert set(corpus.lake.table("documents").metadata.refs) == {"main"}


def test_what_was_signed_before_a_rebuild_with_other_settings_is_not_entered(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    corpus.run([Doc("a", "one text", "s", day(0))])
    later = tmp_path / "later/docs.jsonl"
    later.parent.mkdir()
    later.write_text(json.dumps(Doc("b", "another text", "s", day(1)).row()))
    before = corpus.tables()
    other = CurateConfig(chunk=ChunkConfig(max_tokens=64))
    with pytest.raises(ConfigError, match=r"chunks.*max_tokens: 256 then, 64 now"):
        check_settings(corpus.lake, other)
    check_settings(corpus.lake, corpus.config)
    corpus.lake.set_property("documents", CURATION_PROPERTY, REBUILDING)
    with spark_session(corpus.lake, SparkConfig()) as spark:
        run = Run(spark, corpus.lake, MODEL, corpus.config, Silent(), "early")
        with pytest.raises(ConfigError, match=REBUILDING):
            run.enter(list_inputs([str(later.parent)], corpus.config, corpus.lake), [], NOTHING_REMOVED)
    assert corpus.tables() == before
    assert set(corpus.lake.table("documents").metadata.refs) == {"main"}


def test_a_check_of_settings_sets_none_in_an_empty_lake(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    corpus.lake.ensure_tables()
    bind_settings(corpus.lake, corpus.config)
    other = CurateConfig(near=NearConfig(threshold=0.5))
    with pytest.raises(ConfigError, match=r"threshold: 0\.8 then, 0\.5 now"):
        check_settings(corpus.lake, other)
    check_settings(corpus.lake, corpus.config)
    bind_settings(corpus.lake, other)  # nothing was made with the first ones yet
    check_settings(corpus.lake, other)


def test_other_settings_are_refused_with_what_differs_until_the_lake_is_rebuilt(tmp_path: Path) -> None:
    docs = list(families(random.Random(2), 60, 0, 10, "a"))
    corpus = Corpus(tmp_path)
    corpus.run(docs)
    before = corpus.tables()
    corpus.config = CurateConfig(
        near=NearConfig(threshold=0.5, permutations=64, bands=16, rows=4), chunk=ChunkConfig(max_tokens=64)
    )
    with pytest.raises(ConfigError, match=r"near\.rows: 7 then, 4 now.*--rebuild"):
        corpus.run(docs)
    assert corpus.tables() == before
    report = rebuild(corpus.lake, MODEL, corpus.config, SparkConfig(), Silent())
    assert report.near > sum(row["kind"] == "near" for row in before["duplicates"])
    corpus.check(docs)
    assert max(row["n_tokens"] for row in corpus.tables()["chunks"]) <= 62
    assert corpus.run(docs).new == 0


def test_a_rebuild_that_was_killed_lets_no_other_run_in_until_it_is_done(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    corpus.run([Doc("a", "one text", "s", day(0))])
    corpus.lake.set_property("documents", CURATION_PROPERTY, REBUILDING)
    with pytest.raises(ConfigError, match="a rebuild that has not ended"):
        corpus.run([Doc("b", "another text", "s", day(0))])


def test_rejects_are_told_and_replayed_by_the_present_settings(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path, CurateConfig(quality=QualityConfig(min_chars=30)))
    docs = [Doc("a", "short", "s", day(0)), Doc("b", "a text that is long enough for the rule", "s", day(0))]
    corpus.run(docs)
    found = list(rejects_of(corpus.lake, ["curate"]))
    assert [(one.key, one.reason, one.excerpt) for one in found] == [("a", "too_short", "short")]
    assert list(rejects_of(corpus.lake, ["curate"], reason="empty_text")) == []
    with pytest.raises(InputError, match="no such reject"):
        replay_of(corpus.lake, reason="empty_text")
    again = replay_of(corpus.lake, reason="too_short")
    assert (again.rejects, again.inputs) == (1, (str(tmp_path / "in1"),))
    corpus.config = CurateConfig()
    report = curate(
        corpus.lake, again.inputs, MODEL, corpus.config, SparkConfig(), Silent(), only=again.files
    )
    assert (report.new, report.kept) == (1, 1)
    corpus.check(docs)
    assert corpus.tables()["rejects"] == []


def test_embeddings_of_chunks_that_are_gone_go_too_and_no_others(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    docs = [Doc(name, f"the text of {name}", "s", day(0)) for name in ("stays", "changes", "goes", "moves")]
    corpus.run(docs)
    rows = corpus.tables()["chunks"]
    table = corpus.lake.table("embeddings")
    vectors = [
        {
            **{key: row[key] for key in ("chunk_id", "doc_id", "source", "text_hash")},
            "model": "m@1",
            "embedding": [1.0],
            "unit": "u",
        }
        for row in rows
    ]
    table.append(
        pa.Table.from_pylist(vectors, schema=schema_to_pyarrow(table.schema(), include_field_ids=False))
    )
    docs = [docs[0], replace(docs[1], text="another text", arrived_at=day(1)), replace(docs[3], source="t")]
    report = corpus.run(docs, deletes=["goes"])
    assert (report.changed, report.deleted) == (2, 1)
    left = corpus.lake.table("embeddings").scan().to_arrow()
    assert left.column("doc_id").to_pylist() == ["stays"]
    # Its snapshot says who deleted: only such deletes are counted by a plan of embed.
    snapshot = corpus.lake.table("embeddings").current_snapshot()
    assert snapshot is not None
    assert snapshot.summary is not None
    assert snapshot.summary.additional_properties["embedlake.stage"] == "curate"
    corpus.check(docs)
