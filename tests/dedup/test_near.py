"""Near duplicates among nodes: giant buckets, collisions, rounds; the driver and the executors agree."""

import random
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from pipelines.curate.config import CurateConfig
from pipelines.dedup.candidates import candidate_pairs
from pipelines.dedup.config import NearConfig
from pipelines.dedup.independent import first_independent_set
from pipelines.dedup.minhash import MinHash
from pipelines.dedup.near_driver import node_pairs
from pipelines.dedup.resolve import removed_nodes
from pipelines.dedup.shingles import shingle
from pipelines.dedup.spark_sql import empty_frame
from tests.curate.test_incremental import Corpus
from tests.dedup.oracle import Doc, day, draw_words, families

SMALL = NearConfig(bucket_whole=4, bucket_leaders=2)


def pairs_by_definition(
    bands: Sequence[Sequence[int] | None], is_open: Sequence[bool], config: NearConfig
) -> set[tuple[int, int]]:
    buckets: dict[int, list[int]] = defaultdict(list)
    for node, keys in enumerate(bands):
        for key in keys or ():
            buckets[key].append(node)
    pairs = set()
    for members in buckets.values():
        for later, node in enumerate(members):
            compared = later if later < config.bucket_whole else config.bucket_leaders
            pairs |= {(first, node) for first in members[:compared] if is_open[first] or is_open[node]}
    return pairs


keys = st.lists(st.integers(-3, 4), unique=True, max_size=4)
nodes_of_keys = st.lists(st.tuples(st.one_of(st.none(), keys), st.booleans()), max_size=30)


@given(nodes_of_keys)
def test_the_first_of_a_bucket_meet_each_other_and_the_rest_its_leaders(
    nodes: list[tuple[list[int] | None, bool]],
) -> None:
    bands, is_open = [keys for keys, _ in nodes], [flag for _, flag in nodes]
    found = node_pairs(pa.array(bands, pa.list_(pa.int64())), np.array(is_open, np.bool_), SMALL, 10_000)
    assert found is not None
    assert set(zip(*(side.tolist() for side in found), strict=True)) == pairs_by_definition(
        bands, is_open, SMALL
    )


def test_pairs_that_are_too_many_for_the_driver_are_not_made() -> None:
    bands = pa.array([[1]] * 100, pa.list_(pa.int64()))
    opened = np.ones(100, np.bool_)
    assert node_pairs(bands, opened, NearConfig(), 100) is None
    found = node_pairs(bands, opened, NearConfig(), 100 * 99 // 2)
    assert found is not None
    assert len(found[0]) == 100 * 99 // 2


def test_a_template_of_two_hundred_thousand_costs_its_leaders_each() -> None:
    bands = pa.array([[1]] * 200_000, pa.list_(pa.int64()))
    config = NearConfig()
    found = node_pairs(bands, np.ones(200_000, np.bool_), config, 10**7)
    assert found is not None
    rest = 200_000 - config.bucket_whole
    assert (
        len(found[0]) == config.bucket_whole * (config.bucket_whole - 1) // 2 + rest * config.bucket_leaders
    )


def test_the_executors_make_the_same_pairs(spark: SparkSession) -> None:
    draw = random.Random(1)
    bands = [draw.sample(range(12), draw.randrange(4)) or None for _ in range(120)]
    is_open = [draw.random() < 0.5 for _ in bands]
    rows = [
        (at, (at,), keys, opened)
        for at, (keys, opened) in enumerate(zip(bands, is_open, strict=True))
        if keys
    ]
    schema = "node bigint, place struct<at: int>, bands array<bigint>, is_open boolean"
    frame = spark.createDataFrame(rows, schema)
    found = [(row["earlier"], row["later"]) for row in candidate_pairs(frame, SMALL).collect()]
    assert len(found) == len(set(found))
    assert set(found) == pairs_by_definition(bands, is_open, SMALL)


def test_rounds_of_joins_keep_whom_the_driver_keeps(spark: SparkSession) -> None:
    draw = random.Random(2)
    # A chain, where each round decides two nodes, and a thicket.
    edges = [(at, at + 1) for at in range(7)]
    pairs = [sorted(draw.sample(range(10, 60), 2)) for _ in range(120)]
    edges += [(first, second) for first, second in pairs]
    first, second = (np.array(side, np.int64) for side in zip(*edges, strict=True))
    kept = first_independent_set(60, first, second)
    frame = spark.createDataFrame(edges, "earlier bigint, later bigint")
    nobody = empty_frame(spark, "node bigint")
    found = removed_nodes(spark, frame, nobody, driver_edges=0).collect()
    assert sorted(row["node"] for row in found) == np.flatnonzero(~kept).tolist()


def template(count: int, own: int) -> list[Doc]:
    """Documents of 60 shared words and some of their own."""
    draw = random.Random(5)
    shared = draw_words(draw, 60)
    return [
        Doc(
            f"t{at:03d}", " ".join([*shared, *(f"own{at}x{word}" for word in range(own))]), "web", day(at % 7)
        )
        for at in range(count)
    ]


def hidden(count: int) -> list[Doc]:
    """Documents that share one shingle alone, which is the smallest of each for the one hash function."""
    draw = random.Random(6)
    many = [draw_words(draw, 5) for _ in range(20_000)]
    found = shingle(pa.array([" ".join(words) for words in many]), 5)
    smallest = many[int(np.argmin(MinHash(1, 1).signatures(found)[:, 0]))]
    return [
        Doc(f"h{at:02d}", " ".join([*draw_words(draw, 10), *smallest, *draw_words(draw, 10)]), "web", day(at))
        for at in range(count)
    ]


@pytest.mark.usefixtures("spark")
@pytest.mark.parametrize("driver_nodes", [250_000, 0], ids=["driver", "executors"])
def test_neither_a_template_nor_a_collision_removes_what_has_no_kept_twin(
    tmp_path: Path, driver_nodes: int
) -> None:
    # One band of one function: documents that share their smallest shingle are all in one bucket.
    one = {"permutations": 1, "bands": 1, "rows": 1, "driver_nodes": driver_nodes}
    near = SMALL.model_copy(update=one)
    docs = [*template(40, 8), *hidden(30)]
    leader = min(docs[:40], key=lambda doc: doc.place(()))
    similar = [Doc("twin", f"{leader.text} again", "web", day(9))]
    corpus = Corpus(tmp_path, CurateConfig(near=near))
    corpus.run(docs)
    assert {row["outcome"] for row in corpus.tables()["documents"]} == {"kept"}
    corpus.run(similar)
    (removed,) = corpus.tables()["duplicates"]
    assert (removed["doc_id"], removed["kept_doc_id"], removed["kind"]) == ("twin", leader.doc_id, "near")


@pytest.mark.usefixtures("spark")
def test_the_executors_give_the_tables_of_the_definition_run_upon_run(tmp_path: Path) -> None:
    docs = list(families(random.Random(8), 120, 0, 10, "a"))
    corpus = Corpus(tmp_path, CurateConfig(near=NearConfig(driver_nodes=0)))
    corpus.run(docs[:90])
    corpus.run(docs[60:], deletes=[docs[1].doc_id, docs[5].doc_id])
    corpus.check([doc for doc in docs if doc not in (docs[1], docs[5])])
