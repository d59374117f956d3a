"""The engine on a cluster of several nodes, whose accelerators are logical: they join, go and die in it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.encoder.conf import ModelConf
from pipelines.encoder.fingerprint import describe_model
from pipelines.encoder.tokenizer import Tokenizer
from pipelines.lake import Lake
from tests.chunks import ChunkText, append_chunks
from tests.embed.inline import check_accounts, vectors
from tests.embed.marking import ENDS, RAISES, vector_of

_ROOT = Path(__file__).parents[2]
_CHUNKS = 60
_FAST = {"label_selector": {"kind": "fast"}, "unit_tokens": 60}
Answer = dict[str, Any]
Run = Callable[..., Answer]


@pytest.fixture(scope="module")
def cluster() -> Iterator["subprocess.Popen[str]"]:
    """A driver with a cluster of its own: this process has another Ray."""
    command = [sys.executable, "-m", "tests.embed.cluster"]
    environment = os.environ | {"PYTHONPATH": str(_ROOT), "CUDA_VISIBLE_DEVICES": "0"}
    with subprocess.Popen(
        command, cwd=_ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as driver:
        yield driver
        assert driver.stdin is not None
        driver.stdin.close()


@pytest.fixture
def run(cluster: "subprocess.Popen[str]", lake: Lake, tmp_path: Path) -> Run:
    """Embeds a lake of 60 chunks on the cluster."""

    def embedded(config: dict[str, Any], **asked: Any) -> Answer:
        notes = tmp_path / "notes"
        notes.mkdir()
        asked |= {"lake": lake.config.model_dump(mode="json"), "folder": str(notes), "config": config}
        assert cluster.stdin is not None
        assert cluster.stdout is not None
        cluster.stdin.write(json.dumps(asked) + "\n")
        cluster.stdin.flush()
        for line in cluster.stdout:
            if line.startswith("ANSWER "):
                answer: Answer = json.loads(line.removeprefix("ANSWER "))
                return answer
        raise AssertionError("the driver has ended")

    return embedded


@pytest.fixture
def key(conf: ModelConf) -> str:
    """Of the model on an accelerator."""
    return describe_model(conf, "bfloat16").key


def _all_there_once(lake: Lake, key: str, tokenizer: Tokenizer, conf: ModelConf) -> None:
    assert check_accounts(lake, key) == 0
    rows = vectors(lake, key).to_pylist()
    chunks = lake.table("chunks").scan().to_arrow().to_pylist()
    texts = {chunk["chunk_id"]: chunk["text"] for chunk in chunks}
    for row in rows:
        (ids,) = tokenizer.model_inputs([texts[row["chunk_id"]]], conf.prefix("document"))
        expected = vector_of(np.asarray(ids), len(row["embedding"]))
        assert np.allclose(row["embedding"], expected)


def test_encoders_are_where_their_accelerator_is_and_reading_and_writing_where_it_is_not(
    run: Run, lake: Lake, key: str, tokenizer: Tokenizer, conf: ModelConf
) -> None:
    answer = run(_FAST)
    assert (answer["rows"], answer["rejects"]) == (_CHUNKS, 0)
    assert answer["encoded"] == answer["started"] == ["a"]
    assert answer["places"] == {"EncoderActor": ["a"], "HelperActor": ["cpu"]}
    _all_there_once(lake, key, tokenizer, conf)


def test_a_node_that_joins_gets_work(
    run: Run, lake: Lake, key: str, tokenizer: Tokenizer, conf: ModelConf
) -> None:
    answer = run(_FAST, event="joins")
    assert (answer["rows"], answer["rejects"]) == (_CHUNKS, 0)
    assert answer["encoded"] == answer["started"] == ["a", "c"]
    _all_there_once(lake, key, tokenizer, conf)


@pytest.mark.slow
def test_a_node_that_goes_costs_no_row(
    run: Run, lake: Lake, key: str, tokenizer: Tokenizer, conf: ModelConf
) -> None:
    answer = run(_FAST, event="goes")
    assert (answer["rows"], answer["rejects"]) == (_CHUNKS, 0)
    assert answer["started"] == ["a", "c"]
    assert answer["encoded"] == ["a"]
    _all_there_once(lake, key, tokenizer, conf)


@pytest.mark.slow
def test_a_node_that_goes_with_what_it_has_read_costs_no_row(
    run: Run, lake: Lake, key: str, tokenizer: Tokenizer, conf: ModelConf
) -> None:
    answer = run({**_FAST, "units_ahead": 3}, event="helper goes")
    assert (answer["rows"], answer["rejects"]) == (_CHUNKS, 0)
    assert answer["places"]["HelperActor"] == ["cpu", "d"]
    assert answer["started"] == ["a"]
    _all_there_once(lake, key, tokenizer, conf)


@pytest.mark.slow
def test_an_encoder_that_is_killed_is_replaced(
    run: Run, lake: Lake, key: str, tokenizer: Tokenizer, conf: ModelConf
) -> None:
    answer = run(_FAST, event="killed")
    assert (answer["rows"], answer["rejects"]) == (_CHUNKS, 0)
    assert answer["started"] == ["a", "a"]
    _all_there_once(lake, key, tokenizer, conf)


@pytest.mark.slow
def test_rows_that_no_encoder_can_take_are_rejected_alone(
    run: Run, lake: Lake, key: str, tokenizer: Tokenizer
) -> None:
    odd = [ChunkText("odd", "doc", f"odd {n}", n, ids=(2023, 2024 + n)) for n in range(6)]
    odd[2] = ChunkText("odd", "doc", "raises", 2, ids=(2023, RAISES))
    odd[4] = ChunkText("odd", "doc", "ends", 4, ids=(2023, ENDS, 5))
    append_chunks(lake, odd, tokenizer)
    answer = run({**_FAST, "unit_rows": 4})
    assert (answer["rows"], answer["rejects"]) == (_CHUNKS + 4, 2)
    rows = lake.table("rejects").scan().to_arrow().to_pylist()
    assert {(row["reason"], row["excerpt"]) for row in rows} == {("failed", "raises"), ("crashed", "ends")}
    details = {row["reason"]: row["detail"] for row in rows}
    assert details["failed"] == "ValueError: a row that cannot be encoded"
    assert details["crashed"]
    assert check_accounts(lake, key) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("broken", "told"),
    [
        ("raises", "fails whatever it is given: RuntimeError: this accelerator is broken"),
        ("ends", "ends whatever it is given: "),
    ],
)
def test_an_encoder_that_fails_on_everything_ends_the_run_and_rejects_nothing(
    run: Run, lake: Lake, key: str, broken: str, told: str
) -> None:
    answer = run({**_FAST, "unit_rows": 2}, broken=broken)
    assert answer["error"] == "EnvironmentFault"
    assert told in answer["message"]
    assert lake.table("rejects").scan().count() == 0
    assert check_accounts(lake, key) == _CHUNKS


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"label_selector": {"kind": "huge"}}, "1 GPU and the labels kind=huge"),
        ({"gpus_per_actor": 4.0}, "4 GPU"),
    ],
)
def test_what_no_node_has_ends_the_run(
    run: Run, lake: Lake, key: str, config: dict[str, Any], named: str
) -> None:
    answer = run({**config, "node_wait_seconds": 3.0})
    assert answer["error"] == "EnvironmentFault"
    assert f"no Ray node has {named} for an encoder, after 3 s" in answer["message"]
    assert answer["started"] == []
    assert check_accounts(lake, key) == _CHUNKS
