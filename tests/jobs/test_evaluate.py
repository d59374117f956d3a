import json
import sys
from pathlib import Path

import pytest

from tests.e2e.cli import embedlake
from tests.evaluate.test_beir import QRELS, lines

CORPUS = [
    {"_id": "a", "title": "Keys", "text": "How to rotate an encryption key"},
    {"_id": "b", "text": "Freezing of lakes in winter"},
]
QUERIES = [{"_id": "q1", "text": "changing encryption keys"}]


@pytest.fixture
def data(tmp_path: Path) -> list[str]:
    """The options that name a data set."""
    texts = {"corpus": lines(CORPUS), "queries": lines(QUERIES), "qrels": QRELS}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    return [word for name in texts for word in (f"--{name}", str(tmp_path / name))]


def test_a_data_set_is_evaluated_into_a_table_a_file_and_a_plot(data: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    done = embedlake(
        *("evaluate", "retrieval", *data, "--dims", "384,64", "--types", "float32,binary+rerank", "--rotate"),
        *("--json", str(out / "r.json"), "--markdown", str(out / "r.md"), "--plot", str(out / "r")),
    )
    assert done.code == 0, done.err
    assert done.out.startswith(
        "minilm@2d1b37007a2c, float32, rows of at most 256 tokens; 2 documents, 1 queries"
    )
    assert (out / "r.md").read_text() == done.out.removesuffix("\n")
    assert {file.name for file in out.iterdir()} == {"r.json", "r.md", "r.png", "r.svg"}
    report = json.loads((out / "r.json").read_text())
    assert [(row["dim"], row["dtype"], row["rotated"]) for row in report["rows"]] == [
        *((384, "float32", True), (384, "binary+rerank", True)),
        *((64, "float32", True), (64, "binary+rerank", True)),
    ]
    assert (report["documents"], report["absent_documents"], report["absent_queries"]) == (2, 1, 1)
    assert "a score is negative" in done.err


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--dims", "512"], "none of 512"),
        (["--dims", "big"], "evaluate.dims"),
        (["--dims", "0"], "evaluate.dims"),
        (["--dims", ","], "evaluate.dims"),
        (["--types", "int4"], "evaluate.types"),
        (["--dims", "100", "--types", "binary"], "multiple of 8"),
        (["--gain", "log"], "evaluate.gain"),
        (["--precision", "float16"], "evaluate.precision"),
        (["--set", "evaluate.shortlist=0"], "evaluate.shortlist"),
        (["--json", "/nowhere/r.json"], "there is no folder /nowhere"),
        (["--markdown", "/"], "/ is a folder"),
        (["--queries", "/nowhere.jsonl"], "cannot be read"),
        (["--model", "minilmm"], "there is no model"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_encoded(
    data: list[str], words: list[str], complaint: str
) -> None:
    done = embedlake("evaluate", "retrieval", *data, *words)
    assert complaint in done.err
    assert done.code in (1, 2)
    assert "encoding" not in done.err


def test_a_task_that_mteb_does_not_have_is_told() -> None:
    done = embedlake("evaluate", "mteb", "--tasks", "NFCorpuss, SummEval")
    assert done.code == 2
    assert "Did you mean: 'NFCorpus'" in done.err


def test_without_mteb_it_is_told_how_to_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mteb", None)
    done = embedlake("evaluate", "mteb", "--tasks", "NFCorpus")
    assert done.code == 1
    assert "pip install 'embedlake[mteb]'" in done.err
