"""Pairs to a trained model: every stage on real engines, on pairs small enough to check by hand."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from jobs.mine import embedded
from jobs.settings import Settings
from pipelines.cluster.session import RaySession
from pipelines.config import parse
from pipelines.encoder.conf import load_model_conf
from pipelines.encoder.model import Encoder
from pipelines.errors import TrainingError
from pipelines.lake import Lake, LakeConfig
from pipelines.lake.beside import pairs_lake
from pipelines.lake.config import SparkConfig
from pipelines.mine.config import MineConfig
from pipelines.mine.run import filter_pairs, mine_negatives
from pipelines.mine.windows import Teacher, codes
from pipelines.pairs.config import PairsConfig
from pipelines.pairs.run import make_pairs
from pipelines.train.feed import Share, pairs, step_rows
from pipelines.train.prepare import prepare_pairs
from pipelines.train.recipe import ContrastiveRecipe
from pipelines.train.start import starting_point
from tests.told import Told
from tests.train.lakes import contrastive

_WORDS = (
    "apple bridge candle desert engine forest guitar harbour island jacket "
    "kettle ladder mirror needle orange pencil quarry rocket saddle temple "
    "umbrella violin window yellow zipper anchor button carpet dragon eagle"
)
THINGS = _WORDS.split()
SIZES = ("large", "small", "old", "new", "broken", "wooden", "golden", "cheap")


def rows() -> list[tuple[str, str]]:
    """240 pairs; some queries have two documents, and some documents are of another thing altogether."""
    found = []
    for thing in THINGS:
        for size in SIZES:
            found.append(
                (f"{size} {thing}", f"This is about a {thing} that is {size}, and where to find it.")
            )
    for number in range(0, 240, 12):
        query, _ = found[number]
        found.append((query, f"Another text on the {query}, by someone else."))
    for number in range(5, 240, 24):
        query, _ = found[number]
        found[number] = (query, "Weather report: rain in the north, wind from the west.")
    return found


class Chain:
    """A lake with the pairs of two sources, and the settings of its jobs."""

    def __init__(self, config: LakeConfig) -> None:
        self.lake = Lake.open(config)
        self.lake.ensure_namespace()
        data = rows()
        table = pa.table({"q": [query for query, _ in data], "d": [document for _, document in data]})
        self.lake.catalog.create_table(self.lake.identifier("given"), table.schema).append(table)
        sources = [
            {
                "name": name,
                "table": f"{config.namespace}.given",
                "query": "q",
                "document": "d",
                "where": where,
            }
            for name, where in (("a", "length(q) % 2 = 0"), ("b", "length(q) % 2 = 1"))
        ]
        near = {"enabled": False}
        self.pairs = parse(PairsConfig, {"sources": sources, "near": near}, "a test")
        make_pairs(self.lake, self.pairs, SparkConfig(), Told())
        self.mine = parse(MineConfig, {"window": 60, "top": 2, "negatives": {"k": 6}}, "a test")
        self.settings = Settings(lake=config, mine=self.mine)
        self.teacher: Teacher = embedded(self.lake, self.settings, Told())

    def table(self, name: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.lake.table(name).scan().to_arrow().to_pylist()
        return found


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory, spark: SparkSession, ray_session: RaySession) -> Chain:
    del spark, ray_session
    made = Chain(LakeConfig(dir=tmp_path_factory.mktemp("chain") / "lake"))
    filter_pairs(made.lake, made.teacher, made.mine, "cpu", Told())
    mine_negatives(made.lake, made.teacher, made.mine, Told())
    return made


def vectors(texts: list[str]) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    encoder = Encoder.load(load_model_conf("minilm"), device="cpu")
    return dict(zip(texts, encoder.encode_texts(texts), strict=True))


def test_the_filter_is_brute_force_in_each_window(chain: Chain) -> None:
    kept_pairs = {row["pair_id"]: row for row in chain.table("pairs") if row["outcome"] == "kept"}
    judged = {row["pair_id"]: row for row in chain.table("judgements")}
    assert judged.keys() == kept_pairs.keys()
    by_text = vectors(sorted({row[side] for row in kept_pairs.values() for side in ("query", "document")}))
    windows: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    for row in judged.values():
        windows[row["source"], row["window"]].append(kept_pairs[row["pair_id"]])
    assert len(windows) > 2
    positives = defaultdict(set)
    for row in kept_pairs.values():
        positives[row["source"], row["query"]].add(row["document"])
    for key, inside in windows.items():
        queries = {row["query"] for row in inside}
        outside = {row["query"] for row in kept_pairs.values() if row["source"] == key[0]} - queries
        assert not any(row["query"] in outside for row in inside), "a query's pairs are in one window"
        for row in inside:
            near = {other["pair_id"]: by_text[row["query"]] @ by_text[other["document"]] for other in inside}
            own = near[row["pair_id"]]
            mine = positives[row["source"], row["query"]]
            nearer = [o for o in inside if o["document"] not in mine and near[o["pair_id"]] > own + 1e-6]
            found = judged[row["pair_id"]]
            assert abs(found["rank"] - 1 - len(nearer)) <= 1, "the teacher's precision may swap two"
            assert found["kept"] == (found["rank"] <= 2)
            assert found["score"] == pytest.approx(own, abs=0.01)
    weather = [row for row in kept_pairs.values() if row["document"].startswith("Weather")]
    assert weather
    assert not any(judged[row["pair_id"]]["kept"] for row in weather if row["query"] != row["document"])


def test_negatives_are_the_nearest_that_are_no_positives(chain: Chain) -> None:
    kept_pairs = {row["pair_id"]: row for row in chain.table("pairs") if row["outcome"] == "kept"}
    judged = {row["pair_id"] for row in chain.table("judgements") if row["kept"]}
    mined = {row["pair_id"]: row for row in chain.table("negatives")}
    assert mined.keys() == judged
    text = {int(codes([row["document_hash"]])[0]): row["document"] for row in kept_pairs.values()}
    positives = defaultdict(set)
    for row in kept_pairs.values():
        positives[row["source"], row["query"]].add(row["document"])
    by_text = vectors(sorted({row[side] for row in kept_pairs.values() for side in ("query", "document")}))
    corpus = defaultdict(set)
    for row in kept_pairs.values():
        corpus[row["source"]].add(row["document"])
    for pair_id, row in mined.items():
        pair = kept_pairs[pair_id]
        own = positives[pair["source"], pair["query"]]
        found = [text[code] for code in row["documents"]]
        assert not own & set(found), "a positive is among its own negatives"
        assert row["scores"] == sorted(row["scores"], reverse=True)
        assert all(score <= 0.95 * row["score"] for score in row["scores"])
        near = {
            other: float(by_text[pair["query"]] @ by_text[other]) for other in corpus[pair["source"]] - own
        }
        nearest = sorted(near, key=lambda other: -near[other])[:6]
        # Those whose scores are within the precision of each other may change places.
        least = near[nearest[-1]] - 0.01
        assert all(near[other] >= least for other in found)
    assert any(len(row["documents"]) > 0 for row in mined.values())


def test_again_no_window_is_answered_twice(chain: Chain) -> None:
    before = [chain.lake.table(name).current_snapshot() for name in ("judgements", "negatives")]
    assert embedded(chain.lake, chain.settings, Told()) == chain.teacher
    assert filter_pairs(chain.lake, chain.teacher, chain.mine, "cpu", Told()).windows == 0
    assert mine_negatives(chain.lake, chain.teacher, chain.mine, Told()).windows == 0
    assert [chain.lake.table(name).current_snapshot() for name in ("judgements", "negatives")] == before


def recipe(**changed: Any) -> ContrastiveRecipe:
    sources = [
        {"name": "a", "negatives": "mined", "query_prefix": "q", "document_prefix": "d"},
        {"name": "b", "negatives": "random"},
    ]
    return contrastive(**{"sources": sources, "batch": 8, "negatives": 3, "epochs": 2, **changed})


def batches_of(chain: Chain, wanted: ContrastiveRecipe) -> list[pa.Table]:
    prepared = prepare_pairs(chain.lake, wanted, starting_point(wanted), SparkConfig(), Told())
    share = Share(0, 1, prepared.batch, prepared.shards)
    return list(step_rows(chain.lake.config, prepared.data, share, 0))


def test_batches_are_of_one_source_and_hold_each_pair_once_an_epoch(chain: Chain) -> None:
    steps = [pairs(rows) for rows in batches_of(chain, recipe())]
    assert [batch.step for batch in steps] == list(range(len(steps)))
    kept_pairs = {row["pair_id"]: row for row in chain.table("pairs") if row["outcome"] == "kept"}
    judged = {row["pair_id"] for row in chain.table("judgements") if row["kept"]}
    positives = defaultdict(set)
    for row in kept_pairs.values():
        positives[int(codes([row["query_hash"]])[0])].add(int(codes([row["document_hash"]])[0]))
    known = {
        (source, *(int(codes([row[f"{side}_hash"]])[0]) for side in ("query", "document")))
        for source in ("a", "b")
        for pair_id, row in kept_pairs.items()
        if row["source"] == source and pair_id in judged
    }
    tokenizer = starting_point(recipe()).tokenizer
    for half in (steps[: len(steps) // 2], steps[len(steps) // 2 :]):
        seen = [
            (batch.source, int(query), int(document))
            for batch in half
            for query, document in zip(batch.query_hash_n, batch.document_hash_n, strict=True)
        ]
        assert len(set(seen)) == len(seen)
        assert set(seen) <= known
    assert {batch.source for batch in steps} == {"a", "b"}
    for batch in steps:
        assert len(batch.queries) == 8
        start = tokenizer.model_inputs(["x"], "q" if batch.source == "a" else "")[0]
        assert all(row[1] == start[1] for row in batch.queries if batch.source == "a")
        each = len(batch.negatives) / 8
        assert each <= 3
        if batch.source == "b":
            assert each > 2, "random negatives are hardly ever positives"
    # Rows keep their negatives one after the other, so they are told apart by the lengths alone.
    for rows in batches_of(chain, recipe()):
        for row in rows.to_pylist():
            query, _, *negatives = row["hashes"]
            assert not positives[query] & set(negatives)


def test_the_same_seed_gives_the_same_batches_and_another_gives_others(chain: Chain) -> None:
    first = batches_of(chain, recipe())
    renamed = batches_of(chain, recipe(name="renamed"))
    assert [rows.drop_columns([]) for rows in first] == renamed
    other = batches_of(chain, recipe(name="other", seed=1))
    assert [rows.column("hashes") for rows in other] != [rows.column("hashes") for rows in first]


def test_what_a_source_lacks_is_told(chain: Chain, tmp_path: Path) -> None:
    del tmp_path
    few = [{"name": "a", "pairs": 8000}]
    with pytest.raises(TrainingError, match=r"source 'a' has .* and the recipe takes 8,000"):
        batches_of(chain, recipe(name="few", sources=few, negatives=0))
    with pytest.raises(TrainingError, match="judgements of one teacher, and there are of its sources: none"):
        batches_of(chain, recipe(name="nobody", teacher="another-model"))
    assert pairs_lake(chain.lake).config.namespace == "embedlake_pairs"
