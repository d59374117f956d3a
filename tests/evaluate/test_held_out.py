"""Held-out pairs as retrieval data sets."""

import json
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.io.pyarrow import schema_to_pyarrow

from jobs.evaluate import Outputs, run_pairs
from jobs.settings import Settings
from pipelines.errors import InputError
from pipelines.evaluate.config import EvaluateConfig
from pipelines.evaluate.held_out import held_out_pairs
from pipelines.lake import Lake, LakeConfig
from pipelines.lake.training_tables import PAIRS
from pipelines.text import text_hash

ROWS = [
    ("a", "a red fruit", "An apple grows on a tree.", "held_out"),
    ("a", "a red fruit", "A cherry is small and sweet.", "held_out"),
    ("a", "fast trains", "Railways between large cities.", "held_out"),
    ("a", "trained on", "This text is not to be judged by.", "kept"),
    ("b", "deep water", "The ocean floor.", "held_out"),
    ("c", "none apart", "Of this source nothing is held out.", "kept"),
]


@pytest.fixture
def lake(local_config: LakeConfig) -> Lake:
    made = Lake.open(local_config)
    made.ensure_namespace()
    made.create(PAIRS)
    rows = [
        {
            "pair_id": str(number),
            "source": source,
            "query": query,
            "document": document,
            "query_hash": text_hash(query),
            "document_hash": text_hash(document),
            "objective": "search",
            "query_prefix": "",
            "document_prefix": "",
            "ordinal": number,
            "copies": 1,
            "outcome": outcome,
        }
        for number, (source, query, document, outcome) in enumerate(ROWS)
    ]
    table = made.table(PAIRS.name)
    table.append(pa.Table.from_pylist(rows, schema_to_pyarrow(table.schema(), include_field_ids=False)))
    return made


def test_each_source_is_a_data_set_of_what_is_held_out(lake: Lake) -> None:
    found = held_out_pairs(lake)
    assert found.keys() == {"a", "b"}
    assert sorted(found["a"].queries.values()) == ["a red fruit", "fast trains"]
    assert len(found["a"].documents) == 3
    answers = found["a"].codes[text_hash("a red fruit")]
    assert answers == {text_hash(document): 1 for _, query, document, _ in ROWS if query == "a red fruit"}
    assert held_out_pairs(lake, ["b"]).keys() == {"b"}


@pytest.mark.parametrize("source", ["c", "absent"])
def test_a_source_without_held_out_pairs_is_told(lake: Lake, source: str) -> None:
    with pytest.raises(InputError, match=f"no pair of {source} is held out"):
        held_out_pairs(lake, ["a", source])


def test_the_job_judges_a_model_by_them(lake: Lake, tmp_path: Path) -> None:
    settings = Settings(lake=lake.config, evaluate=EvaluateConfig(dims=(384, 64), types=("float32",)))
    run_pairs(settings, None, Outputs(tmp_path / "figures.json", None, None))
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures.keys() == {"a", "b"}
    assert [row["dim"] for row in figures["a"]["rows"]] == [384, 64]
    assert figures["a"]["rows"][0]["ndcg@10"] > 0.9
    assert (figures["a"]["documents"], figures["a"]["queries"]) == (3, 2)
