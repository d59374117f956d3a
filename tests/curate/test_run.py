"""The curate run on real Spark: what becomes of documents, good and bad, once and again."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.curate.config import ChunkConfig, ColumnsConfig, CurateConfig
from pipelines.curate.report import CurateReport
from pipelines.curate.run import curate
from pipelines.encoder.conf import load_model_conf
from pipelines.encoder.tokenizer import Tokenizer
from pipelines.errors import ConfigError, InputError, ModelError
from pipelines.lake import Lake, LakeConfig
from pipelines.lake.config import SparkConfig
from pipelines.lake.counts import document_counts
from pipelines.progress import Silent

pytestmark = pytest.mark.usefixtures("spark")
MODEL = load_model_conf("minilm")


def run(lake: Lake, *inputs: Path | str, config: CurateConfig | None = None) -> CurateReport:
    return curate(lake, [str(i) for i in inputs], MODEL, config or CurateConfig(), SparkConfig(), Silent())


def jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def rows_of(lake: Lake, table: str, *columns: str) -> list[tuple[Any, ...]]:
    rows = lake.table(table).scan().to_arrow().to_pylist()
    return sorted(tuple(row[column] for column in columns) for row in rows)


@pytest.fixture
def lake(local_config: LakeConfig) -> Lake:
    return Lake.open(local_config)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"doc_id": None, "text": "no id"}, "missing_id"),
    ({"doc_id": "null", "text": None}, "null_text"),
    ({"doc_id": "empty", "text": ""}, "empty_text"),
    ({"doc_id": "blank", "text": " \n\x00"}, "blank_text"),
    ({"doc_id": "twice", "text": "the second text of an id"}, "duplicate_id"),
    ({"doc_id": "odd", "text": "\ud800"}, "invalid_utf8"),
    ({"doc_id": "list", "text": ["x"]}, "text_not_string"),
]


def test_every_document_ends_as_kept_duplicate_or_reject(lake: Lake, tmp_path: Path) -> None:
    good = [
        {"doc_id": f"d{n}", "text": f"Document {n} is about the letter {n}.", "source": "web"}
        for n in range(50)
    ]
    twins = [{"doc_id": f"t{n}", "text": f"Document {n} is about\x00 the letter {n}.  "} for n in range(5)]
    first = {"doc_id": "twice", "text": "the first text of an id"}
    jsonl(tmp_path / "in/a.jsonl", [*good, first, *twins, *(row for row, _ in BAD), good[3], good[3]])
    (tmp_path / "in/cut.jsonl.gz").write_bytes(gzip.compress(b'{"doc_id": "z", "text": "zz"}\n')[:-12])
    pq.write_table(
        pa.table({"doc_id": ["p"], "text": ["from Parquet"], "lang": ["en"]}), tmp_path / "in/p.parquet"
    )

    report = run(lake, tmp_path / "in")

    assert (report.kept, report.duplicates, report.new) == (52, 5, 65)
    assert report.rejects == {reason: 1 for _, reason in BAD} | {"corrupt_file": 1}
    counts = document_counts(lake)
    assert (counts.documents, counts.kept, counts.duplicates, counts.rejects) == (65, 52, 5, 8)
    assert rows_of(lake, "duplicates", "doc_id", "kept_doc_id", "kind", "similarity") == [
        (f"t{n}", f"d{n}", "exact", 1.0) for n in range(5)
    ]
    by_key = {row[0]: row[1:] for row in rows_of(lake, "rejects", "key", "stage", "reason", "payload")}
    assert by_key[f"{tmp_path}/in/cut.jsonl.gz"][:2] == ("read", "corrupt_file")
    assert by_key["blank"][:2] == ("curate", "blank_text")
    place = json.loads(by_key["blank"][2])
    with open(place["file"], "rb") as stream:  # noqa: PTH123 - the payload is a plain path
        stream.seek(place["position"])
        assert json.loads(stream.readline())["doc_id"] == "blank"


def test_a_second_run_on_the_same_input_writes_nothing(lake: Lake, tmp_path: Path) -> None:
    rows = [{"doc_id": f"d{n}", "text": f"text {n % 40}"} for n in range(50)] + [row for row, _ in BAD]
    jsonl(tmp_path / "in/a.jsonl", rows)
    run(lake, tmp_path / "in")
    before = {
        name: lake.table(name).current_snapshot() for name in ("chunks", "duplicates", "rejects", "documents")
    }
    report = run(lake, tmp_path / "in")
    assert (report.new, report.chunks) == (0, 0)
    assert before == {name: lake.table(name).current_snapshot() for name in before}


def test_chunks_are_the_normalised_text_with_the_tokenizers_own_ids(lake: Lake, tmp_path: Path) -> None:
    text = "Café\r\nau  lait. " * 200
    jsonl(tmp_path / "in/a.jsonl", [{"doc_id": "d", "text": text, "lang": "fr", "n": 1}])
    run(lake, tmp_path / "in", config=CurateConfig(chunk=ChunkConfig(max_tokens=64)))
    chunks = sorted(lake.table("chunks").scan().to_arrow().to_pylist(), key=lambda row: row["ordinal"])
    assert len(chunks) > 10
    assert "".join(chunk["text"] for chunk in chunks) == text.replace("\r\n", "\n").strip()
    tokenizer = Tokenizer.load(MODEL)
    for chunk in chunks:
        assert chunk["input_ids"] == tokenizer.encode(chunk["text"])[0]
        assert chunk["n_tokens"] == len(chunk["input_ids"]) <= 62
        assert dict(chunk["metadata"]) == {"lang": "fr", "n": "1"}
        assert chunk["source"] == "in"


def test_a_data_file_of_chunks_is_sorted_by_length(lake: Lake, tmp_path: Path) -> None:
    jsonl(
        tmp_path / "in/a.jsonl",
        [{"doc_id": f"d{n}", "text": f"w{n} " * (n * 37 % 90 + 1)} for n in range(300)],
    )
    run(lake, tmp_path / "in")
    table = lake.table("chunks")
    for task in table.scan().plan_files():
        with table.io.new_input(task.file.file_path).open() as stream:
            lengths = pq.read_table(stream, columns=["n_tokens"]).column("n_tokens").to_pylist()
        assert lengths == sorted(lengths)
        assert len(lengths) > 20


def test_of_equal_documents_the_one_of_the_preferred_source_is_kept(lake: Lake, tmp_path: Path) -> None:
    rows = [{"doc_id": doc_id, "text": "same", "source": source} for doc_id, source in
            (("a", "web"), ("b", "books"), ("c", "books"), ("d", "other"))]  # fmt: skip
    jsonl(tmp_path / "in/a.jsonl", rows)
    run(lake, tmp_path / "in", config=CurateConfig(source_priority=("books",)))
    assert rows_of(lake, "duplicates", "doc_id", "kept_doc_id") == [("a", "b"), ("c", "b"), ("d", "b")]


def test_a_later_twin_of_a_kept_document_is_the_duplicate(lake: Lake, tmp_path: Path) -> None:
    run(lake, jsonl(tmp_path / "one/a.jsonl", [{"doc_id": "z", "text": "same"}]))
    run(lake, jsonl(tmp_path / "two/a.jsonl", [{"doc_id": "a", "text": "same"}]))
    assert rows_of(lake, "duplicates", "doc_id", "kept_doc_id") == [("a", "z")]


def test_a_mended_document_or_file_leaves_the_rejects(lake: Lake, tmp_path: Path) -> None:
    source = tmp_path / "in"
    jsonl(source / "a.jsonl", [{"doc_id": "d", "text": ""}])
    (source / "b.jsonl.gz").write_bytes(gzip.compress(b'{"doc_id": "e", "text": "e"}\n')[:-12])
    run(lake, source)
    assert rows_of(lake, "documents", "doc_id", "outcome") == [
        (f"{source}/b.jsonl.gz", "rejected"),
        ("d", "rejected"),
    ]
    jsonl(source / "a.jsonl", [{"doc_id": "d", "text": "now it has one"}])
    (source / "b.jsonl.gz").write_bytes(gzip.compress(b'{"doc_id": "e", "text": "e"}\n'))
    run(lake, source)
    assert rows_of(lake, "rejects", "key") == []
    assert rows_of(lake, "documents", "doc_id", "outcome") == [("d", "kept"), ("e", "kept")]


def test_a_changed_document_replaces_the_old_one(lake: Lake, tmp_path: Path) -> None:
    run(
        lake,
        jsonl(tmp_path / "one/a.jsonl", [{"doc_id": "d", "text": "first"}, {"doc_id": "e", "text": "e"}]),
    )
    report = run(lake, jsonl(tmp_path / "two/a.jsonl", [{"doc_id": "d", "text": "second"}]))
    assert (report.new, report.changed, report.kept, report.rejects) == (1, 1, 1, {})
    assert rows_of(lake, "chunks", "doc_id", "text") == [("d", "second"), ("e", "e")]
    assert rows_of(lake, "documents", "doc_id", "text") == [("d", "second"), ("e", "e")]


def test_an_empty_text_under_a_known_id_is_a_reject_of_its_own(lake: Lake, tmp_path: Path) -> None:
    jsonl(tmp_path / "in/a.jsonl", [{"doc_id": "d", "text": "good"}, {"doc_id": "d", "text": ""}])
    run(lake, tmp_path / "in")
    counts = document_counts(lake)
    assert (counts.documents, counts.kept, counts.rejects) == (2, 1, 1)


def test_an_iceberg_table_is_an_input_too(lake: Lake, tmp_path: Path) -> None:
    lake.ensure_tables()
    rows = pa.table({"key": ["a", "b", "b2"], "body": ["one", "two", "two"], "lang": ["x", "y", "y"]})
    lake.catalog.create_namespace("raw")
    lake.catalog.create_table("raw.docs", schema=rows.schema).append(rows)
    config = CurateConfig(columns=ColumnsConfig(id="key", text="body"))
    report = run(lake, "iceberg:raw.docs", config=config)
    assert (report.kept, report.duplicates) == (2, 1)
    assert rows_of(lake, "chunks", "doc_id", "source", "metadata") == [
        ("a", "docs", [("lang", "x")]),
        ("b", "docs", [("lang", "y")]),
    ]
    assert run(lake, "iceberg:raw.docs", config=config).new == 0


def test_several_inputs_of_one_run_are_one_corpus(lake: Lake, tmp_path: Path) -> None:
    one = jsonl(tmp_path / "one/a.jsonl", [{"doc_id": "a", "text": "same"}])
    two = jsonl(tmp_path / "two/a.jsonl", [{"doc_id": "b", "text": "same"}])
    report = run(lake, one, two)
    assert (report.kept, report.duplicates) == (1, 1)


@pytest.mark.slow
def test_a_document_of_50_mb_is_chunked_whole(lake: Lake, tmp_path: Path) -> None:
    text = " ".join(f"word{n} says something about number {n}." for n in range(1_300_000))[
        : 50 * 2**20
    ].strip()
    (tmp_path / "in").mkdir()
    (tmp_path / "in/huge.txt").write_text(text)
    report = run(lake, tmp_path / "in")
    assert report.kept == 1
    chunks = sorted(lake.table("chunks").scan().to_arrow().to_pylist(), key=lambda row: row["ordinal"])
    assert "".join(chunk["text"] for chunk in chunks) == text


def test_an_absent_column_is_an_error_that_names_those_there_are(lake: Lake, tmp_path: Path) -> None:
    jsonl(tmp_path / "in/a.jsonl", [{"key": "a", "text": "x"}])
    with pytest.raises(InputError, match=r"no column 'doc_id' \(it has: key, text\).*--id-column"):
        run(lake, tmp_path / "in")


def test_an_absent_table_is_an_error(lake: Lake) -> None:
    with pytest.raises(InputError, match=r"there is no table raw\.none"):
        run(lake, "iceberg:raw.none")


def test_chunks_longer_than_the_model_takes_are_refused(lake: Lake, tmp_path: Path) -> None:
    jsonl(tmp_path / "in/a.jsonl", [{"doc_id": "a", "text": "x"}])
    with pytest.raises(ConfigError, match=r"curate\.chunk\.max_tokens"):
        run(lake, tmp_path / "in", config=CurateConfig(chunk=ChunkConfig(max_tokens=100_000)))


def test_a_lake_of_another_tokenizer_is_refused_before_anything_is_written(
    lake: Lake, tmp_path: Path
) -> None:
    lake.ensure_tables()
    lake.bind_tokenizer("0" * 64)
    jsonl(tmp_path / "in/a.jsonl", [{"doc_id": "a", "text": "x"}])
    with pytest.raises(ModelError, match="another namespace"):
        run(lake, tmp_path / "in")
    assert document_counts(lake).documents == 0
