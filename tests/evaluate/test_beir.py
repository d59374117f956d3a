import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import InputError
from pipelines.evaluate.beir import Dataset, Document, read_dataset

CORPUS: list[dict[str, Any]] = [
    {"_id": "b", "title": "Two", "text": "second"},
    {"_id": "a", "text": "first"},
    {"_id": "c", "title": None, "text": ""},
]
QUERIES: list[dict[str, Any]] = [{"_id": "q2", "text": "what?"}, {"_id": "q1", "text": "who?"}]
QRELS = "query-id\tcorpus-id\tscore\nq1\ta\t1\nq1\tgone\t-1\nq9\ta\t2\n"


def lines(records: list[Any]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def read(folder: Path, corpus: str = "", queries: str = "", qrels: str = QRELS) -> Dataset:
    files = [folder / name for name in ("corpus.jsonl", "queries.jsonl", "qrels.tsv")]
    texts = (corpus or lines(CORPUS), queries or lines(QUERIES), qrels)
    for file, text in zip(files, texts, strict=True):
        file.write_text(text, encoding="utf-8")
    return read_dataset(*files)


def test_a_data_set_is_read_in_the_order_of_its_ids(tmp_path: Path) -> None:
    read_back = read(tmp_path)
    assert list(read_back.documents.items()) == [
        ("a", Document("", "first")),
        ("b", Document("Two", "second")),
        ("c", Document("", "")),
    ]
    assert list(read_back.queries) == ["q1", "q2"]
    assert read_back.codes == {"q1": {"a": 1, "gone": -1}, "q9": {"a": 2}}


def test_other_habits_of_writing_are_read_too(tmp_path: Path) -> None:
    read_back = read(
        tmp_path,
        corpus="\ufeff" + lines([{"_id": 7, "text": "a\u2028b", "metadata": {}}]) + "\n",
        queries=lines(QUERIES).replace("\n", "\r\n"),
        qrels="corpus-id\tquery-id\tscore\tnote\r\n7\tq1\t1\t\r\n",
    )
    assert read_back.documents == {"7": Document("", "a\u2028b")}
    assert read_back.codes == {"q1": {"7": 1}}


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"corpus": lines(CORPUS) + "{'_id'}\n"}, r"corpus\.jsonl, line 4: this is not JSON"),
        ({"corpus": "\n[1]\n"}, r"corpus\.jsonl, line 2: this is a list"),
        ({"corpus": lines([{"text": "a"}])}, r"line 1: there is no '_id'"),
        ({"corpus": lines([*CORPUS, {"_id": "d"}])}, r"line 4: there is no 'text'"),
        ({"corpus": lines([{"_id": "d", "text": 3}])}, r"line 1: there is no 'text', or it is no string"),
        ({"corpus": lines([*CORPUS, CORPUS[0]])}, r"line 4: the id 'b' came before"),
        ({"corpus": '{"_id": "d", "text": "\\ud800"}\n'}, r"line 1: 'text' holds half a character"),
        ({"corpus": "\n"}, r"corpus\.jsonl holds nothing"),
        ({"queries": lines([*QUERIES, {"_id": "q3", "text": " "}])}, r"line 3: the query is empty"),
        ({"queries": lines([*QUERIES, QUERIES[0]])}, r"queries\.jsonl, line 3: the id 'q2' came before"),
        ({"queries": lines([{"_id": "x", "text": "why?"}])}, "judges none of the queries"),
        ({"qrels": ""}, r"qrels\.tsv, line 1: the header lacks query-id, corpus-id, score"),
        ({"qrels": "q1\ta\t1\n"}, r"line 1: the header lacks query-id"),
        ({"qrels": "query-id\tcorpus-id\tscore\n"}, r"qrels\.tsv holds nothing"),
        ({"qrels": QRELS + "q1\tb\n"}, r"line 5: 2 columns instead of 3"),
        ({"qrels": QRELS + "q1\tb\thigh\n"}, r"line 5: the score 'high' is no whole number"),
        ({"qrels": QRELS + "q1\ta\t2\n"}, r"line 5: document 'a' of query 'q1' is judged twice"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, files: dict[str, str], complaint: str) -> None:
    read(tmp_path)
    with pytest.raises(InputError, match=complaint):
        read(tmp_path, **files)


def test_a_file_that_is_missing_or_no_text_is_told(tmp_path: Path) -> None:
    read(tmp_path)
    files = [tmp_path / name for name in ("corpus.jsonl", "queries.jsonl", "qrels.tsv")]
    (tmp_path / "corpus.jsonl").write_bytes(b'{"_id": "\xff"}\n')
    with pytest.raises(InputError, match="is not UTF-8"):
        read_dataset(*files)
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_dataset(tmp_path / "none.jsonl", *files[1:])
