from random import Random

import pytest

from pipelines.encoder.conf import load_model_conf
from pipelines.encoder.quantise import VECTOR_TYPES, VectorType
from pipelines.encoder.tokenizer import Tokenizer
from pipelines.lake import LakeConfig
from pipelines.lake.config import SparkConfig
from pipelines.publish.config import PublishConfig
from pipelines.publish.run import publish
from tests.chunks import append_chunks
from tests.faults.changes import compact, expire, move, replace
from tests.publish.lakes import embed_pending, expected_rows, filled, serving_rows, titled

COLUMNS = ("text", "ordinal", "metadata.lang", "metadata")


@pytest.mark.parametrize("kind", VECTOR_TYPES)
def test_every_embedding_is_there_small_and_of_the_type_that_was_asked_for(
    local_config: LakeConfig, kind: VectorType
) -> None:
    lake = filled(local_config)
    report = publish(lake, PublishConfig(dim=16, type=kind, columns=COLUMNS), SparkConfig())
    assert (report.kind, report.rows, report.new) == ("full", 60, 60)
    assert report.table == f"serving_hash_16_{kind}"
    rows = serving_rows(lake, report.table)
    assert rows == expected_rows(lake, report.table, COLUMNS)
    assert len(rows) == 60


ALIGNED, OTHERS, NONE, SOURCE = ("source", "bucket(doc_id)"), ("lang", "bucket(doc_id, 3)"), (), ("source",)
_WALKS = [(0, ALIGNED), (1, OTHERS), (2, ALIGNED), (3, NONE)]
_MORE = [(seed, parts) for seed in range(4, 8) for parts in (ALIGNED, OTHERS, NONE, SOURCE)]


@pytest.mark.parametrize(
    ("seed", "partition_by"), [*_WALKS, *(pytest.param(*walk, marks=pytest.mark.slow) for walk in _MORE)]
)
def test_increments_give_what_publishing_all_at_once_gives(
    local_config: LakeConfig, seed: int, partition_by: tuple[str, ...]
) -> None:
    random = Random(seed)
    lake = filled(local_config)
    tokenizer = Tokenizer.load(load_model_conf("minilm"))
    columns = COLUMNS if seed % 3 or "lang" in partition_by else ()
    config = PublishConfig(
        table="serving",
        dim=16,
        columns=columns,
        partition_by=partition_by,
        rotate=seed % 4 == 2,
        refit_above=1,
    )
    publish(lake, config, SparkConfig())
    done = []
    for step in range(7):
        for action in random.sample(["append", "replace", "move", "compact", "expire", "embed"], 3):
            done.append(action)
            if action == "append":
                append_chunks(lake, titled(3, start=100 * step), tokenizer, rows_per_file=4)
            elif action == "replace":
                replace(lake, tokenizer, random, random.random(), random.random() < 0.7)
            elif action == "move":
                move(lake, random, random.random(), random.random() < 0.7)
            elif action == "compact":
                compact(lake, random.choice(["chunks", "embeddings", "serving"]), random)
            elif action == "expire":
                expire(lake)
            else:
                embed_pending(lake)
        report = publish(lake, config, SparkConfig())
        assert serving_rows(lake, "serving") == expected_rows(lake, "serving", columns), done
        again = publish(lake, config, SparkConfig())
        assert again.kind == "nothing", done
        assert (again.rows, report.kind != "full") == (len(serving_rows(lake, "serving")), True), done
