"""Search in a real lake, against a sort of all its vectors in memory."""

import json

import numpy as np
import pyarrow as pa
import pytest

from pipelines.encoder.conf import ModelConf
from pipelines.encoder.fingerprint import describe_model
from pipelines.encoder.matryoshka import slice_renormalise
from pipelines.encoder.tokenizer import Tokenizer
from pipelines.errors import CatalogError, ConfigError, InputError, ModelError
from pipelines.lake import Lake, LakeConfig
from pipelines.lake.commit import append_files
from pipelines.lake.datafiles import write_data_file
from pipelines.lake.filters import equals, is_one_of
from pipelines.lake.scan import read_file, scan_files
from pipelines.lake.tables import MODEL_PROPERTY
from pipelines.lake.vectors import as_matrix
from pipelines.search.choice import choose_model
from pipelines.search.search import Searcher, search
from tests.chunks import append_chunks, corpus
from tests.embed.deletes import delete_positions
from tests.embed.inline import embed_inline
from tests.search.conftest import Embedded
from tests.told import Told

_QUERY = "which part of the table remembers earlier states?"


def _brute_force(embedded: Embedded, query: str, dim: int) -> list[tuple[str, float]]:
    query_d = slice_renormalise(embedded.encoder.encode_texts([query], "query"), dim)[0].astype(np.float64)
    scores = (slice_renormalise(embedded.vectors, dim).astype(np.float64) * query_d).sum(axis=1)
    return sorted(zip(embedded.chunk_ids, scores.tolist(), strict=True), key=lambda pair: (-pair[1], pair[0]))


@pytest.mark.parametrize("dim", [384, 256, 128, 64, 32])
@pytest.mark.parametrize("k", [1, 10, 1000])
def test_hits_are_those_of_brute_force(embedded: Embedded, searcher: Searcher, dim: int, k: int) -> None:
    hits = searcher.search(_QUERY, k=k, dim=dim)
    expected = _brute_force(embedded, _QUERY, dim)[:k]
    assert [hit.chunk_id for hit in hits] == [chunk_id for chunk_id, _ in expected]
    assert [hit.score for hit in hits] == pytest.approx([score for _, score in expected], abs=1e-6)
    assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))
    assert all(hit.text == embedded.texts[hit.chunk_id] for hit in hits)


def test_equal_scores_are_in_the_order_of_chunk_ids(embedded: Embedded, searcher: Searcher) -> None:
    hits = searcher.search("Iceberg keeps snapshots of a table.", k=5)
    assert {hit.text for hit in hits} == {"Iceberg keeps snapshots of a table."}
    ids = [hit.chunk_id for hit in hits if hit.score == hits[0].score]
    assert len(ids) > 1
    assert ids == sorted(ids)


def test_a_hit_carries_its_chunk(embedded: Embedded, searcher: Searcher) -> None:
    (hit,) = searcher.search("a fox jumping over a dog", k=1)
    assert (hit.doc_id, hit.source, hit.text) == (
        "fox",
        "notes",
        "The quick brown fox jumps over the lazy dog.",
    )
    assert (hit.ordinal, hit.char_start, hit.char_end) == (0, 0, len(hit.text))
    title = searcher.search("note 12", k=1, source="manual")[0].metadata["title"]
    assert title is not None
    assert title.startswith("Note")


def test_a_source_narrows_the_search(embedded: Embedded, searcher: Searcher) -> None:
    within = {
        chunk_id
        for chunk_id, source in zip(embedded.chunk_ids, embedded.sources, strict=True)
        if source == "manual"
    }
    expected = [chunk_id for chunk_id, _ in _brute_force(embedded, _QUERY, 384) if chunk_id in within]
    hits = searcher.search(_QUERY, k=1000, source="manual")
    assert [hit.chunk_id for hit in hits] == expected
    with pytest.raises(InputError, match=r"source 'manuel'.*manual, notes"):
        searcher.search(_QUERY, source="manuel")


@pytest.mark.parametrize("query", ["", "  \n\t"])
def test_an_empty_query_is_refused(searcher: Searcher, query: str) -> None:
    with pytest.raises(InputError, match="query is empty"):
        searcher.search(query)


@pytest.mark.parametrize(
    ("query", "is_told"),
    [
        ("what does the committer append in pyiceberg 0.12?", False),
        ("สวัสดีครับ คุณสบายดีไหม", True),
        ("как работает индекс", True),
        ("数据库索引如何工作", True),
        ("\u200b?\u200b", False),
    ],
)
def test_a_query_in_a_language_that_the_tokenizer_barely_knows_is_answered_with_a_warning(
    embedded: Embedded, query: str, is_told: bool
) -> None:
    told = Told()
    assert len(Searcher.open(embedded.lake, embedded.conf, progress=told).search(query, k=3)) == 3
    assert any("hardly knows the query's words" in line for line in told.lines) == is_told


def test_a_query_longer_than_the_model_reads_is_refused(searcher: Searcher) -> None:
    assert len(searcher.search("fox " * 510, k=1)) == 1
    with pytest.raises(InputError, match=r"513 tokens with its prefix.*reads 512"):
        searcher.search("fox " * 511)


def test_a_dimension_that_the_vectors_have_not_is_refused(searcher: Searcher) -> None:
    with pytest.raises(ConfigError, match=r"384 dimensions, and cannot be compared in 500.*384, 256, 128"):
        searcher.search(_QUERY, dim=500)
    with pytest.raises(ConfigError, match="at least 1 hit"):
        searcher.search(_QUERY, k=0)


def test_the_lake_s_only_model_needs_no_name(embedded: Embedded) -> None:
    hits = search(embedded.lake, None, "a fox jumping over a dog", k=1)
    assert hits[0].doc_id == "fox"


def test_a_lake_without_embeddings_says_what_to_run(local_config: LakeConfig, embedded: Embedded) -> None:
    lake = Lake.open(local_config)
    with pytest.raises(CatalogError):
        search(lake, embedded.conf, _QUERY)
    lake.ensure_tables()
    with pytest.raises(ModelError, match=r"no embeddings.*embedlake embed"):
        search(lake, embedded.conf, _QUERY)
    with lake.table("embeddings").transaction() as transaction:  # a run that died before its first commit
        identity = json.dumps({"name": "minilm", "dimension": 384, "precision": embedded.encoder.precision})
        transaction.set_properties({MODEL_PROPERTY + embedded.encoder.key: identity})
    with pytest.raises(ModelError, match=r"no embeddings.*yet.*embedlake embed"):
        search(lake, embedded.conf, _QUERY)


# Which model.


def _recorded(*keys: str) -> dict[str, dict[str, str]]:
    return {
        key: {"precision": precision} for key, precision in zip(keys, ("bfloat16", "float32"), strict=False)
    }


def _keys(conf: ModelConf) -> tuple[str, str]:
    return describe_model(conf, "bfloat16").key, describe_model(conf, "float32").key


def test_a_name_with_two_precisions_must_be_chosen_from(embedded: Embedded) -> None:
    keys = _keys(embedded.conf)
    recorded = _recorded(*keys)
    for conf in (embedded.conf, None):
        with pytest.raises(ModelError, match=rf"several models fit: .*{keys[1]} \(float32\).*[Nn]ame one"):
            choose_model(recorded, conf)
        assert choose_model(recorded, conf, keys[1])[1] == keys[1]
    fixed = embedded.conf.model_copy(update={"precision": "bfloat16"})
    assert choose_model(recorded, fixed)[1] == keys[0]


def test_vectors_of_other_weights_are_not_searched(embedded: Embedded) -> None:
    with pytest.raises(ModelError, match=r"\(minilm@000000000000\) are of other weights or settings"):
        choose_model(_recorded("minilm@000000000000"), embedded.conf)
    with pytest.raises(ModelError, match=r"no embeddings by 'minilm', only by other@000000000000"):
        choose_model(_recorded("other@000000000000"), embedded.conf)
    with pytest.raises(ModelError, match=r"no embeddings by 'minimum'.*It has those of minilm@0"):
        choose_model(_recorded("minilm@000000000000"), embedded.conf, "minimum")
    with pytest.raises(ModelError, match="several models fit: one, two"):
        choose_model(_recorded("one@000000000000", "two@000000000000"), None)


# What else may be in the tables.


@pytest.fixture
def small(local_config: LakeConfig, embedded: Embedded) -> Lake:
    """A lake of a test's own."""
    lake = Lake.open(local_config)
    append_chunks(lake, corpus(8), Tokenizer.load(embedded.conf), rows_per_file=5)
    embed_inline(lake, embedded.encoder)
    return lake


def _searcher(lake: Lake, like: Searcher) -> Searcher:
    """Another lake's, with the model that is loaded already."""
    made = Searcher.open(lake, like.conf)
    made._queries = like._queries
    return made


def test_embeddings_of_chunks_that_are_gone_are_passed_over(small: Lake, searcher: Searcher) -> None:
    mine = _searcher(small, searcher)
    before = mine.search(_QUERY, k=16)
    small.table("chunks").delete(is_one_of("chunk_id", [hit.chunk_id for hit in before[:5]]))
    after = mine.search(_QUERY, k=3)
    assert [hit.chunk_id for hit in after] == [hit.chunk_id for hit in before[5:8]]
    assert [hit.rank for hit in after] == [1, 2, 3]
    assert len(mine.search(_QUERY, k=100)) == 11


def test_a_search_tells_of_every_vector_and_an_unknown_source_before_a_model_is_loaded(small: Lake) -> None:
    told = Told()
    mine = Searcher.open(small, progress=told)
    with pytest.raises(InputError, match=r"no embeddings of a source 'nowhere'"):
        mine.search(_QUERY, source="nowhere")
    assert told.steps == []
    mine.search(_QUERY, k=1)
    rows = small.table("embeddings").scan().count()
    assert told.steps == [("loading the model", None, "models"), ("searching", rows, "vectors")]
    assert told.amounts == sorted(told.amounts)
    assert told.amounts[-1] == rows


def test_deleted_embeddings_are_not_found(small: Lake, searcher: Searcher) -> None:
    mine = _searcher(small, searcher)
    best = mine.search(_QUERY, k=1)[0].chunk_id
    for file in scan_files(small.table("embeddings")):
        ids = read_file(small.table("embeddings"), file, ["chunk_id"]).column(0).to_pylist()
        if best in ids:
            delete_positions(small, "embeddings", file.path, [ids.index(best)])
    assert best not in [hit.chunk_id for hit in mine.search(_QUERY, k=100)]


def test_vectors_of_another_length_are_an_error(small: Lake, searcher: Searcher) -> None:
    table = small.table("embeddings")
    row = table.scan(row_filter=equals("source", "notes"), limit=1).to_arrow()
    column = row.schema.get_field_index("embedding")
    short = row.set_column(column, "embedding", pa.array([[1.0, 0.0]], pa.list_(pa.float32())))
    append_files(table, [write_data_file(table, short, "short")], {})
    mine = _searcher(small, searcher)
    with pytest.raises(ModelError, match="have not the recorded dimension of 384"):
        mine.search(_QUERY)


def test_a_matrix_is_a_view_of_the_column() -> None:
    values = np.arange(12, dtype=np.float32)
    column = pa.LargeListArray.from_arrays(pa.array([0, 4, 8, 12]), pa.array(values))
    matrix = as_matrix(column.slice(1), 4)
    assert matrix.tolist() == [[4, 5, 6, 7], [8, 9, 10, 11]]
    assert matrix.ctypes.data == column.values.to_numpy()[4:].ctypes.data
    with pytest.raises(ModelError):
        as_matrix(column, 3)
