"""Rotations go with the publications that they are of, and with those alone."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from pyiceberg.table import Table

from pipelines.encoder.conf import load_model_conf
from pipelines.encoder.tokenizer import Tokenizer
from pipelines.errors import CommitError
from pipelines.lake import Lake, LakeConfig
from pipelines.lake.config import SparkConfig
from pipelines.lake.rotations import record_rotation, recorded_rotation
from pipelines.lake.scan import ScanFile, scan_files
from pipelines.lake.serving import published
from pipelines.maintain import rotations
from pipelines.maintain.config import MaintainConfig
from pipelines.maintain.run import maintain
from pipelines.progress import Silent
from pipelines.publish.config import PublishConfig
from pipelines.publish.release import roll_back
from pipelines.publish.report import Request
from pipelines.publish.run import publish
from tests.chunks import append_chunks
from tests.publish.lakes import embed_pending, expected_rows, filled, serving_rows, titled

_ALL = MaintainConfig(min_input_files=2, min_manifests=2, delete_ratio=0.01, expire_days=0, retain_last=1)
_CONFIG = PublishConfig(table="serving", dim=8, rotate=True, refit_above=1)


def published_again(lake: Lake, number: int, release: str | None = None) -> None:
    append_chunks(lake, titled(3, 500 + 10 * number), Tokenizer.load(load_model_conf("minilm")))
    embed_pending(lake)
    publish(lake, _CONFIG, SparkConfig(), Request(release=release))


def runs(lake: Lake) -> list[str]:
    listed: list[str] = lake.table("rotations").scan().to_arrow()["run_id"].to_pylist()
    return listed


@pytest.mark.usefixtures("spark")
def test_what_neither_a_snapshot_nor_the_table_is_of_goes_and_publications_go_on(
    lake_config: LakeConfig,
) -> None:
    lake = filled(lake_config, documents=6)
    published_again(lake, 0, release="first")
    released = serving_rows(lake, "serving")
    for number in range(1, 4):
        published_again(lake, number)
    first, *between, last = runs(lake)
    assert len(between) == 2
    # Their snapshots are still there, and the table could be rolled back to them.
    assert rotations.unneeded(lake, datetime.now(UTC)) == set()
    maintain(lake, _ALL, SparkConfig(), Silent(), ["serving"])
    would = maintain(lake, _ALL, SparkConfig(), Silent(), ["rotations"], dry_run=True)
    assert (would.tables[0].rows, len(runs(lake))) == (2, 4)
    assert maintain(lake, _ALL, SparkConfig(), Silent(), ["rotations"]).tables[0].rows == 2
    assert sorted(runs(lake)) == sorted([first, last])
    assert maintain(lake, _ALL, SparkConfig(), Silent(), ["rotations"]).tables[0].rows == 0
    published_again(lake, 4)
    assert serving_rows(lake, "serving") == expected_rows(lake, "serving")
    roll_back(lake, "serving", "first")
    assert serving_rows(lake, "serving") == released


def test_the_row_of_a_publication_that_is_about_to_commit_stays(local_config: LakeConfig) -> None:
    lake = filled(local_config, documents=6)
    published_again(lake, 0)
    state = published(lake.table("serving"))
    assert state is not None
    record = recorded_rotation(lake, state)
    assert record is not None
    record_rotation(lake, "serving", replace(state, run_id="begun"), record)
    assert rotations.unneeded(lake, datetime.now(UTC) - timedelta(hours=1)) == set()
    # A moment after it, a publication that never came is told from one that may come.
    assert rotations.unneeded(lake, datetime.now(UTC)) == {"begun"}


def test_a_row_that_comes_meanwhile_is_not_lost(
    local_config: LakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = filled(local_config, documents=6)
    published_again(lake, 0)
    [gone] = runs(lake)

    def and_another_publishes(table: Table) -> list[ScanFile]:
        files = scan_files(table)
        published_again(lake, 1)
        return files

    monkeypatch.setattr("pipelines.maintain.rotations.scan_files", and_another_publishes)
    with pytest.raises(CommitError):
        rotations.remove(lake, {gone})
    assert gone in runs(lake)
    assert len(runs(lake)) == 2
