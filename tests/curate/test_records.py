from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.curate.read.readers import RawRecord
from pipelines.curate.records import RECORD_SCHEMA, Origin, Record, Rules, judge, to_batches
from pipelines.curate.rules.language import LanguageConfig
from pipelines.curate.rules.quality_config import GopherConfig, QualityConfig
from tests.sentences import SENTENCES

CAME = datetime(2026, 1, 31, tzinfo=UTC)
RULES = Rules("arrived_at")
ORIGIN = Origin("s3://b", "s3://b/f.jsonl", "web", CAME)


def judged(raw: RawRecord) -> Record:
    return judge(raw, ORIGIN, RULES)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (RawRecord(7, "a", "text"), None),
        (RawRecord(7, 12, b"text"), None),
        (RawRecord(7, None, "text"), "missing_id"),
        (RawRecord(7, "  ", "text"), "missing_id"),
        (RawRecord(7, b"\xff", "text"), "missing_id"),
        (RawRecord(7, float("nan"), "text"), "missing_id"),
        (RawRecord(7, "a", None), "null_text"),
        (RawRecord(7, "a", ""), "empty_text"),
        (RawRecord(7, "a", " \n\t\x00\u200b"), "blank_text"),
        (RawRecord(7, "a", b"caf\xe9"), "invalid_utf8"),
        (RawRecord(7, "a", "\ud800"), "invalid_utf8"),
        (RawRecord(7, "a", ["text"]), "text_not_string"),
        (RawRecord(7, "a", b"{", fault=("bad_json", "why")), "bad_json"),
    ],
)
def test_each_fault_of_a_record_has_its_reason(raw: RawRecord, reason: str | None) -> None:
    record = judged(raw)
    assert record.reason == reason
    assert (record.text is None) == (reason is not None)


def test_a_record_without_an_id_is_known_by_its_place() -> None:
    assert judged(RawRecord(7, None, "text")).doc_id == "s3://b/f.jsonl#7"


def test_a_document_keeps_its_further_columns_as_strings() -> None:
    metadata = {"n": 3, "tags": ["a", "é"], "none": None, "raw": b"\xff", "flag": True, "odd": "\ud800"}
    record = judged(RawRecord(0, "a", "text", None, metadata))
    assert record.source == "web"
    assert record.metadata == {
        "n": "3", "tags": '["a", "é"]', "none": None, "raw": "\ufffd", "flag": "True", "odd": "?",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("value", "arrival"),
    [
        (None, CAME),
        ("", CAME),
        (float("nan"), CAME),
        ("2020-02-03", datetime(2020, 2, 3, tzinfo=UTC)),
        ("20200203", datetime(2020, 2, 3, tzinfo=UTC)),
        (b"2020-02-03T04:05:06+01:00", datetime(2020, 2, 3, 3, 5, 6, tzinfo=UTC)),
        (datetime(2020, 2, 3), datetime(2020, 2, 3, tzinfo=UTC)),
        (date(2020, 2, 3), datetime(2020, 2, 3, tzinfo=UTC)),
        (1580700906, datetime(2020, 2, 3, 3, 35, 6, tzinfo=UTC)),
        ("1580700906.5", datetime(2020, 2, 3, 3, 35, 6, 500_000, tzinfo=UTC)),
        (1580700906000, datetime(2020, 2, 3, 3, 35, 6, tzinfo=UTC)),
        (1580700906000000, datetime(2020, 2, 3, 3, 35, 6, tzinfo=UTC)),
    ],
)
def test_a_time_of_arrival_is_read_in_the_forms_that_corpora_have(value: Any, arrival: datetime) -> None:
    record = judged(RawRecord(0, "a", "text", None, {"arrived_at": value, "x": 1}))
    assert (record.reason, record.arrival, record.metadata) == (None, arrival, {"x": "1"})


@pytest.mark.parametrize("value", ["yesterday", "2020-13-01", ["2020"], 1e40, True])
def test_what_is_no_time_is_a_reject_and_not_now(value: Any) -> None:
    assert judged(RawRecord(0, "a", "text", None, {"arrived_at": value})).reason == "bad_arrival"


@pytest.mark.parametrize(
    ("text", "rules", "reason"),
    [
        ("?!? ... ---", Rules(), "no_letters"),
        ("?!? ... ---", Rules(quality=QualityConfig(reject_without_letters=False)), None),
        (SENTENCES["en"], Rules(quality=QualityConfig(gopher=GopherConfig())), "gopher_word_count"),
        (SENTENCES["fr"], Rules(language=LanguageConfig(keep=("en",))), "language"),
        (SENTENCES["en"], Rules(language=LanguageConfig(keep=("en",))), None),
    ],
)
def test_a_text_is_rejected_by_the_rules_that_are_on(text: str, rules: Rules, reason: str | None) -> None:
    record = judge(RawRecord(0, "a", text), ORIGIN, rules)
    assert record.reason == reason
    assert reason is None or (record.excerpt and text.startswith(record.excerpt))


def test_mojibake_is_mended_and_languages_are_noted_where_that_is_asked() -> None:
    rules = Rules(quality=QualityConfig(fix_encoding=True), language=LanguageConfig(annotate=True))
    broken = SENTENCES["fr"].encode().decode("cp1252", "replace")
    assert "Ã©" in broken
    record = judge(RawRecord(0, "a", broken), ORIGIN, rules)
    assert record.text is not None
    assert "Ã©" not in record.text
    assert record.metadata == {"language": "fr"}


def test_a_version_is_of_text_source_and_metadata_whatever_their_order_and_not_of_the_arrival() -> None:
    first = judged(RawRecord(0, "a", "text", "s", {"x": 1, "y": 2, "arrived_at": 1}))
    again = judged(RawRecord(9, "a", "text ", "s", {"y": 2, "x": 1, "arrived_at": 2}))
    assert first.version == again.version
    for other in (
        RawRecord(0, "a", "texts", "s", {"x": 1, "y": 2}),
        RawRecord(0, "a", "text", "t", {"x": 1, "y": 2}),
        RawRecord(0, "a", "text", "s", {"x": 1, "y": 3}),
    ):
        assert judged(other).version != first.version


anything = st.none() | st.text() | st.binary() | st.integers() | st.floats() | st.lists(st.text(), max_size=3)


@given(st.lists(st.tuples(anything, anything, anything), max_size=30))
def test_whatever_a_file_holds_becomes_one_arrow_row_each(rows: list[tuple[Any, Any, Any]]) -> None:
    raws = [RawRecord(n, *row, {"x": row[0]}) for n, row in enumerate(rows)]
    batches = list(to_batches((judged(raw) for raw in raws), None, batch_chars=50))
    assert all(batch.schema == RECORD_SCHEMA for batch in batches)
    got = [row for batch in batches for row in batch.to_pylist()]
    assert [row["position"] for row in got] == list(range(len(rows)))
    for row in got:
        assert row["doc_id"]
        assert (row["reason"] is None) == (row["text"] is not None and row["n_chars"] == len(row["text"]))
