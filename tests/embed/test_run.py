"""The whole stage on a real Ray."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlparse

import numpy as np
import pytest
import ray

from pipelines.cluster.config import RayConfig
from pipelines.cluster.session import RaySession
from pipelines.embed.config import EmbedConfig
from pipelines.embed.run import embed
from pipelines.encoder.conf import ModelConf
from pipelines.encoder.model import Encoder
from pipelines.encoder.tokenizer import Tokenizer
from pipelines.errors import CatalogError, CommitError, ModelError, StorageError
from pipelines.lake import Lake, LakeConfig
from pipelines.lake.models import record_model, recorded_models
from pipelines.lake.runs import recorded_runs
from pipelines.lake.scan import scan_files
from pipelines.lake.tables import CHUNKS, MODEL_PROPERTY
from pipelines.progress import Silent
from tests.chunks import ChunkText, append_chunks, corpus
from tests.embed.inline import InlineRun, check_accounts, rewrite, vectors
from tests.told import Told

_ROOT = Path(__file__).parents[2]
_CONFIG = EmbedConfig(actors=1, threads=1, commit_units=2, unit_tokens=150)
_CHUNKS = 60


def test_every_chunk_is_embedded_once_and_a_second_run_does_nothing(
    lake: Lake, conf: ModelConf, tokenizer: Tokenizer, encoder: Encoder, ray_session: RaySession
) -> None:
    append_chunks(lake, [ChunkText("odd", "doc-odd", "too long", ids=(2023,) * 600)], tokenizer)
    told = Told()
    report = embed(lake, conf, _CONFIG, RayConfig(), told)
    assert (report.rows, report.rejects, report.settled_rows, report.needless_rows) == (_CHUNKS, 1, 0, 0)
    assert report.model == encoder.key
    assert report.units >= 10
    assert report.commits >= 2
    assert 0 < report.encoding_seconds <= report.seconds
    chunks = lake.table("chunks").scan(selected_fields=("chunk_id", "text")).to_arrow().to_pylist()
    texts = {chunk["chunk_id"]: chunk["text"] for chunk in chunks}
    rows = vectors(lake, report.model).to_pylist()
    direct = encoder.encode_texts([texts[row["chunk_id"]] for row in rows], "document")
    stored = np.array([row["embedding"] for row in rows], dtype=np.float32)
    assert (stored * direct).sum(axis=1).min() > 0.9999
    inputs = tokenizer.model_inputs([texts[row["chunk_id"]] for row in rows], conf.prefix("document"))
    assert report.tokens == sum(map(len, inputs))
    assert check_accounts(lake, report.model) == 0
    assert [label for label, _, _ in told.steps] == [
        "starting Ray",
        "loading the model, first unit",
        "embedding",
    ]
    (_, planned, unit) = told.steps[-1]
    assert unit == "tokens"
    assert told.amounts == sorted(told.amounts)
    assert told.amounts[-1] == planned
    assert "tokens/s" in told.notes[-1]
    assert "1 rejects" in told.notes[-1]
    assert "1 encoder, 1 CPU thread each" in told.lines[0]
    recorded = recorded_models(lake.table("embeddings").properties)[report.model]
    assert (recorded["dimension"], recorded["precision"]) == (384, report.precision)
    snapshot = lake.table("embeddings").current_snapshot()
    assert snapshot is not None
    assert snapshot.summary is not None
    assert snapshot.summary.additional_properties["embedlake.model"] == report.model
    assert snapshot.summary.additional_properties["embedlake.stage"] == "embed"

    (run,) = recorded_runs(lake)
    assert (run.outcome, run.job, run.model, run.detail) == ("done", "embed", report.model, None)
    assert (run.rows, run.rejects, run.units, run.commits) == (60, 1, report.units, report.commits)
    assert (run.tokens, run.encoders) == (report.tokens, 1)
    assert run.hardware
    assert 0 < run.busy_seconds <= run.encoding_seconds <= run.seconds

    again = embed(lake, conf, _CONFIG, RayConfig(), told)
    assert len(recorded_runs(lake)) == 1  # nothing was to do
    assert (again.rows, again.rejects, again.units, again.settled_rows) == (0, 0, 0, _CHUNKS + 1)
    assert (
        told.lines[-1] == f"nothing to embed: {_CHUNKS + 1} chunks are done by {report.model}, none is left"
    )
    assert len(told.steps) == 3
    assert ray.is_initialized()


@pytest.mark.parametrize(
    ("stop", "expected"),
    [
        (signal.SIGINT, KeyboardInterrupt),
        pytest.param(signal.SIGTERM, SystemExit, marks=pytest.mark.slow),
    ],
)
def test_a_signal_commits_what_is_finished(
    s3_lake: Lake,
    conf: ModelConf,
    encoder: Encoder,
    ray_session: RaySession,
    stop: signal.Signals,
    expected: type[BaseException],
) -> None:
    lake = s3_lake
    told = Told()

    def interrupt(amount: int) -> None:
        if len(told.amounts) == 3:
            os.kill(os.getpid(), stop)

    told.at_done = interrupt
    config = EmbedConfig(actors=1, threads=1, commit_seconds=3600, unit_tokens=150)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(expected):
        embed(lake, conf, config, RayConfig(), told)
    assert signal.getsignal(signal.SIGTERM) is before
    assert 0 < check_accounts(lake, encoder.key) < _CHUNKS  # one commit, at the end
    (run,) = recorded_runs(lake)
    assert (run.outcome, run.detail) == ("stopped", expected.__name__)
    assert run.rows == vectors(lake, encoder.key).num_rows


def test_a_killed_driver_loses_what_is_in_flight_and_no_more(
    lake: Lake, conf: ModelConf, encoder: Encoder, ray_session: RaySession
) -> None:
    address = ray.get_runtime_context().gcs_address
    command = [sys.executable, "-m", "tests.embed.killed", lake.config.model_dump_json(), address]
    with subprocess.Popen(
        command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as driver:
        assert driver.stdout is not None
        for line in driver.stdout:
            if line.startswith("committed") and int(line.split()[1]):
                break
        driver.kill()
    committed = vectors(lake, encoder.key).num_rows
    assert 0 < committed < _CHUNKS
    assert check_accounts(lake, encoder.key) == _CHUNKS - committed
    rewrite(lake, "chunks")  # and the units of the killed run are gone
    told = Told()
    report = embed(lake, conf, _CONFIG, RayConfig(), told)
    assert (report.rows, report.settled_rows) == (_CHUNKS - committed, committed)
    assert [label for label, total, _ in told.steps if total] == ["comparing chunk ids", "embedding"]
    assert check_accounts(lake, encoder.key) == 0


def test_an_error_in_a_worker_comes_back_as_itself_and_the_rest_is_committed(
    lake: Lake, conf: ModelConf, encoder: Encoder, ray_session: RaySession
) -> None:
    file = scan_files(lake.table("chunks"))[-1]
    lost, rows = file.path, file.rows
    Path(urlparse(lost).path).unlink()
    with pytest.raises(StorageError, match=r"is gone.*Run the same command again") as caught:
        embed(lake, conf, _CONFIG, RayConfig(), Silent())
    assert lost in str(caught.value)
    assert vectors(lake, encoder.key).num_rows == _CHUNKS - rows
    (run,) = recorded_runs(lake)
    assert run.outcome == "failed"
    assert "is gone" in str(run.detail)


# Refusals: none of these needs a Ray.


def test_a_lake_without_chunks_is_refused(local_config: LakeConfig, conf: ModelConf) -> None:
    with pytest.raises(CatalogError, match="embedlake curate"):
        embed(Lake.open(local_config), conf, _CONFIG, RayConfig(), Silent())


def test_chunks_of_another_tokenizer_are_refused(local_config: LakeConfig, conf: ModelConf) -> None:
    lake = Lake.open(local_config)
    lake.ensure_tables()
    with pytest.raises(ModelError, match="do not say which tokenizer"):
        embed(lake, conf, _CONFIG, RayConfig(), Silent())
    lake.bind_tokenizer("f" * 64)
    with pytest.raises(ModelError, match="made by tokenizer ffffffffffff"):
        embed(lake, conf, _CONFIG, RayConfig(), Silent())


def test_another_dimension_under_the_same_key_is_refused(
    lake: Lake, conf: ModelConf, encoder: Encoder
) -> None:
    record_model(lake.table("embeddings"), encoder.key, {"dimension": 7})
    with pytest.raises(ModelError, match=r"dimension 7 for .* the model gives 384"):
        embed(lake, conf, _CONFIG, RayConfig(), Silent())


def test_vectors_that_contradict_the_record_are_not_written(lake: Lake, encoder: Encoder) -> None:
    run = InlineRun.start(lake, encoder)
    with lake.table("embeddings").transaction() as transaction:
        transaction.set_properties({MODEL_PROPERTY + encoder.key: '{"dimension": 7}'})
    with pytest.raises(ModelError, match=r"dimension 384, the lake records 7"):
        run.work()


def test_tables_that_bucket_differently_are_refused(
    local_config: LakeConfig, conf: ModelConf, tokenizer: Tokenizer
) -> None:
    lake = Lake.open(local_config)
    lake.ensure_tables()
    lake.catalog.drop_table(lake.identifier("chunks"))
    lake.catalog.create_table(
        lake.identifier("chunks"), CHUNKS.schema, partition_spec=CHUNKS.partition_spec(3)
    )
    lake.bind_tokenizer(tokenizer.fingerprint)
    with pytest.raises(CommitError, match="not partitioned alike"):
        embed(lake, conf, _CONFIG, RayConfig(), Silent())


def _in_a_process(program: str, *arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_cluster_that_does_not_answer_is_an_environment_fault() -> None:
    program = """
from pipelines.cluster.config import RayConfig
from pipelines.cluster.session import RaySession
from pipelines.errors import EnvironmentFault
try:
    RaySession(RayConfig(address="127.0.0.1:9")).start()
except EnvironmentFault as fault:
    print(fault)
"""
    told, _ = _in_a_process(program).communicate(timeout=300)
    assert told.startswith("cannot use the Ray cluster at 127.0.0.1:9: ")


@pytest.mark.slow
def test_two_processes_at_once_double_nothing(
    local_config: LakeConfig, tokenizer: Tokenizer, encoder: Encoder, ray_session: RaySession
) -> None:
    lake = Lake.open(local_config)
    append_chunks(lake, corpus(200), tokenizer, rows_per_file=10)
    address = ray.get_runtime_context().gcs_address
    program = """
import sys
from pipelines.cluster.config import RayConfig
from pipelines.embed.config import EmbedConfig
from pipelines.embed.run import embed
from pipelines.encoder.conf import load_model_conf
from pipelines.lake import Lake, LakeConfig
from pipelines.progress import Silent
lake = Lake.open(LakeConfig.model_validate_json(sys.argv[1]))
config = EmbedConfig(actors=1, threads=1, commit_units=2, unit_tokens=300)
report = embed(lake, load_model_conf("minilm"), config, RayConfig(address=sys.argv[2]), Silent())
print(report.rows, report.needless_rows)
"""
    drivers = [_in_a_process(program, lake.config.model_dump_json(), address) for _ in range(2)]
    told = [driver.communicate(timeout=900)[0].split() for driver in drivers]
    assert [driver.returncode for driver in drivers] == [0, 0]
    assert check_accounts(lake, encoder.key) == 0
    assert sum(int(rows) for rows, _ in told) == 400
