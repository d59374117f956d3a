from dataclasses import astuple
from datetime import UTC, datetime

import pytest

from pipelines.lake import Lake, LakeConfig
from pipelines.lake.commit import append_files
from pipelines.lake.counts import DocumentCounts, count, document_counts
from pipelines.lake.datafiles import write_data_file
from tests.embed.deletes import delete_positions
from tests.lake.samples import opened, rejects, typed


def append(lake: Lake, name: str, rows: list[dict[str, object]]) -> str:
    file = write_data_file(lake.table(name), typed(name, rows), "test")
    append_files(lake.table(name), [file], {})
    return file.path


def chunk(doc_id: str, ordinal: int) -> dict[str, object]:
    return {
        "chunk_id": f"{doc_id}-{ordinal}",
        "doc_id": doc_id,
        "source": "notes",
        "ordinal": ordinal,
        "text": "a b",
        "text_hash": "h",
        "char_start": 0,
        "char_end": 3,
        "input_ids": [1, 2],
        "n_tokens": 2,
    }


def document(doc_id: str, outcome: str) -> dict[str, object]:
    return {
        "doc_id": doc_id,
        "given_id": doc_id,
        "source": "notes",
        "arrival": datetime(2026, 1, 1, tzinfo=UTC),
        "text_hash": "h",
        "version": "v",
        "n_chars": 3,
        "outcome": outcome,
        "stage": "curate",
        "input": "in",
        "file": "in/a.jsonl",
        "position": 0,
    }


def test_a_lake_without_tables_counts_nothing(lake_config: LakeConfig) -> None:
    assert astuple(document_counts(Lake.open(lake_config))) == (0, 0, 0, 0, 0)


def test_empty_tables_count_nothing(lake_config: LakeConfig) -> None:
    assert astuple(document_counts(opened(lake_config))) == (0, 0, 0, 0, 0)


@pytest.fixture
def lake(lake_config: LakeConfig) -> Lake:
    """Two kept documents in five chunks, one duplicate, two rejects of curate and one of embed."""
    lake = opened(lake_config.model_copy(update={"buckets": 1}))
    append(lake, "chunks", [chunk("a", 0), chunk("a", 1), chunk("a", 2)])
    append(lake, "chunks", [chunk("b", 0), chunk("b", 1)])
    append(
        lake,
        "documents",
        [document("a", "kept"), document("b", "kept"), document("c", "duplicate"), document("d", "rejected")],
    )
    append(lake, "documents", [document("file", "rejected")])
    duplicate = {"doc_id": "c", "source": "notes", "kept_doc_id": "a", "kind": "exact", "similarity": 1.0}
    append(lake, "duplicates", [duplicate])
    for stage, key in (("curate", "d"), ("read", "file"), ("embed", "m@1/a-1")):
        file = write_data_file(lake.table("rejects"), rejects([key], stage), "test")
        append_files(lake.table("rejects"), [file], {})
    return lake


def test_each_kind_is_counted_by_itself_and_rejects_of_embedding_are_no_documents(lake: Lake) -> None:
    counts = document_counts(lake)
    assert counts == DocumentCounts(documents=5, kept=2, duplicates=1, rejects=2, chunks=5)
    assert counts.documents == counts.kept + counts.duplicates + counts.rejects


def test_a_filter_counts_rows_and_not_files(lake: Lake) -> None:
    assert count(lake, "chunks", "doc_id = 'a'") == 3
    assert count(lake, "chunks", "doc_id = 'z'") == 0
    assert count(lake, "rejects", "stage = 'embed'") == 1


def test_a_table_that_is_not_there_has_no_rows(lake: Lake) -> None:
    assert count(lake, "nothing") == 0


def test_deleted_rows_do_not_count(local_config: LakeConfig) -> None:
    lake = opened(local_config.model_copy(update={"buckets": 1}))
    path = append(lake, "chunks", [chunk("a", 0), chunk("a", 1), chunk("b", 0)])
    delete_positions(lake, "chunks", path, [0, 1])
    assert astuple(document_counts(lake)) == (0, 1, 0, 0, 1)
