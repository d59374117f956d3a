from random import Random

import numpy as np
import pyarrow as pa
import pytest

from pipelines.cluster.session import RaySession
from pipelines.encoder.matryoshka import slice_renormalise
from pipelines.errors import CatalogError, ConfigError, InputError, ModelError
from pipelines.lake import Lake, LakeConfig
from pipelines.lake.config import SparkConfig
from pipelines.publish.config import PublishConfig
from pipelines.publish.report import Request
from pipelines.publish.run import publish
from pipelines.search.config import SearchConfig
from pipelines.search.hits import Hit
from pipelines.search.memory import Held
from pipelines.search.search import Searcher
from tests.chunks import ChunkText, append_chunks
from tests.embed.inline import embed_inline
from tests.search.conftest import Embedded
from tests.told import Told

_QUERY = "what does a committer append in Iceberg?"
_QUERIES = [_QUERY, "a fox", "Iceberg keeps snapshots of a table."]
_TYPES = ["float32", "float16", "int8", "binary"]


@pytest.fixture(scope="module")
def lake(embedded: Embedded) -> Lake:
    """The embedded lake, with a serving table of each type at full dimension, and two rotated ones."""
    lake = embedded.lake
    for kind in _TYPES:
        config = PublishConfig.model_validate({"table": kind, "type": kind, "columns": ["metadata.title"]})
        publish(lake, config, SparkConfig(), Request(release="first"))
    publish(lake, PublishConfig(table="rotated", type="float32", rotate=True), SparkConfig())
    publish(lake, PublishConfig(table="rotated_binary", type="binary", rotate=True), SparkConfig())
    return lake


def on(lake: Lake, embedded: Embedded, table: str, as_of: str | None = None, **config: object) -> Searcher:
    settings = SearchConfig.model_validate(config)
    return Searcher.open(lake, embedded.conf, table=table, as_of=as_of, config=settings)


def told(hits: list[Hit]) -> list[tuple[str, float]]:
    return [(hit.chunk_id, round(hit.score, 5)) for hit in hits]


@pytest.mark.parametrize("table", [*_TYPES, "rotated", "rotated_binary"])
def test_a_serving_table_answers_as_the_embeddings_do_within_its_type(
    lake: Lake, embedded: Embedded, searcher: Searcher, table: str
) -> None:
    exact = searcher.search(_QUERY, k=10)
    found = on(lake, embedded, table).search(_QUERY, k=10)
    if table in ("float32", "rotated"):
        assert [hit.text for hit in found] == [hit.text for hit in exact]
        assert np.allclose([hit.score for hit in found], [hit.score for hit in exact], atol=2e-6)
    else:
        both = {hit.chunk_id for hit in exact} & {hit.chunk_id for hit in found}
        assert len(both) >= {"float16": 10, "int8": 9, "binary": 6, "rotated_binary": 6}[table]


def test_a_rotated_table_turns_its_queries_too_at_every_dimension(lake: Lake, embedded: Embedded) -> None:
    mine = on(lake, embedded, "rotated")
    assert mine.source.rotation is not None
    query_d = mine.source.query(embedded.encoder.encode_texts([_QUERY], "query"), 32)[0]
    rotated = slice_renormalise(mine.source.rotation.apply(embedded.vectors), 32)
    best = mine.search(_QUERY, k=1, dim=32)[0]
    assert best.score == pytest.approx(float((rotated @ query_d).max()), abs=1e-6)


@pytest.mark.parametrize(("table", "funnel"), [("rotated", "binary"), ("rotated_binary", "prefix")])
def test_a_funnel_into_a_rotated_table_finds_what_an_exact_search_does(
    lake: Lake, embedded: Embedded, table: str, funnel: str
) -> None:
    mine = on(lake, embedded, table, funnel=funnel, shortlist=60)
    exact = mine.search_many(_QUERIES, k=10)
    found = mine.search_many(_QUERIES, k=10, funnel=True)
    both = [len(dict(told(a)).keys() & dict(told(b)).keys()) for a, b in zip(exact, found, strict=True)]
    assert np.mean(both) >= 9


def test_many_queries_at_once_give_what_each_gives(embedded: Embedded, searcher: Searcher) -> None:
    for dim in (384, 64):
        together = searcher.search_many(_QUERIES, k=7, dim=dim)
        one_by_one = [told(searcher.search(query, k=7, dim=dim)) for query in _QUERIES]
        assert [told(hits) for hits in together] == one_by_one


def test_spread_over_ray_it_gives_the_same(
    embedded: Embedded, searcher: Searcher, ray_session: RaySession
) -> None:
    del ray_session  # running: searches with workers take it
    spread = Searcher.open(embedded.lake, embedded.conf, config=SearchConfig(workers=2))
    for k in (1, 12, 500):
        assert told(spread.search(_QUERY, k=k)) == told(searcher.search(_QUERY, k=k))
    assert told(spread.search(_QUERY, source="manual")) == told(searcher.search(_QUERY, source="manual"))


@pytest.mark.parametrize("config", [{}, {"funnel_rotate": False}, {"funnel": "binary"}])
def test_a_funnel_with_all_in_its_shortlist_is_exact(
    embedded: Embedded, searcher: Searcher, config: dict[str, object]
) -> None:
    mine = Searcher.open(
        embedded.lake, embedded.conf, config=SearchConfig.model_validate({"shortlist": 1000, **config})
    )
    for k in (3, 500):
        assert told(mine.search(_QUERY, k=k, funnel=True)) == told(searcher.search(_QUERY, k=k))
    only = mine.search(_QUERY, k=500, source="manual", funnel=True)
    assert told(only) == told(searcher.search(_QUERY, k=500, source="manual"))


def test_a_short_shortlist_still_ranks_what_it_has_by_full_vectors(
    embedded: Embedded, searcher: Searcher
) -> None:
    exact = dict(told(searcher.search(_QUERY, k=500)))
    mine = Searcher.open(embedded.lake, embedded.conf, config=SearchConfig(shortlist=20))
    found = told(mine.search(_QUERY, k=10, funnel=True))
    assert all(exact[chunk] == score for chunk, score in found)
    assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)


def test_a_filter_on_a_published_column_narrows_the_search(lake: Lake, embedded: Embedded) -> None:
    hits = on(lake, embedded, "int8").search(_QUERY, k=100, where="title = 'Note 7'")
    assert {hit.metadata["title"] for hit in hits} == {"Note 7"}
    assert len(hits) == 2
    with pytest.raises(ConfigError, match=r"'language = 'nl''.*title"):
        on(lake, embedded, "int8").search(_QUERY, where="language = 'nl'")


def test_as_of_a_release_the_table_is_as_it_was_texts_of_gone_chunks_included(
    small: Lake, embedded: Embedded
) -> None:
    config = PublishConfig(table="serving", type="float32")
    publish(small, config, SparkConfig(), Request(release="first"))
    first = on(small, embedded, "serving").search(_QUERY, k=100)
    append_chunks(small, [ChunkText("notes", "late", _QUERY)], embedded.encoder.tokenizer)
    gone = first[0].doc_id
    for name in ("chunks", "embeddings"):
        small.table(name).delete(f"doc_id = '{gone}'")
    embed_inline(small, embedded.encoder)
    publish(small, config, SparkConfig())
    mine = on(small, embedded, "serving")
    now = mine.search(_QUERY, k=100)
    assert now[0].doc_id == "late"
    assert gone not in {hit.doc_id for hit in now}
    assert on(small, embedded, "serving", "first").search(_QUERY, k=100) == first
    with pytest.raises(InputError, match="no release or snapshot 'second'"):
        on(small, embedded, "serving", "second")
    publish(small, config, SparkConfig(), Request(release="second"))
    assert told(mine.search(_QUERY, k=3, funnel=True)) == told(now[:3])  # and what it holds follows the table
    for name in ("chunks", "embeddings"):
        small.table(name).delete("doc_id = 'late'")
    publish(small, config, SparkConfig())
    assert "late" not in {hit.doc_id for hit in mine.search(_QUERY, k=3, funnel=True)}


def test_dimensions_that_a_model_was_not_made_for_are_searched_with_a_warning(embedded: Embedded) -> None:
    progress = Told()
    mine = Searcher.open(embedded.lake, embedded.conf, progress=progress)
    assert len(mine.search(_QUERY, k=3, dim=100)) == 3
    assert any("not made for slices of 100" in line for line in progress.lines)


def test_tables_that_hold_no_vectors_and_models_that_they_are_not_by_are_told(
    lake: Lake, embedded: Embedded
) -> None:
    with pytest.raises(CatalogError, match="holds no published vectors"):
        on(lake, embedded, "chunks")
    with pytest.raises(CatalogError, match=r"has no table .* has made .*int8"):
        on(lake, embedded, "nowhere")
    with pytest.raises(ModelError, match="not by 'other'"):
        Searcher.open(lake, embedded.conf, model="other", table="int8")


@pytest.mark.parametrize("funnel", ["prefix", "binary"])
def test_in_memory_the_best_are_those_of_brute_force_ties_and_masks_included(funnel: str) -> None:
    rng = np.random.default_rng(3)
    for rows in (0, 1, 5, 200, 3000):
        x_ND = slice_renormalise(rng.integers(-2, 3, (rows, 16)).astype(np.float32) + np.float32(0.01), 16)
        ids = [f"{number:05d}" for number in Random(rows).sample(range(rows), rows)]
        keys = pa.table({name: pa.array(ids, pa.large_string()) for name in ("chunk_id", "doc_id", "source")})
        config = SearchConfig.model_validate({"funnel": funnel, "funnel_dim": 8, "shortlist": 3000})
        held = Held.of(x_ND, keys, config)
        query_d = slice_renormalise(rng.standard_normal((1, 16)).astype(np.float32), 16)[0]
        mask_N = rng.random(rows) < 0.5
        scores = (x_ND.astype(np.float64) * query_d).sum(axis=1)
        for mask in (None, mask_N):
            usable = [at for at in range(rows) if mask is None or mask[at]]
            best = sorted(usable, key=lambda at: (-scores[at], ids[at]))[:10]
            assert [one.chunk_id for one in held.exact(query_d, 10, mask)] == [ids[at] for at in best]
            assert [one.chunk_id for one in held.funnel(query_d, 10, 3000, mask)] == [ids[at] for at in best]


@pytest.fixture
def small(tmp_path_factory: pytest.TempPathFactory, embedded: Embedded) -> Lake:
    """A lake of a few chunks that a test may change."""
    lake = Lake.open(LakeConfig(dir=tmp_path_factory.mktemp("small"), buckets=2))
    texts = [ChunkText("notes", f"d{n}", f"Note {n}: a committer appends {n} files.") for n in range(12)]
    append_chunks(lake, texts, embedded.encoder.tokenizer)
    embed_inline(lake, embedded.encoder)
    return lake
