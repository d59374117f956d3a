"""Pairs to a trained model: every stage on real engines, on pairs small enough to check by hand."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from jobs.mine import embedded
from jobs.settings import Settings
from jobs.status import status_of
from pipelines.cluster.session import RaySession
from pipelines.config import parse
from pipelines.errors import TrainingError
from pipelines.lake import Lake, LakeConfig
from pipelines.lake.beside import Teacher, pairs_lake
from pipelines.lake.config import SparkConfig
from pipelines.lake.training_counts import pair_counts, run_steps
from pipelines.mine.config import MineConfig
from pipelines.mine.run import filter_pairs, mine_negatives
from pipelines.mine.windows import codes
from pipelines.pairs.config import PairsConfig
from pipelines.pairs.run import make_pairs
from pipelines.text import text_hash
from pipelines.train.config import Micro
from pipelines.train.feed import Share, pairs, step_rows
from pipelines.train.pairs import PairBatch
from pipelines.train.plan import plan_training
from pipelines.train.prepare import prepare_pairs
from pipelines.train.prepared import data_name, forget
from pipelines.train.recipe import ContrastiveRecipe
from pipelines.train.start import model_sizes, starting_point
from pipelines.train.stock import stock
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
        self.teacher: Teacher = embedded(self.lake, self.settings, "minilm", Told())

    def table(self, name: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.lake.table(name).scan().to_arrow().to_pylist()
        return found

    def vectors(self) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
        """By text, as the teacher's tables have them: brute force on them is exact."""
        texts = pairs_lake(self.lake)
        of_chunk = {
            row["chunk_id"]: row["text"] for row in texts.table("chunks").scan().to_arrow().to_pylist()
        }
        rows = texts.table("embeddings").scan().to_arrow().to_pylist()
        return {of_chunk[row["chunk_id"]]: np.array(row["embedding"], np.float32) for row in rows}

    def kept_pairs(self) -> dict[str, dict[str, Any]]:
        return {row["pair_id"]: row for row in self.table("pairs") if row["outcome"] == "kept"}


def positives_of(pairs_: Iterable[dict[str, Any]]) -> dict[tuple[str, str], set[str]]:
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for row in pairs_:
        found[row["source"], row["query"]].add(row["document"])
    return found


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory, spark: SparkSession, ray_session: RaySession) -> Chain:
    del spark, ray_session
    made = Chain(LakeConfig(dir=tmp_path_factory.mktemp("chain") / "lake"))
    filter_pairs(made.lake, made.teacher, made.mine, "cpu", Told())
    mine_negatives(made.lake, made.teacher, made.mine, Told())
    return made


def test_the_filter_is_brute_force_in_each_window(chain: Chain) -> None:
    kept_pairs, by_text = chain.kept_pairs(), chain.vectors()
    judged = {row["pair_id"]: row for row in chain.table("judgements")}
    assert judged.keys() == kept_pairs.keys()
    windows: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    for row in judged.values():
        windows[row["source"], row["window"]].append(kept_pairs[row["pair_id"]])
    assert len(windows) > 2
    positives = positives_of(kept_pairs.values())
    window_of = {(row["source"], row["query"]): key for key, inside in windows.items() for row in inside}
    for key, inside in windows.items():
        for row in inside:
            assert window_of[row["source"], row["query"]] == key, "a query's pairs are in one window"
            near = {other["pair_id"]: by_text[row["query"]] @ by_text[other["document"]] for other in inside}
            own, mine = near[row["pair_id"]], positives[row["source"], row["query"]]
            nearer = [o for o in inside if o["document"] not in mine and near[o["pair_id"]] > own + 1e-6]
            found = judged[row["pair_id"]]
            assert found["rank"] == 1 + len(nearer)
            assert found["kept"] == (found["rank"] <= 2)
            assert found["score"] == pytest.approx(own, abs=1e-6)
    weather = [pair_id for pair_id, row in kept_pairs.items() if row["document"].startswith("Weather")]
    assert weather
    assert not any(judged[pair_id]["kept"] for pair_id in weather)


def test_negatives_are_the_nearest_that_are_no_positives(chain: Chain) -> None:
    kept_pairs, by_text = chain.kept_pairs(), chain.vectors()
    judged = {row["pair_id"] for row in chain.table("judgements") if row["kept"]}
    mined = {row["pair_id"]: row for row in chain.table("negatives")}
    assert mined.keys() == judged
    text = {int(codes([row["document_hash"]])[0]): row["document"] for row in kept_pairs.values()}
    positives = positives_of(kept_pairs.values())
    corpus: dict[str, set[str]] = defaultdict(set)
    for row in kept_pairs.values():
        corpus[row["source"]].add(row["document"])
    for pair_id, row in mined.items():
        pair = kept_pairs[pair_id]
        own = positives[pair["source"], pair["query"]]
        found = [text[code] for code in row["documents"]]
        assert not own & set(found), "a positive is among its own negatives"
        others = corpus[pair["source"]] - own
        near = {other: float(by_text[pair["query"]] @ by_text[other]) for other in others}
        nearest = sorted(near, key=lambda other: -near[other])[:6]
        wanted = [near[other] for other in nearest if near[other] <= 0.95 * row["score"]]
        assert [near[other] for other in found] == pytest.approx(wanted, abs=1e-5)
        assert row["scores"] == pytest.approx(wanted, abs=1e-5)
    assert any(row["documents"] for row in mined.values())


def test_again_no_window_is_answered_twice(chain: Chain) -> None:
    before = [chain.lake.table(name).current_snapshot() for name in ("judgements", "negatives")]
    assert embedded(chain.lake, chain.settings, "minilm", Told()) == chain.teacher
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
    start = starting_point(wanted)
    prepared = prepare_pairs(chain.lake, wanted, start, SparkConfig(), Told(), lambda _: chain.teacher)
    share = Share(0, 1, prepared.batch, prepared.shards)
    return list(step_rows(chain.lake.config, prepared.data, share, range(prepared.steps)))


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


def test_a_guides_vectors_are_those_of_the_rows_texts(chain: Chain) -> None:
    steps = batches_of(chain, recipe(name="guided", objective={"guide": {"model": "minilm"}}))
    by_text = {int(codes([text_hash(text)])[0]): vector for text, vector in chain.vectors().items()}
    negatives = 0
    for rows in steps:
        batch = pairs(rows)
        for hashes, guides in (
            (batch.query_hash_n, batch.guide_query_nG),
            (batch.document_hash_n, batch.guide_document_nG),
            (batch.negative_hash_m, batch.guide_negative_mG),
        ):
            assert guides is not None
            assert len(guides) == len(hashes)
            np.testing.assert_array_equal(guides, [by_text[text] for text in hashes.tolist()])
        negatives += len(batch.negatives)
    plain = [pairs(rows) for rows in batches_of(chain, recipe())]
    assert negatives == sum(len(batch.negatives) for batch in plain) > 0


def test_a_batch_of_a_cluster_is_of_documents_near_each_other(chain: Chain) -> None:
    clusters = {"model": "minilm", "pairs": 24}
    sources = [{"name": "a"}, {"name": "b"}]
    made = recipe(
        name="clustered", clusters=clusters, sources=sources, negatives=0, batch=6, too_few="skip", epochs=1
    )
    steps = [pairs(rows) for rows in batches_of(chain, made)]
    assert {batch.source.split("/")[0] for batch in steps} == {"a", "b"}
    assert len({batch.source for batch in steps}) > 4
    again = [pairs(rows) for rows in batches_of(chain, made.model_copy(update={"name": "clustered-again"}))]
    assert [batch.source for batch in again] == [batch.source for batch in steps]
    whole = [
        pairs(rows) for rows in batches_of(chain, recipe(name="whole", sources=sources, negatives=0, batch=6))
    ]
    assert spread(chain, steps) < 0.9 * spread(chain, whole)


def spread(chain: Chain, steps: list[PairBatch]) -> float:
    """Mean cosine distance of a batch's documents from each other."""
    by_text = {int(codes([text_hash(text)])[0]): vector for text, vector in chain.vectors().items()}
    found = []
    for batch in steps:
        x_ND = np.array([by_text[text] for text in batch.document_hash_n.tolist()])
        found.append(1 - float((x_ND @ x_ND.T).mean()))
    return float(np.mean(found))


def test_the_same_seed_gives_the_same_batches_and_another_gives_others(chain: Chain) -> None:
    first = batches_of(chain, recipe())
    renamed = batches_of(chain, recipe(name="renamed"))
    assert first == renamed
    other = batches_of(chain, recipe(name="other", seed=1))
    assert [rows.column("hashes") for rows in other] != [rows.column("hashes") for rows in first]


def test_batches_that_no_run_needs_are_taken_away(chain: Chain) -> None:
    def stored(run: str) -> set[str]:
        rows = chain.lake.table("batches").scan(selected_fields=("data",)).to_arrow()
        return {data for data in rows.column("data").to_pylist() if data.rpartition("-")[0] == run}

    batches_of(chain, recipe(name="swept", epochs=1))
    others = stored("swept-too"), stored("tiny")
    (first,) = stored("swept")
    batches_of(chain, recipe(name="swept", epochs=1, seed=5))
    (second,) = stored("swept")
    assert second != first
    forget(chain.lake, "swept")
    assert stored("swept") == set()
    assert (stored("swept-too"), stored("tiny")) == others


def test_what_a_recipe_cannot_have_is_told(chain: Chain) -> None:
    for changed, said in (
        (
            {"sources": [{"name": "a", "pairs": 8000}], "negatives": 0},
            "the recipe takes 8,000 of it",
        ),
        ({"teacher": "another-model"}, "judgements of one teacher, and there are of its sources: none"),
    ):
        with pytest.raises(TrainingError, match=said):
            batches_of(chain, recipe(name="refused", **changed))


def test_status_counts_pairs_by_what_became_of_them(chain: Chain) -> None:
    found = pair_counts(chain.lake)
    kept_pairs = chain.kept_pairs().values()
    assert {source: counts.outcomes["kept"] for source, counts in found.items()} == Counter(
        row["source"] for row in kept_pairs
    )
    top2 = f"{chain.teacher.document}/top2"
    judged = [row for row in chain.table("judgements") if row["kept"] and row["asked"] == top2]
    assert {source: counts.consistent[top2] for source, counts in found.items()} == Counter(
        row["source"] for row in judged
    )
    mined = Counter((row["source"], row["asked"]) for row in chain.table("negatives"))
    assert {(source, asked): n for source, c in found.items() for asked, n in c.negatives.items()} == mined
    assert run_steps(chain.lake) == {}
    counts = status_of(chain.lake, Told())
    assert counts["pairs"].keys() == {"a", "b"}


def test_the_plan_counts_what_a_run_would_draw_from(chain: Chain) -> None:
    made = recipe(name="planned", teacher=f"{chain.teacher.document}/top2", epochs=1)
    overhead = starting_point(made).tokenizer.overhead
    found = stock(chain.lake, made, overhead)
    steps = [pairs(rows) for rows in batches_of(chain, made)]
    plan = plan_training(made, model_sizes(made), Micro(1024), 1, (), found.pairs, found.mean_tokens)
    assert plan.steps == len(steps)
    assert plan.pairs == sum(len(batch.queries) for batch in steps)
    read = sum(batch.tokens for batch in steps)
    assert plan.measured
    assert plan.tokens == pytest.approx(read, rel=0.15), "a pair may have fewer negatives than it asks for"
    everything = stock(chain.lake, made.model_copy(update={"filtered": False}), overhead)
    assert sum(everything.pairs.values()) == len(chain.kept_pairs()) > sum(found.pairs.values())
    assert stock(chain.lake, made.model_copy(update={"teacher": "nobody"}), overhead).pairs == {}


def test_another_question_is_answered_anew_and_a_recipe_says_which_it_means(chain: Chain) -> None:
    before = batches_of(chain, recipe())
    deeper = chain.mine.model_copy(update={"top": 1})
    assert filter_pairs(chain.lake, chain.teacher, deeper, "cpu", Told()).windows > 0
    with pytest.raises(TrainingError, match=r"judgements of one teacher.*top1, .*top2"):
        batches_of(chain, recipe(name="unsure"))
    meant = recipe(name="sure", teacher=f"{chain.teacher.document}/top2")
    assert [rows.column("hashes") for rows in batches_of(chain, meant)] == [
        rows.column("hashes") for rows in before
    ]
    assert batches_of(chain, recipe()) == before, "a run that was begun keeps its batches"


def test_a_teacher_that_labelled_an_evaluation_set_is_warned_of(chain: Chain) -> None:
    told = Told()
    embedded(chain.lake, chain.settings, "minilm", told)
    assert not any("labelled" in line for line in told.lines)
    overlap = {"labelled_by": ["another", "minilm"]}
    config = parse(PairsConfig, {**chain.pairs.model_dump(), "overlap": overlap}, "a test")
    make_pairs(chain.lake, config, SparkConfig(), Told())
    embedded(chain.lake, chain.settings, "minilm", told)
    assert any("labelled by 'minilm'" in line for line in told.lines)


def test_batches_of_other_tables_have_another_name(chain: Chain) -> None:
    names = [
        data_name(chain.lake, "run", "f", tables) for tables in (("pairs",), ("negatives",), ("absent",))
    ]
    assert len(set(names)) == 3
    assert data_name(chain.lake, "run", "f", ("pairs",)) == names[0]
    make_pairs(chain.lake, chain.pairs.model_copy(update={"least_chars": 12}), SparkConfig(), Told())
    assert data_name(chain.lake, "run", "f", ("pairs",)) != names[0]
