from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.curate.readers import RawRecord
from pipelines.curate.records import RECORD_SCHEMA, judge, to_batches


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
    record = judge(raw, "s3://b/f.jsonl", "web")
    assert record.reason == reason
    assert (record.text is None) == (reason is not None)


def test_a_record_without_an_id_is_known_by_its_place() -> None:
    assert judge(RawRecord(7, None, "text"), "s3://b/f.jsonl", "web").doc_id == "s3://b/f.jsonl#7"


def test_a_document_keeps_its_further_columns_as_strings() -> None:
    metadata = {"n": 3, "tags": ["a", "é"], "none": None, "raw": b"\xff", "flag": True, "odd": "\ud800"}
    record = judge(RawRecord(0, "a", "text", None, metadata), "f", "web")
    assert record.source == "web"
    assert record.metadata == {
        "n": "3", "tags": '["a", "é"]', "none": None, "raw": "\ufffd", "flag": "True", "odd": "?",
    }  # fmt: skip


anything = st.none() | st.text() | st.binary() | st.integers() | st.floats() | st.lists(st.text(), max_size=3)


@given(st.lists(st.tuples(anything, anything, anything), max_size=30))
def test_whatever_a_file_holds_becomes_one_arrow_row_each(rows: list[tuple[Any, Any, Any]]) -> None:
    raws = [RawRecord(n, *row, {"x": row[0]}) for n, row in enumerate(rows)]
    batches = list(to_batches((judge(raw, "f", "web") for raw in raws), batch_chars=50))
    assert all(batch.schema == RECORD_SCHEMA for batch in batches)
    got = [row for batch in batches for row in batch.to_pylist()]
    assert [row["position"] for row in got] == list(range(len(rows)))
    for row in got:
        assert row["doc_id"]
        assert (row["reason"] is None) == (row["text"] is not None and row["n_chars"] == len(row["text"]))
