"""Boilerplate lines in the curate run: learnt once a source, dropped from then on."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from pipelines.curate.config import ColumnsConfig, CurateConfig
from pipelines.curate.read.discover import InputFile
from pipelines.curate.read.inputs import Input, sources_of
from pipelines.curate.read.readers import FileFault, RawRecord
from pipelines.curate.records import Origin, Rules, judge
from pipelines.curate.rules.boilerplate import BoilerplateConfig, SourceLines, line_keys
from pipelines.curate.rules.learn import Learner, read_lines
from pipelines.curate.rules.line_counts import TEXT_SCHEMA, line_counter, text_lister
from pipelines.errors import ConfigError
from pipelines.lake import Lake, LakeConfig
from pipelines.lake.config import SparkConfig
from pipelines.lake.spark import spark_session
from pipelines.lake.tables import LINES_PROPERTY
from tests.curate.test_incremental import Corpus
from tests.dedup.oracle import Doc, day

pytestmark = pytest.mark.usefixtures("spark")
FOOTER = "Copyright the authors. All rights reserved."
HEADER = "Home | Products | Support | Contact us"
CONFIG = BoilerplateConfig(min_documents=5, min_share=0.3)
ORIGIN = Origin("in", "in/a.jsonl", "web", datetime(2026, 1, 1, tzinfo=UTC))


def doc(source: str, number: int, ending: str = "") -> Doc:
    text = f"What {source} has to say about number {number} is only here.{ending}"
    return Doc(f"{source}{number}", text, source, day(number))


def ledger(corpus: Corpus) -> dict[str, tuple[str, str | None, str | None]]:
    rows = corpus.tables()["documents"]
    return {row["doc_id"]: (row["outcome"], row["reason"], row["text"]) for row in rows}


def learnt(corpus: Corpus) -> set[tuple[str, str | None, int]]:
    rows = corpus.lake.table("boilerplate").scan().to_arrow().to_pylist()
    return {(row["source"], row["line"], row["documents"]) for row in rows}


def test_a_line_that_a_source_repeats_is_dropped_from_its_documents_now_and_later(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path, CurateConfig(boilerplate=CONFIG))
    web = [doc("web", n, f"\n\n{FOOTER}") for n in range(9)]
    only = Doc("only", f"{HEADER}\n{FOOTER}", "web", day(9))
    web = [Doc(one.doc_id, f"{HEADER}\n{one.text}", "web", one.arrived_at) for one in web] + [only]
    # Here the footer is in too small a share of the documents, and one text comes six times.
    books = [doc("books", n, f"\n{FOOTER}" if n < 3 else "") for n in range(12)]
    copies = [Doc(f"copy{n}", "A text that came many times is still a text.", "books", "") for n in range(6)]
    few = [doc("few", n, f"\n{FOOTER}") for n in range(3)]
    first = [*web, *books, *copies, *few]

    report = corpus.run(first)

    rows = ledger(corpus)
    assert report.rejects == {"boilerplate_only": 1}
    assert rows["only"] == ("rejected", "boilerplate_only", None)
    for number in range(9):
        assert rows[f"web{number}"] == ("kept", None, doc("web", number).text)
    assert all(rows[one.doc_id] == ("kept", None, one.text) for one in (*books, *few))
    assert Counter(rows[one.doc_id][0] for one in copies) == {"kept": 1, "duplicate": 5}
    assert not any("Copyright" in row["text"] for row in corpus.tables()["chunks"] if row["source"] == "web")
    web_learnt = {("web", None, 10), ("web", FOOTER, 10), ("web", HEADER, 10)}
    assert learnt(corpus) == {*web_learnt, ("books", None, 13)}

    # Given again nothing is new, and nothing is learnt anew.
    before = {name: corpus.lake.table(name).current_snapshot() for name in ("documents", "boilerplate")}
    assert corpus.run(first).new == 0
    assert before == {name: corpus.lake.table(name).current_snapshot() for name in before}

    # What is learnt goes for documents that come later; what was not is learnt when there are enough.
    later = [doc("web", 50, f"\n{FOOTER}"), *(doc("few", n, f"\n{FOOTER}") for n in range(10, 16))]
    assert corpus.run(later).new == 7
    rows = ledger(corpus)
    assert rows["web50"] == ("kept", None, doc("web", 50).text)
    assert rows["few10"] == ("kept", None, doc("few", 10).text)
    assert rows["few1"] == ("kept", None, few[1].text)
    assert {row for row in learnt(corpus) if row[0] == "few"} == {("few", None, 6), ("few", FOOTER, 6)}
    assert {row for row in learnt(corpus) if row[0] == "web"} == web_learnt

    other = CONFIG.model_copy(update={"min_chars": 30})
    corpus.config = CurateConfig(boilerplate=other)
    with pytest.raises(ConfigError, match="min_chars: 20 then, 30 now") as raised:
        corpus.run(later)
    assert "Set curate.boilerplate.min_chars to 20" in raised.value.hint


def test_nothing_is_dropped_unless_it_is_switched_on(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    docs = [doc("web", n, f"\n{FOOTER}") for n in range(30)]
    corpus.run(docs)
    assert {doc_id: text for doc_id, (_, _, text) in ledger(corpus).items()} == {
        one.doc_id: one.text for one in docs
    }
    assert corpus.lake.table("boilerplate").current_snapshot() is None


def test_what_another_run_has_learnt_meanwhile_stays(spark: SparkSession, local_config: LakeConfig) -> None:
    lake = Lake.open(local_config)
    lake.ensure_tables()
    ddl = "source string, key bigint, documents bigint, line string"
    with spark_session(lake, SparkConfig()) as session:
        first = [("a", None, 9, None), ("a", 1, 9, "x")]
        second = [("a", None, 7, None), ("a", 2, 7, "y"), ("b", None, 8, None)]
        for run_id, rows in (("one", first), ("two", second)):
            learner = Learner(session, lake, CurateConfig(boilerplate=CONFIG), run_id)
            learner.publish(session.createDataFrame(rows, ddl))
    assert read_lines(lake, CONFIG).drop == {"a": {1}, "b": set()}


def test_an_input_whose_sources_are_learnt_is_read_once(
    spark: SparkSession, local_config: LakeConfig
) -> None:
    lake = Lake.open(local_config)
    lake.ensure_tables()
    config = CurateConfig(boilerplate=CONFIG, columns=ColumnsConfig(source=None))
    steps: list[str] = []

    def told(label: str, step: Any) -> None:
        steps.append(label)
        step()

    listed = [Input("in", [file("jsonl")], "web")]
    with spark_session(lake, SparkConfig()) as session:
        learner = Learner(session, lake, config, "run")
        rows = session.createDataFrame(
            [("web", None, 9, None)], "source string, key bigint, documents bigint, line string"
        )
        learner.publish(rows)
        lines = learner.learn(listed, ORIGIN.arrival, told)
        assert lines == SourceLines(20, {"web": set()})
        assert Learner(session, lake, CurateConfig(), "off").learn(listed, ORIGIN.arrival, told) is None
    assert steps == []
    assert LINES_PROPERTY not in lake.table("boilerplate").properties


def file(format: str, partition: tuple[tuple[str, str | None], ...] = ()) -> InputFile:
    return InputFile("in/a", "in/a", "a", format, "", 9, "web", partition)


@pytest.mark.parametrize(
    ("one", "columns", "sources"),
    [
        (Input("in", [file("jsonl")], "web"), ColumnsConfig(), None),
        (Input("in", [file("jsonl")], "web"), ColumnsConfig(source=None), {"web"}),
        (Input("in", [file("text"), file("warc")], "web"), ColumnsConfig(), {"web"}),
        (Input("in", [file("text"), file("parquet")], "web"), ColumnsConfig(), None),
        (Input("in", [file("text", (("source", "x"),))], "web"), ColumnsConfig(), None),
        (Input("in", [file("warc")], "web"), ColumnsConfig(source="language"), None),
        (Input("iceberg:n.t", [], "t"), ColumnsConfig(), None),
        (Input("iceberg:n.t", [], "t"), ColumnsConfig(source=None), {"t"}),
        (Input("in", [], "web"), ColumnsConfig(), set()),
    ],
)
def test_sources_are_told_before_only_where_no_record_can_name_its_own(
    one: Input, columns: ColumnsConfig, sources: set[str] | None
) -> None:
    assert sources_of(one, columns) == sources


def test_only_readable_texts_of_sources_not_learnt_are_counted() -> None:
    raws: list[RawRecord | FileFault] = [
        RawRecord(0, "a", "one\r\ntwo"),
        RawRecord(1, "b", b"three", "other"),
        RawRecord(2, "c", "of a source that is learnt", " known "),
        RawRecord(3, None, "without an id"),
        RawRecord(4, "e", " \n"),
        RawRecord(5, "f", b"\xff"),
        RawRecord(6, "g", "of no time", None, {"when": "never"}),
        FileFault("corrupt_file", "cut short"),
        RawRecord(7, "h", "--- that no rule of quality judges here"),
    ]
    make = text_lister({"known"}, Rules("when"), batch_chars=12)
    batches = list(make((raw, ORIGIN, 9) for raw in raws))
    rows = pa.Table.from_batches(batches).to_pylist()
    texts = [(row["source"], row["text"]) for row in rows]
    assert texts == [
        ("web", "one\ntwo"),
        ("other", "three"),
        ("web", "--- that no rule of quality judges here"),
    ]
    assert [batch.num_rows for batch in batches] == [2, 1]


@pytest.mark.parametrize("most_keys", [1, 3, 1000])
def test_partial_counts_add_up_however_many_a_worker_may_hold(most_keys: int) -> None:
    texts = [(f"s{n % 2}", f"{FOOTER}\nline number {n % 3}\n{FOOTER}\n{'x' * 300}") for n in range(12)]

    def batches() -> Iterator[pa.RecordBatch]:
        for start in range(0, len(texts), 5):
            part = texts[start : start + 5]
            columns = [[source for source, _ in part], [""] * len(part), [text for _, text in part]]
            yield pa.RecordBatch.from_arrays(
                [pa.array(column, pa.string()) for column in columns], schema=TEXT_SCHEMA
            )

    counted: Counter[tuple[str, int | None, str | None]] = Counter()
    for batch in line_counter(10, most_keys)(batches()):
        for row in batch.to_pylist():
            counted[row["source"], row["key"], row["line"]] += row["documents"]
    expected: Counter[tuple[str, int | None, str | None]] = Counter()
    for source, text in texts:
        expected[source, None, None] += 1
        for key, line in zip(line_keys(text, 10), dict.fromkeys(text.split("\n")), strict=True):
            expected[source, key, line[:200]] += 1
    assert counted == expected


def test_a_record_is_judged_by_what_is_left_of_its_text() -> None:
    rules = Rules(lines=SourceLines(20, {"web": set(line_keys(f"{FOOTER}\n{HEADER}", 20))}))
    left = judge(RawRecord(0, "a", f"{HEADER}\r\nThe text.\r\n{FOOTER}"), ORIGIN, rules)
    same = judge(RawRecord(0, "a", "The text."), ORIGIN, Rules())
    assert (left.text, left.text_hash, left.version) == ("The text.", same.text_hash, same.version)
    assert judge(RawRecord(0, "a", f"!!!\n{FOOTER}"), ORIGIN, rules).reason == "no_letters"
    only = judge(RawRecord(0, "a", f"{FOOTER}\n\u0301\n{HEADER}"), ORIGIN, rules)
    assert (only.reason, only.text) == ("boilerplate_only", None)
    assert only.excerpt is not None
    assert only.excerpt.startswith(FOOTER)
    assert judge(RawRecord(0, "a", " \u0301 "), ORIGIN, rules).reason == "blank_text"
    assert judge(RawRecord(0, "a", FOOTER, "other"), ORIGIN, rules).text == FOOTER
