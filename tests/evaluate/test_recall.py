import numpy as np
import pytest

from pipelines.errors import ConfigError, ModelError
from pipelines.evaluate.rank import KINDS
from pipelines.evaluate.recall import measure, measure_table, sampled, with_queries
from pipelines.lake import Lake, LakeConfig
from pipelines.lake.config import SparkConfig
from pipelines.lake.vector_source import VectorSource
from pipelines.progress import Silent
from pipelines.publish.config import PublishConfig
from pipelines.publish.run import publish
from tests.publish.lakes import filled, hashed


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """600 vectors of 32 dimensions, and serving tables of them."""
    lake = filled(LakeConfig(dir=tmp_path_factory.mktemp("recall"), buckets=2), documents=300)
    for config in (
        PublishConfig(table="full", type="float32"),
        PublishConfig(table="small", type="int8", dim=8),
        PublishConfig(table="turned", type="int8", dim=8, rotate=True),
    ):
        publish(lake, config, SparkConfig())
    return lake


def test_the_exact_way_finds_all_and_less_finds_less(lake: Lake) -> None:
    sample = sampled(VectorSource.open(lake), 10_000, 50, 0, Silent())
    assert len(sample.documents_ND) == 600
    found = measure(sample, (32, 16, 8), KINDS, (10, 100, 599), 8, 10, False, Silent())
    by_way = {(one.what, one.dim): one.recall for one in found}
    assert by_way["float32", 32] == 1.0
    assert 1.0 > by_way["float32", 16] > by_way["float32", 8] > 0.05
    assert by_way["int8", 32] > 0.95 > by_way["binary", 32]
    assert by_way["funnel by prefix, 599", 8] == by_way["funnel by signs, 599", 32] == 1.0
    assert by_way["funnel by prefix, 10", 8] == by_way["float32", 8]
    assert by_way["funnel by prefix, 10", 8] < by_way["funnel by prefix, 100", 8]


def test_a_rotation_leaves_the_exact_answer_and_helps_the_small_ones(lake: Lake) -> None:
    sample = sampled(VectorSource.open(lake), 10_000, 50, 0, Silent())
    plain, turned = (
        measure(sample, (32, 8), ("float32",), (), 8, 10, way, Silent()) for way in (False, True)
    )
    assert plain[0].recall == turned[0].recall == 1.0
    assert turned[1].recall > plain[1].recall + 0.1


def test_a_serving_table_is_measured_as_it_is_its_rotation_included(lake: Lake) -> None:
    sample = sampled(VectorSource.open(lake), 10_000, 50, 0, Silent())
    full, small, turned = (
        measure_table(sample, VectorSource.open(lake, name), name, 10).recall
        for name in ("full", "small", "turned")
    )
    assert full == 1.0
    [_, own] = measure(sample, (32, 8), ("int8",), (), 8, 10, False, Silent())
    assert small == pytest.approx(own.recall, abs=0.01)
    assert turned > small + 0.1


def test_given_queries_are_answered_by_every_vector(lake: Lake) -> None:
    sample = with_queries(
        sampled(VectorSource.open(lake), 10_000, 5, 0, Silent()), hashed(["ab" * 16, "cd" * 16])
    )
    [way] = measure(sample, (32,), ("float32",), (), 8, 10, False, Silent())
    assert (way.recall, len(sample.queries_QD)) == (1.0, 2)


def test_fewer_rows_than_there_are_are_whole_files_drawn_by_the_seed(lake: Lake) -> None:
    source = VectorSource.open(lake)
    one, same, other = (sampled(source, 100, 10, seed, Silent()) for seed in (1, 1, 2))
    assert len(one.documents_ND) == 100
    assert one.chunk_ids.equals(same.chunk_ids)
    assert not one.chunk_ids.equals(other.chunk_ids)
    assert (one.documents_ND[one.own_Q] == one.queries_QD).all()
    assert np.allclose(np.linalg.norm(one.documents_ND, axis=1), 1, atol=1e-6)


def test_what_cannot_be_measured_is_told(lake: Lake, local_config: LakeConfig) -> None:
    source = VectorSource.open(lake)
    with pytest.raises(ConfigError, match="there are 5 vectors, no 10 beside a query"):
        measure(sampled(source, 5, 5, 0, Silent()), (32,), ("float32",), (), 8, 10, False, Silent())
    other = filled(local_config, documents=2)
    publish(other, PublishConfig(table="full"), SparkConfig())
    with pytest.raises(ModelError, match="Publish it again"):
        measure_table(sampled(source, 600, 5, 0, Silent()), VectorSource.open(other, "full"), "full", 10)
