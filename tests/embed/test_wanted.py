"""A run about some of the chunks: exactly these are embedded, and a later run about all does the rest."""

from collections.abc import Callable
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from pipelines.cluster.config import RayConfig
from pipelines.embed.config import EmbedConfig
from pipelines.embed.plan.plan import Wanted
from pipelines.embed.plan.survey import survey
from pipelines.embed.run import embed
from pipelines.encoder.conf import ModelConf
from pipelines.encoder.model import Encoder
from pipelines.encoder.tokenizer import Tokenizer
from pipelines.errors import ModelError
from pipelines.lake import Lake
from pipelines.lake.filters import is_one_of
from pipelines.lake.scan import scan_files
from pipelines.progress import Silent
from tests.chunks import ChunkText, append_chunks, sentence
from tests.embed.deletes import delete_positions
from tests.embed.inline import InlineRun, check_accounts, embed_inline, vectors

_CHUNKS = 60


def _chunks(lake: Lake) -> pa.Table:
    return lake.table("chunks").scan().to_arrow()


def _ids(rows: pa.Table) -> set[str]:
    return set(rows.column("chunk_id").to_pylist())


def _embed_wanted(lake: Lake, encoder: Encoder, wanted: Wanted) -> InlineRun:
    run = InlineRun.start(lake, encoder, wanted)
    units = run.work(limit=wanted.limit)
    if units:
        run.commit(units)
    return run


def _rest_is_done(lake: Lake, encoder: Encoder, done: int) -> None:
    """What was embedded is counted, the rest is pending, and one more run balances all."""
    assert check_accounts(lake, encoder.key) == _chunks(lake).num_rows - done
    assert embed_inline(lake, encoder).rows == _chunks(lake).num_rows - done
    assert check_accounts(lake, encoder.key) == 0


def test_of_one_source_alone(any_lake: Lake, encoder: Encoder) -> None:
    lake = any_lake
    expected = _ids(_chunks(lake).filter(pc.equal(_chunks(lake).column("source"), "manual")))
    run = _embed_wanted(lake, encoder, Wanted(source="manual"))
    assert run.plan.pending_rows == len(expected) == 30
    assert _ids(vectors(lake, encoder.key)) == expected
    assert _embed_wanted(lake, encoder, Wanted(source="manual")).plan.pending_rows == 0
    assert survey(lake, encoder.key, wanted=Wanted(source="nobody's")).pending_rows == 0
    _rest_is_done(lake, encoder, 30)


def test_of_files_that_came_after_a_time(lake: Lake, encoder: Encoder, tokenizer: Tokenizer) -> None:
    old = _ids(_chunks(lake))
    snapshot = lake.table("chunks").current_snapshot()
    assert snapshot is not None
    then = datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC)
    append_chunks(lake, [ChunkText("notes", f"new-{n}", sentence(900 + n)) for n in range(5)], tokenizer)
    run = _embed_wanted(lake, encoder, Wanted(since=then))
    assert run.plan.pending_rows == 5
    assert _ids(vectors(lake, encoder.key)) == _ids(_chunks(lake)) - old
    assert survey(lake, encoder.key, wanted=Wanted(since=datetime.now(UTC))).pending_rows == 0
    everything = Wanted(since=datetime.fromtimestamp(0, UTC))
    assert survey(lake, encoder.key, wanted=everything).pending_rows == _CHUNKS
    _rest_is_done(lake, encoder, 5)


@pytest.mark.parametrize("limit", [1, 7, 25, 59, 60, 999])
def test_a_limit_is_kept_to_the_row(lake: Lake, encoder: Encoder, limit: int) -> None:
    run = _embed_wanted(lake, encoder, Wanted(limit=limit))
    assert run.plan.pending_rows == _CHUNKS
    assert vectors(lake, encoder.key).num_rows == min(limit, _CHUNKS)
    _rest_is_done(lake, encoder, min(limit, _CHUNKS))


def test_limits_one_after_another_end_with_all(lake: Lake, encoder: Encoder) -> None:
    for number in range(1, 5):
        _embed_wanted(lake, encoder, Wanted(limit=15))
        assert check_accounts(lake, encoder.key) == _CHUNKS - 15 * number


@pytest.mark.parametrize(
    ("where", "matches"),
    [
        ("n_tokens > 25", lambda rows: pc.greater(rows.column("n_tokens"), 25)),
        ("doc_id = 'doc-00003'", lambda rows: pc.equal(rows.column("doc_id"), "doc-00003")),
        (
            "text like 'A snapshot%' and ordinal = 1",
            lambda rows: pc.and_(
                pc.starts_with(rows.column("text"), "A snapshot"), pc.equal(rows.column("ordinal"), 1)
            ),
        ),
    ],
)
def test_only_rows_of_a_filter(
    lake: Lake, encoder: Encoder, where: str, matches: Callable[[pa.Table], pa.Array]
) -> None:
    expected = _ids(_chunks(lake).filter(matches(_chunks(lake))))
    assert 0 < len(expected) < _CHUNKS
    run = _embed_wanted(lake, encoder, Wanted(where=where))
    assert run.plan.pending_rows >= len(expected)
    assert _ids(vectors(lake, encoder.key)) == expected
    assert run.committer.total.rows == len(expected)
    again = _embed_wanted(lake, encoder, Wanted(where=where))
    assert again.committer.total.rows == 0
    _rest_is_done(lake, encoder, len(expected))


def test_a_filter_leaves_deleted_rows_out_too(lake: Lake, encoder: Encoder) -> None:
    file = max(scan_files(lake.table("chunks")), key=lambda file: file.rows)
    delete_positions(lake, "chunks", file.path, [0, 2])
    rows = _chunks(lake)
    assert rows.num_rows == _CHUNKS - 2
    expected = _ids(rows.filter(pc.greater(rows.column("n_tokens"), 12)))
    _embed_wanted(lake, encoder, Wanted(where="n_tokens > 12"))
    assert _ids(vectors(lake, encoder.key)) == expected
    _rest_is_done(lake, encoder, len(expected))


def test_a_source_a_filter_and_a_limit_hold_together(lake: Lake, encoder: Encoder) -> None:
    _embed_wanted(lake, encoder, Wanted(source="manual", where="ordinal = 0", limit=10))
    rows = vectors(lake, encoder.key)
    assert 0 < rows.num_rows <= 10
    assert set(rows.column("source").to_pylist()) == {"manual"}
    chosen = _chunks(lake).filter(pc.is_in(_chunks(lake).column("chunk_id"), pa.array(sorted(_ids(rows)))))
    assert set(chosen.column("ordinal").to_pylist()) == {0}
    _rest_is_done(lake, encoder, rows.num_rows)


def _rewritten(lake: Lake, ids: list[str]) -> None:
    lake.table("chunks").delete(is_one_of("chunk_id", ids))


def _by_position(lake: Lake, ids: list[str]) -> None:
    for file in scan_files(lake.table("chunks")):
        rows = lake.table("chunks").io.new_input(file.path)
        with rows.open() as stream:
            found = pq.read_table(stream, columns=["chunk_id"]).column(0).to_pylist()
        at = [position for position, chunk_id in enumerate(found) if chunk_id in ids]
        if at:
            delete_positions(lake, "chunks", file.path, at)


@pytest.mark.parametrize("delete", [_rewritten, _by_position])
def test_embeddings_of_chunks_that_go_after_the_commit_are_swept(
    lake: Lake, conf: ModelConf, encoder: Encoder, delete: Callable[[Lake, list[str]], None]
) -> None:
    embed_inline(lake, encoder)
    gone = sorted(_ids(vectors(lake, encoder.key)))[:7]
    delete(lake, gone)
    assert vectors(lake, encoder.key).num_rows == _CHUNKS
    report = embed(lake, conf, EmbedConfig(), RayConfig(), Silent())  # nothing to embed: no Ray
    assert (report.swept_rows, report.rows, report.settled_rows) == (7, 0, _CHUNKS - 7)
    assert _ids(vectors(lake, encoder.key)) == _ids(_chunks(lake))
    assert check_accounts(lake, encoder.key) == 0
    assert embed(lake, conf, EmbedConfig(), RayConfig(), Silent()).swept_rows == 0


def test_rejects_of_chunks_that_go_are_swept(
    lake: Lake, conf: ModelConf, encoder: Encoder, tokenizer: Tokenizer
) -> None:
    append_chunks(lake, [ChunkText("odd", "doc-odd", "long", ids=(2023,) * 600)], tokenizer)
    assert embed_inline(lake, encoder).rejects == 1
    lake.table("chunks").delete(is_one_of("doc_id", ["doc-odd"]))
    assert lake.table("rejects").scan().count() == 1
    report = embed(lake, conf, EmbedConfig(), RayConfig(), Silent())
    assert (report.swept_rows, lake.table("rejects").scan().count()) == (1, 0)
    assert check_accounts(lake, encoder.key) == 0


def test_a_table_of_chunks_without_token_ids_is_refused(lake: Lake, conf: ModelConf) -> None:
    with lake.table("chunks").update_schema() as update:
        update.delete_column("input_ids")
    with pytest.raises(ModelError, match=r"no column 'input_ids'.*another namespace"):
        embed(lake, conf, EmbedConfig(), RayConfig(), Silent())
