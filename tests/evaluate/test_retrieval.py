import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.encoder.conf import load_model_conf
from pipelines.encoder.model import Encoder
from pipelines.errors import ConfigError
from pipelines.evaluate.beir import Dataset, Document
from pipelines.evaluate.config import EvaluateConfig
from pipelines.evaluate.dims import dimensions
from pipelines.evaluate.plot import save_plot
from pipelines.evaluate.rank import KINDS
from pipelines.evaluate.report import Report
from pipelines.evaluate.retrieval import encode_dataset, evaluate
from pipelines.progress import Silent
from tests.told import Told

TINY = Dataset(
    documents={
        "1": Document("Keys", "How to rotate an encryption key in the store"),
        "2": Document("Lakes", "Freezing of lakes in winter"),
        "3": Document("Bread", "Baking bread with yeast"),
        "4": Document("Sums", "Adding numbers"),
    },
    queries={
        "a": "changing encryption keys",
        "b": "ice on the water",
        "c": "unjudged",
        "d": "yeast dough in the oven",
    },
    codes={"a": {"1": 2}, "b": {"2": 1, "gone": 1}, "d": {"3": 1}, "nobody": {"1": 1}},
)
CONFIG = EvaluateConfig(dims=(384, 64))


@pytest.fixture(scope="module")
def report(encoder: Encoder) -> Report:
    vectors = encode_dataset(encoder, TINY, CONFIG, Silent())
    return evaluate(TINY, vectors, (384, 64), CONFIG, Silent())


def test_there_is_a_row_for_each_dimension_and_type(report: Report) -> None:
    assert [(row.dim, row.kind) for row in report.rows] == [
        (dim, kind) for dim in (384, 64) for kind in KINDS
    ]
    assert all(0 <= row.scores.ndcg <= 1 for row in report.rows)
    assert report.rows[0].share == 1
    assert report.rows[0].scores.mrr == 1
    assert report.model == "minilm@2d1b37007a2c"


def test_what_is_absent_is_counted_and_told(report: Report, encoder: Encoder) -> None:
    assert (report.documents, report.queries, report.left_out) == (4, 3, 1)
    assert (report.absent_documents, report.absent_queries, report.judgements) == (1, 1, 4)
    told = Told()
    evaluate(TINY, encode_dataset(encoder, TINY, CONFIG, Silent()), (64,), CONFIG, told)
    assert "1 documents that the corpus lacks, which count as not found, and 1 queries" in told.lines[1]
    assert told.lines[2] == "1 queries have no judgements and are left out"
    # Of query b's two relevant documents one is not there to be found.
    assert report.rows[0].scores.recall == pytest.approx((1 + 0.5 + 1) / 3)


def test_a_share_is_of_the_full_dimension_even_where_that_is_not_asked_for(encoder: Encoder) -> None:
    vectors = encode_dataset(encoder, TINY, CONFIG, Silent())
    full, half = (
        evaluate(TINY, vectors, dims, EvaluateConfig(types=("binary",)), Silent())
        for dims in ((384, 8), (8,))
    )
    assert full.rows[1] == half.rows[0]


def test_titles_count_where_they_are_asked_for(encoder: Encoder) -> None:
    texts, titled = (
        encode_dataset(encoder, TINY, EvaluateConfig(title=title), Silent()) for title in (False, True)
    )
    assert (texts.queries_QD == titled.queries_QD).all()
    assert (np.abs(texts.documents_ND - titled.documents_ND).max(axis=1) > 0.01).all()


def test_documents_and_queries_get_their_prefixes(encoder: Encoder) -> None:
    prefixes = {"document": "search_document", "query": "search_query"}
    other = Encoder.load(
        encoder.conf.model_copy(update={"prefixes": prefixes}), device="cpu", precision="float32"
    )
    vectors = encode_dataset(other, TINY, CONFIG, Silent())
    texts = [document.text for document in TINY.documents.values()]
    documents_ND = encoder.encode_texts([f"search_document: {text}" for text in texts])
    queries_QD = encoder.encode_texts([f"search_query: {text}" for text in TINY.queries.values()])
    assert np.abs(vectors.documents_ND - documents_ND).max() < 1e-5
    assert np.abs(vectors.queries_QD - queries_QD).max() < 1e-5


def test_the_report_is_plain_data_and_a_table(report: Report) -> None:
    data = json.loads(json.dumps(report.as_json()))
    assert set(data["rows"][0]) == {
        *("dim", "dtype", "ndcg@10", "recall@100", "mrr@10", "bytes", "rotated", "share")
    }
    assert set(data["bm25"]) == {"ndcg@10", "recall@100", "mrr@10"}
    markdown = report.as_markdown()
    assert markdown.count("\n| 64 |") == len(KINDS)
    assert "| share of full | 100.0% | 99.5% | 98.0% | 95.3% | 90.1% |" in markdown
    for table in markdown.split("\n\n"):
        bars = {line.count("|") for line in table.splitlines() if line.startswith("|")}
        assert len(bars) <= 1, "a table has as many cells in each line"


def test_the_plot_is_two_files(report: Report, tmp_path: Path) -> None:
    png, svg = save_plot(report, tmp_path / "v1.5")
    assert {file.name for file in tmp_path.iterdir()} == {"v1.5.png", "v1.5.svg"}
    with Image.open(png) as image:
        assert image.size == (1200, 750)
    assert svg.read_text().rstrip().endswith("</svg>")
    assert save_plot(report, png) == (png, svg)


def test_dimensions_are_those_of_the_model_unless_named() -> None:
    conf, told = load_model_conf("minilm"), Told()
    assert dimensions(conf, None, told) == (384, 256, 128, 64, 32)
    assert dimensions(conf, (64, 384, 64), told) == (384, 64)
    assert told.lines == []
    assert dimensions(conf, (100,), told) == (100,)
    assert told.lines[0].startswith("warning: 100 is not among the dimensions of 'minilm'")
    with pytest.raises(ConfigError, match="none of 385"):
        dimensions(conf, (385, 64), told)
