"""MiniLM on Cranfield, beside figures that were made without this code. Skipped where the data are not."""

import pytest

from pipelines.encoder.conf import load_model_conf
from pipelines.evaluate.beir import Dataset
from pipelines.evaluate.config import EvaluateConfig
from pipelines.evaluate.rank import Kind
from pipelines.evaluate.report import Report, Row
from pipelines.evaluate.retrieval import Vectors, evaluate
from pipelines.progress import Silent
from tests.told import Told

pytestmark = pytest.mark.slow  # a minute to encode 1,400 documents

REFERENCE = {384: 0.509, 256: 0.498, 128: 0.471, 64: 0.394, 32: 0.276}
DIMS = load_model_conf("minilm").dimensions


@pytest.fixture(scope="module")
def plain(cranfield: Dataset, cranfield_vectors: Vectors) -> Report:
    return evaluate(cranfield, cranfield_vectors, DIMS, EvaluateConfig(), Silent())


@pytest.fixture(scope="module")
def rotated(cranfield: Dataset, cranfield_vectors: Vectors) -> Report:
    return evaluate(cranfield, cranfield_vectors, DIMS, EvaluateConfig(rotate=True), Silent())


def row(report: Report, dim: int, kind: Kind = "float32") -> Row:
    return next(row for row in report.rows if (row.dim, row.kind) == (dim, kind))


@pytest.mark.parametrize("dim", REFERENCE)
def test_float32_is_as_good_as_it_should_be(plain: Report, dim: int) -> None:
    assert row(plain, dim).scores.ndcg == pytest.approx(REFERENCE[dim], abs=0.003)


@pytest.mark.parametrize(("dim", "share"), [(128, 0.99), (64, 0.93), (32, 0.82)])
def test_a_rotation_keeps_what_slicing_would_lose(rotated: Report, dim: int, share: float) -> None:
    assert row(rotated, dim).rotated
    assert row(rotated, dim).share >= share


def test_a_rotation_changes_nothing_at_full_dimension(plain: Report, rotated: Report) -> None:
    assert row(rotated, 384).scores.ndcg == pytest.approx(row(plain, 384).scores.ndcg, abs=0.001)


@pytest.mark.parametrize(("kind", "share"), [("float16", 0.999), ("int8", 0.995), ("binary+rerank", 0.97)])
def test_fewer_bytes_cost_little(plain: Report, kind: Kind, share: float) -> None:
    assert row(plain, 384, kind).share >= share


@pytest.mark.parametrize(("kind", "share"), [("float16", 0.999), ("int8", 0.995), ("binary+rerank", 0.97)])
def test_fewer_bytes_cost_little_of_rotated_vectors_too(rotated: Report, kind: Kind, share: float) -> None:
    assert row(rotated, 384, kind).share >= share


def test_bm25_is_as_good_as_it_should_be(plain: Report) -> None:
    assert plain.bm25.ndcg == pytest.approx(0.482, abs=0.005)


def test_everything_of_the_data_set_is_counted(
    plain: Report, cranfield: Dataset, cranfield_vectors: Vectors
) -> None:
    assert (plain.documents, plain.queries, plain.judgements, plain.left_out) == (1400, 225, 1837, 0)
    assert (plain.absent_documents, plain.absent_queries) == (0, 0)
    told = Told()
    evaluate(cranfield, cranfield_vectors, (32,), EvaluateConfig(types=("float32",)), told)
    assert "a score is negative, so they are codes" in told.lines[0]
