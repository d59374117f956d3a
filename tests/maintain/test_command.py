"""`embedlake maintain`, as a user or a program calls it."""

import json

import pytest

from pipelines.lake import LakeConfig
from tests.e2e.cli import embedlake
from tests.maintain.test_run import done_in_spark, filled

pytestmark = pytest.mark.usefixtures("spark")


def test_what_was_done_is_told_and_what_was_refused_is_left_with_its_reason(local_config: LakeConfig) -> None:
    lake = filled(local_config)
    where = ["--lake", str(local_config.dir), "--set", "maintain.min_input_files=2"]
    where += ["--set", "maintain.expire_days=0", "--set", "maintain.retain_last=1"]
    # Iceberg itself refuses then, as it does where another job's commit came first.
    done_in_spark(lake, "ALTER TABLE {chunks} SET TBLPROPERTIES ('gc.enabled'='false')")
    dry = embedlake("maintain", *where, "--dry-run", "--table", "embeddings")
    assert dry.code == 0
    assert "what maintain would do" in dry.out
    result = embedlake("maintain", *where, "--table", "chunks", "--table", "embeddings", "--json")
    assert result.code == 3
    report = json.loads(result.out)
    assert not report["complete"]
    chunks, embeddings = report["tables"]
    assert chunks["after"]["data"] < chunks["before"]["data"]
    assert set(chunks["skipped"]) == {"snapshots", "orphan files"}
    assert "GC is disabled" in chunks["skipped"]["snapshots"]
    assert embeddings["skipped"] == {}
    assert embeddings["snapshots"] > 0
    told = embedlake("maintain", *where, "--table", "chunks")
    assert told.code == 3
    assert "chunks: snapshots left to the next run (ValidationException: Cannot expire" in told.out


def test_a_setting_that_would_harm_is_refused_before_anything_starts(local_config: LakeConfig) -> None:
    result = embedlake("maintain", "--lake", str(local_config.dir), "--set", "maintain.orphan_days=3")
    assert result.code == 2
    assert "orphan_days" in result.err
    assert "'embed' commits files" in result.err
