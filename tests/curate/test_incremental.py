"""Runs upon runs: the tables are those of one run over all that is there, and those of the definition."""

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame

from pipelines.curate.config import CurateConfig
from pipelines.curate.removals import Removals
from pipelines.curate.report import CurateReport
from pipelines.curate.run import curate
from pipelines.dedup import near_driver
from pipelines.dedup.config import NearConfig
from pipelines.dedup.near import NearJudge, Verdicts
from pipelines.encoder.conf import load_model_conf
from pipelines.errors import InputError
from pipelines.lake import Lake, LakeConfig
from pipelines.lake.config import SparkConfig
from pipelines.lake.spark import spark_session
from pipelines.progress import Silent
from tests.dedup.oracle import Doc, day, families, outcomes

pytestmark = pytest.mark.usefixtures("spark")
MODEL = load_model_conf("minilm")
TABLES = {
    "documents": ("doc_id",),
    "duplicates": ("doc_id",),
    "chunks": ("doc_id", "ordinal"),
    "rejects": ("key",),
}
# Of a run, not of the corpus: where it happened to read the document.
APART = {"input", "file", "position", "payload"}


class Corpus:
    """A lake and the folder that its runs read."""

    def __init__(self, folder: Path, config: CurateConfig | None = None, lake: Lake | None = None) -> None:
        self.folder = folder
        self.config = config or CurateConfig()
        self.lake = lake or Lake.open(LakeConfig(dir=folder / "lake", buckets=2))
        self.runs = 0

    def run(self, docs: Sequence[Doc] | None = None, **removals: Any) -> CurateReport:
        """Curates the documents."""
        self.runs += 1
        inputs = []
        if docs is not None:
            path = self.folder / f"in{self.runs}" / "docs.jsonl"
            path.parent.mkdir(parents=True)
            path.write_text("".join(json.dumps(doc.row()) + "\n" for doc in docs))
            inputs = [str(path.parent)]
        if "deletes" in removals:
            path = self.folder / f"deletes{self.runs}.txt"
            path.write_text("\n".join(removals["deletes"]))
            removals["deletes"] = (str(path),)
        return self.curate(inputs, **removals)

    def curate(self, inputs: Sequence[str], **removals: Any) -> CurateReport:
        """Curates folders."""
        return curate(self.lake, inputs, MODEL, self.config, SparkConfig(), Silent(), Removals(**removals))

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """All rows, sorted."""
        return {
            name: sorted(
                ({k: v for k, v in row.items() if k not in APART} for row in self._rows(name)),
                key=lambda row: tuple(row[key] for key in keys),
            )
            for name, keys in TABLES.items()
        }

    def _rows(self, name: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.lake.table(name).scan().to_arrow().to_pylist()
        return rows

    def check(self, docs: Sequence[Doc]) -> None:
        """The tables are those of the definition."""
        tables = self.tables()
        expected = outcomes(docs, self.config)
        names = ("outcome", "kept_doc_id", "kind", "similarity")
        got = {row["doc_id"]: tuple(row[name] for name in names) for row in tables["documents"]}
        assert got == expected
        kept = {doc_id for doc_id, (outcome, *_) in expected.items() if outcome == "kept"}
        assert {row["doc_id"] for row in tables["chunks"]} == kept
        texts: dict[str, str] = {}
        for row in tables["chunks"]:
            texts[row["doc_id"]] = texts.get(row["doc_id"], "") + row["text"]
        assert texts == {doc.doc_id: doc.text for doc in docs if doc.doc_id in kept}
        removed = {
            row["doc_id"]: (row["kept_doc_id"], row["kind"], row["similarity"])
            for row in tables["duplicates"]
        }
        assert removed == {
            doc_id: tuple(rest) for doc_id, (_, *rest) in expected.items() if doc_id not in kept
        }


@pytest.mark.parametrize(
    "priority", [(), pytest.param(("books", "web"), marks=pytest.mark.slow)], ids=["by-age", "by-source"]
)
def test_curating_a_then_b_gives_the_tables_of_both_at_once(
    tmp_path: Path, priority: tuple[str, ...]
) -> None:
    draw = random.Random(7)
    older = list(families(draw, 150, 0, 10, "a"))
    config = CurateConfig(source_priority=priority)
    known = outcomes(older, config)
    settled = next(one for one in older if known[one.doc_id][0] == "kept" and len(one.text.split()) == 120)
    newer = [
        *families(draw, 80, 10, 10, "b"),
        # Changed, unchanged, and given again with the same text.
        replace(older[3], text=older[9].text + " and more", arrived_at=day(12)),
        replace(older[4], text=older[11].text, arrived_at=day(13)),
        replace(older[5], arrived_at=day(14)),
        replace(older[6], source="moved", arrived_at=day(15)),
        older[7],
        # Resembles a document that the same run gives another version, which leaves its text as it is.
        Doc("late", f"{settled.text} again", settled.source, day(16)),
        replace(settled, source="elsewhere", arrived_at=day(15)),
    ]  # fmt: skip
    steps, whole = Corpus(tmp_path / "steps", config), Corpus(tmp_path / "whole", config)
    steps.run(older)
    report = steps.run(newer)
    assert report.changed == 4
    whole.run([*newer, *older])
    assert steps.tables() == whole.tables()
    now = {doc.doc_id: doc for doc in [*older, *newer]}
    now[older[5].doc_id] = older[5]
    now[older[6].doc_id] = replace(older[6], source="moved")
    now[settled.doc_id] = replace(settled, source="elsewhere")
    if not priority:  # else its new source puts it behind the others
        removed = {(row["doc_id"], row["kept_doc_id"]) for row in steps.tables()["duplicates"]}
        assert ("late", settled.doc_id) in removed
    whole.check(list(now.values()))
    assert sum(row["kind"] == "near" for row in whole.tables()["duplicates"]) > 20
    assert steps.run(newer).new == 0


def test_what_is_deleted_goes_and_its_duplicates_are_judged_again(tmp_path: Path) -> None:
    docs = list(families(random.Random(3), 150, 0, 10, "a"))
    corpus = Corpus(tmp_path)
    corpus.run(docs)
    before = outcomes(docs, corpus.config)
    keepers = sorted({kept for _, kept, _, _ in before.values() if kept})
    gone = [*keepers[:10], docs[1].doc_id, "never there"]
    report = corpus.run(deletes=gone)
    assert report.deleted == len(set(gone)) - 1
    assert report.rejudged > 10
    left = [doc for doc in docs if doc.doc_id not in gone]
    corpus.check(left)
    # Given again they come back, and what had stood in for them goes again.
    corpus.run(docs)
    corpus.check(docs)


def test_runs_upon_runs_on_s3_are_those_of_the_definition(tmp_path: Path, s3_config: LakeConfig) -> None:
    docs = list(families(random.Random(11), 60, 0, 10, "a"))
    corpus = Corpus(tmp_path, lake=Lake.open(s3_config))
    corpus.run(docs[:40])
    changed = replace(docs[2], text=docs[8].text + " and more", arrived_at=day(12))
    corpus.run([*docs[30:], changed], deletes=[docs[0].doc_id])
    corpus.check([changed if doc is docs[2] else doc for doc in docs[1:]])


def test_a_full_input_deletes_what_it_lacks_of_its_own_sources(tmp_path: Path) -> None:
    docs = list(families(random.Random(5), 60, 0, 10, "a"))
    other = [Doc("other", "of another source, which the input does not speak of", "apart", day(0))]
    corpus = Corpus(tmp_path)
    corpus.run([*docs, *other])
    left = docs[20:]
    report = corpus.run(left, full=True)
    assert report.deleted == 20
    corpus.check([*left, *other])


def test_a_document_that_is_deleted_and_given_at_once_is_deleted(tmp_path: Path) -> None:
    docs = [Doc("a", "one", "s", day(0)), Doc("b", "two", "s", day(0))]
    corpus = Corpus(tmp_path)
    corpus.run(docs)
    corpus.run(docs, deletes=["a"])
    corpus.check(docs[1:])


def test_an_empty_full_input_is_refused_unless_it_is_meant(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    docs = [Doc("a", "one", "in2", day(0)), Doc("b", "two", "apart", day(0))]
    corpus.run(docs)
    (tmp_path / "in2").mkdir()
    with pytest.raises(InputError, match="empty"):
        corpus.curate([str(tmp_path / "in2")], full=True)
    (tmp_path / "in2/docs.jsonl").write_text('{"doc_id": "x", "text": ""}\n')
    with pytest.raises(InputError, match="--allow-empty"):
        corpus.curate([str(tmp_path / "in2")], full=True)
    corpus.check(docs)
    (tmp_path / "in2/docs.jsonl").unlink()
    corpus.curate([str(tmp_path / "in2")], full=True, allow_empty=True)
    corpus.check(docs[1:])


def test_a_full_input_with_an_unreadable_file_deletes_nothing(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    docs = [Doc("a", "one", "s", day(0)), Doc("b", "two", "s", day(0))]
    corpus.run(docs)
    (tmp_path / "next").mkdir()
    (tmp_path / "next/a.jsonl").write_text(json.dumps(docs[0].row()))
    (tmp_path / "next/b.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match="could not be read"):
        corpus.curate([str(tmp_path / "next")], full=True)
    corpus.check(docs)


def test_near_dedup_can_be_left_out(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path, CurateConfig(near=NearConfig(enabled=False)))
    docs = list(families(random.Random(9), 60, 0, 10, "a"))
    corpus.run(docs[:40])
    corpus.run(docs)
    corpus.check(docs)


def compacted(lake: Lake) -> int:
    """Rewrites all files of the ledger; how many there were."""
    with spark_session(lake, SparkConfig()) as session:
        options = "options => map('rewrite-all', 'true')"
        name = lake.spark_identifier("documents").replace("`", "")
        call = f"CALL {lake.config.name}.system.rewrite_data_files(table => '{name}', {options})"
        return int(session.sql(call).collect()[0]["rewritten_data_files_count"])


def test_compaction_of_the_ledger_between_runs_changes_nothing(tmp_path: Path) -> None:
    docs = list(families(random.Random(12), 60, 0, 10, "a"))
    corpus = Corpus(tmp_path)
    corpus.run(docs[:30])
    corpus.run(docs[20:40], deletes=[docs[0].doc_id])
    chunks = corpus.lake.table("chunks").current_snapshot()
    assert compacted(corpus.lake) > 1
    assert corpus.run(docs[20:40]).new == 0
    assert corpus.lake.table("chunks").current_snapshot() == chunks
    corpus.run(docs[40:])
    corpus.check(docs[1:])


def test_what_the_driver_finds_too_much_for_itself_the_executors_judge_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(near_driver, "DRIVER_PAIRS", 0)
    spread, spreads = NearJudge._spread, []

    def counted(judge: NearJudge, nodes: DataFrame, standing: DataFrame | None) -> Verdicts:
        spreads.append(standing is not None)
        return spread(judge, nodes, standing)

    monkeypatch.setattr(NearJudge, "_spread", counted)
    docs = list(families(random.Random(13), 60, 0, 10, "a"))
    corpus = Corpus(tmp_path)
    corpus.run(docs[20:])
    corpus.run(docs[:20])  # older ones, that come late
    corpus.check(docs)
    assert {False, True} == set(spreads)


def test_a_delete_of_what_no_id_can_be_is_passed_over(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    corpus.run([Doc("a", "one", "s", day(0)), Doc("b", "two", "s", day(0))])
    (tmp_path / "deletes.jsonl").write_text('{"doc_id": "\\ud800"}\n{"doc_id": "a"}\n')
    report = corpus.curate([], deletes=(str(tmp_path / "deletes.jsonl"),))
    assert report.deleted == 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_any_history_of_runs_gives_the_tables_of_the_definition(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    near = NearConfig(driver_nodes=draw.choice([250_000, 250_000, 0]))
    priority = draw.choice([(), ("books", "web")])
    corpus = Corpus(tmp_path, CurateConfig(near=near, source_priority=priority))
    waiting = list(families(draw, 120, 0, 10, "a"))
    draw.shuffle(waiting)  # older ones may come late
    now: dict[str, Doc] = {}
    for step in range(4):
        known = list(now.values())
        came = [waiting.pop() for _ in range(30)]
        changed = [
            replace(one, text=draw.choice(came).text + draw.choice(["", " more"]), arrived_at=day(20 + step))
            for one in draw.sample(known, min(len(known), draw.choice([0, 5])))
        ]
        again = draw.sample(known, min(len(known), draw.choice([0, 10])))
        gone = [one.doc_id for one in draw.sample(known, min(len(known), draw.choice([0, 6])))]
        # An older version that is given again changes nothing.
        corpus.run([*came, *changed, *again], deletes=gone)
        for one in (*came, *changed):
            now[one.doc_id] = (
                one if one.doc_id not in now or now[one.doc_id].text != one.text else now[one.doc_id]
            )
        for doc_id in gone:
            now.pop(doc_id, None)
        corpus.check(list(now.values()))
