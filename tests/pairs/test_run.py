"""Pairs from real tables, by real Spark."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from pipelines.config import parse
from pipelines.errors import InputError
from pipelines.lake import Lake, LakeConfig
from pipelines.lake.config import SparkConfig
from pipelines.pairs.config import PairsConfig
from pipelines.pairs.run import PairsReport, make_pairs
from tests.told import Told

LONG = (
    "the boundary layer over a flat plate grows with the root of the distance from its leading edge as long "
    "as the flow in it is laminar and then thickens much faster once turbulence has set in behind a bump"
)


class Corpus:
    """A table of questions and answers in a lake's catalogue."""

    def __init__(self, config: LakeConfig, spark: SparkSession) -> None:
        del spark  # only started
        self.lake = Lake.open(config)
        self.lake.ensure_namespace()

    def write(self, rows: Sequence[tuple[str | None, str | None, str | None]], name: str = "faq") -> None:
        columns = ("question", "answer", "package")
        data = pa.table(
            {column: pa.array([row[at] for row in rows], pa.string()) for at, column in enumerate(columns)}
        )
        identifier = self.lake.identifier(name)
        if self.lake.catalog.table_exists(identifier):
            self.lake.catalog.load_table(identifier).overwrite(data)
        else:
            self.lake.catalog.create_table(identifier, data.schema).append(data)

    def config(self, **changed: Any) -> PairsConfig:
        source = {
            "name": "faq",
            "table": f"{self.lake.config.namespace}.faq",
            "query": "question",
            "document": "answer",
            "part": "package",
        }
        return parse(PairsConfig, {"sources": [source], **changed}, "a test")

    def make(self, **changed: Any) -> PairsReport:
        return make_pairs(self.lake, self.config(**changed), SparkConfig(), Told())

    def pairs(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.lake.table("pairs").scan().to_arrow().to_pylist()
        return rows

    def outcomes(self) -> dict[tuple[str, str], tuple[str, str | None]]:
        return {(row["query"], row["document"]): (row["outcome"], row["detail"]) for row in self.pairs()}


@pytest.fixture
def corpus(lake_config: LakeConfig, spark: SparkSession) -> Corpus:
    return Corpus(lake_config, spark)


@pytest.fixture
def local(local_config: LakeConfig, spark: SparkSession) -> Corpus:
    return Corpus(local_config, spark)


def test_what_becomes_of_each_row(corpus: Corpus, tmp_path: Path) -> None:
    queries = tmp_path / "queries.jsonl"
    queries.write_text(
        '{"text": "what is the lift of a thin wing at supersonic speed"}\n{"text": "flutter"}\n'
    )
    rows: list[tuple[str | None, str | None, str | None]] = [
        ("How do I sort?", "Use the function sorted.", "a"),
        ("How do I sort?  ", "Use the function sorted.", "a"),
        ("", "An answer to nothing.", "a"),
        ("A question without an answer?", None, "b"),
        ("the same", "the same", "b"),
        ("Flutter", "It is when wings shake.", "b"),
        ("Why do wings flutter?", "Because of the air.", "b"),
        ("About lift", "They ask: What is the lift of a thin wing, at supersonic speed?", "c"),
        ("Layers", LONG, "c"),
        ("Layers", LONG + " there", "c"),
        *(("Untitled", f"Note number {number}.", "d") for number in range(4)),
    ]
    corpus.write(rows)
    report = corpus.make(overlap={"queries": [str(queries)]}, most_per_query=3)
    (source,) = report.sources
    assert (source.read, source.changed) == (len(rows), True)
    assert source.outcomes == {
        "kept": 3,
        "short_query": 1,
        "short_document": 1,
        "equal_sides": 1,
        "contaminated": 2,
        "near_duplicate": 1,
        "common_query": 4,
    }
    found = corpus.outcomes()
    assert found["Flutter", "It is when wings shake."] == ("contaminated", "flutter")
    assert found["Why do wings flutter?", "Because of the air."] == ("kept", None)
    (longer,) = [row for row in corpus.pairs() if row["document"] == LONG + " there"]
    assert longer["outcome"] == "kept"
    assert found["Layers", LONG] == ("near_duplicate", longer["pair_id"])
    (sort,) = [row for row in corpus.pairs() if row["query"] == "How do I sort?"]
    assert (sort["copies"], sort["query_prefix"], sort["document_prefix"]) == (
        2,
        "search_query",
        "search_document",
    )
    assert len({row["pair_id"] for row in corpus.pairs()}) == len(corpus.pairs())
    assert sum(row["copies"] for row in corpus.pairs()) == len(rows)


def test_again_nothing_is_written_and_a_change_replaces_its_source_alone(local: Corpus) -> None:
    local.write([("one?", "The first.", "a"), ("two?", "The second.", "b")])
    local.make()
    before = local.lake.table("pairs").current_snapshot()
    assert not local.make().sources[0].changed
    assert local.lake.table("pairs").current_snapshot() == before
    other = {"name": "other", "table": "embedlake.faq", "query": "answer", "document": "question"}
    local.make(sources=[other])
    local.write([("one?", "The first.", "a"), ("three?", "The third.", "b")])
    assert local.make().sources[0].changed
    assert sorted(row["query"] for row in local.pairs()) == ["The first.", "The second.", "one?", "three?"]


def test_a_part_is_held_out_whole(local: Corpus) -> None:
    local.write([(f"question {n}?", f"The answer to {n}.", f"package {n % 40}") for n in range(400)])
    local.make(held_out=0.25, near={"enabled": False})
    outcomes: dict[str, set[str]] = {}
    for row in local.pairs():
        outcomes.setdefault(row["part"], set()).add(row["outcome"])
    assert all(len(seen) == 1 for seen in outcomes.values())
    held_out = sum(seen == {"held_out"} for seen in outcomes.values())
    assert 2 <= held_out <= 20
    chosen = {part for part, seen in outcomes.items() if seen == {"held_out"}}
    local.make(held_out=0.25, near={"enabled": False}, seed=1)
    assert {row["part"] for row in local.pairs() if row["outcome"] == "held_out"} != chosen


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"table": "embedlake.absent"}, "no table 'embedlake.absent'"),
        ({"query": "titel"}, "'faq' does not fit the table"),
        ({"where": "answer ="}, "'faq' does not fit the table"),
        ({"table": "documents"}, "no table 'embedlake.documents'"),
    ],
)
def test_what_does_not_fit_is_told(local: Corpus, changed: dict[str, str], said: str) -> None:
    local.write([("one?", "The first.", "a")])
    source = local.config().sources[0].model_dump() | changed
    with pytest.raises(Exception, match=said) as raised:
        local.make(sources=[source])
    if "documents" not in changed.values():
        assert isinstance(raised.value, InputError)
