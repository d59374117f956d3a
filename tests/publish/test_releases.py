import numpy as np
import pytest
from pyspark.sql import SparkSession

from pipelines.encoder.conf import load_model_conf
from pipelines.encoder.rotation import Rotation, mixing
from pipelines.encoder.tokenizer import Tokenizer
from pipelines.errors import ConfigError, InputError, ModelError
from pipelines.lake import Lake, LakeConfig
from pipelines.lake.config import SparkConfig
from pipelines.lake.models import record_model
from pipelines.lake.rotations import recorded_rotation
from pipelines.lake.serving import published, releases, snapshot_as_of
from pipelines.lake.spark import spark_session
from pipelines.progress import Silent
from pipelines.publish.config import PublishConfig
from pipelines.publish.release import roll_back
from pipelines.publish.report import Report, Request
from pipelines.publish.run import publish
from tests.chunks import append_chunks
from tests.publish.lakes import DIM, MODEL, embed_pending, expected_rows, filled, serving_rows, titled

CONFIG = PublishConfig(table="serving", dim=16)


def put(lake: Lake, config: PublishConfig = CONFIG, **request: object) -> Report:
    return publish(lake, config, SparkConfig(), Request(**request))  # type: ignore[arg-type] # of several types


def grown(lake: Lake, documents: int = 4, start: int = 500) -> None:
    append_chunks(lake, titled(documents, start), Tokenizer.load(load_model_conf("minilm")))
    embed_pending(lake)


def test_a_release_stays_as_it_was_and_can_be_the_table_again(lake_config: LakeConfig) -> None:
    lake = filled(lake_config, documents=6)
    put(lake, release="2026-10")
    october = serving_rows(lake, "serving")
    grown(lake)
    put(lake, release="2026-11")
    november = serving_rows(lake, "serving")
    assert len(november) == len(october) + 8
    assert list(releases(lake.table("serving"))) == ["2026-10", "2026-11"]
    assert serving_rows(lake, "serving", "2026-10") == october

    state = roll_back(lake, "serving", "2026-10")
    assert serving_rows(lake, "serving") == october
    assert published(lake.table("serving")) == state
    assert serving_rows(lake, "serving", "2026-11") == november
    report = put(lake)  # what is new since October comes again, and only that
    assert (report.kind, report.new) == ("incremental", 8)
    assert serving_rows(lake, "serving") == november


def test_a_release_that_is_there_already_is_left_as_it_is(local_config: LakeConfig) -> None:
    lake = filled(local_config, documents=6)
    put(lake, release="one")
    before = releases(lake.table("serving"))
    grown(lake)
    assert put(lake, release="one").kind == "nothing"
    assert releases(lake.table("serving")) == before
    assert len(serving_rows(lake, "serving")) == 12


def test_a_job_killed_between_commit_and_tag_sets_the_tag_when_run_again(local_config: LakeConfig) -> None:
    lake = filled(local_config, documents=6)
    put(lake)
    snapshots = len(lake.table("serving").snapshots())
    report = put(lake, release="one")
    assert (report.kind, len(lake.table("serving").snapshots())) == ("nothing", snapshots)
    assert list(releases(lake.table("serving"))) == ["one"]


def test_a_release_of_a_publication_that_has_expired_is_made_all_the_same(local_config: LakeConfig) -> None:
    lake = filled(local_config, documents=6)
    put(lake)
    table = lake.table("serving")
    with table.transaction() as transaction:  # a later snapshot, so that the publication's own can go
        transaction.append(table.scan().to_arrow().slice(0, 0))
    made = next(
        s for s in table.snapshots() if s.summary and "embedlake.published" in s.summary.additional_properties
    )
    lake.table("serving").maintenance.expire_snapshots().by_id(made.snapshot_id).commit()
    assert put(lake, release="late").kind == "nothing"
    roll_back(lake, "serving", "late")
    assert serving_rows(lake, "serving") == expected_rows(lake, "serving")


def test_rolled_back_by_another_tool_the_state_is_the_snapshots_own(local_config: LakeConfig) -> None:
    lake = filled(local_config, documents=6)
    put(lake, release="one")
    grown(lake)
    put(lake)
    table = lake.table("serving")
    table.manage_snapshots().rollback_to_snapshot(snapshot_as_of(table, "one")).commit()
    assert (put(lake).new, serving_rows(lake, "serving")) == (8, expected_rows(lake, "serving"))


def test_a_release_that_is_not_there_is_told_with_those_that_are(local_config: LakeConfig) -> None:
    lake = filled(local_config, documents=6)
    put(lake, release="one")
    with pytest.raises(InputError, match=r"no release or snapshot 'two'. It has one"):
        roll_back(lake, "serving", "two")


def test_another_model_is_published_in_place_and_the_old_one_can_come_back(local_config: LakeConfig) -> None:
    lake = filled(local_config, documents=6)
    put(lake, model="hash", release="old")
    old = serving_rows(lake, "serving")
    record_model(lake.table("embeddings"), "other@2", {"dimension": DIM, "precision": "float32"})
    embed_pending(lake, "other@2", sources=["notes"])
    with pytest.raises(ModelError, match="several models fit"):
        put(lake)
    report = put(lake, model="other")
    assert (report.kind, report.rows) == ("full", 6)
    assert roll_back(lake, "serving", "old").model == MODEL
    assert serving_rows(lake, "serving") == old


def test_large_publications_run_on_spark_and_give_the_same(
    lake_config: LakeConfig, spark: SparkSession
) -> None:
    del spark  # running: `publish` takes it
    lake = filled(lake_config, documents=10)
    config = CONFIG.model_copy(update={"inline_rows": 0, "columns": ("text",), "rotate": True})
    assert put(lake, config).kind == "full"
    assert serving_rows(lake, "serving") == expected_rows(lake, "serving", ["text"])
    with spark_session(lake, SparkConfig()) as session:
        assert session.table(lake.spark_identifier("serving")).where("length(vector) = 16").count() == 20


def test_a_rotation_is_kept_by_increments_and_fitted_anew_when_it_is_worth_it(
    local_config: LakeConfig,
) -> None:
    lake = filled(local_config, documents=20)
    config = CONFIG.model_copy(update={"dim": 4, "rotate": True, "refit_above": 1.0})
    first = put(lake, config, release="first")
    assert first.refitted
    assert first.rotation is not None
    assert first.rotation[0] == pytest.approx(first.rotation[1])
    grown(lake, 4)
    kept = put(lake, config)
    assert (kept.kind, kept.refitted) == ("incremental", False)
    assert kept.rotation is not None
    assert kept.rotation[0] < kept.rotation[1]
    state = published(lake.table("serving"))
    assert state is not None
    record = recorded_rotation(lake, state)
    assert record is not None
    assert record.moment.rows == 48  # of all that were published, not of the fit alone

    grown(lake, 4, start=700)
    refitted = put(lake, config.model_copy(update={"refit_above": 1e-9}))
    assert (refitted.kind, refitted.refitted) == ("full", True)
    assert serving_rows(lake, "serving") == expected_rows(lake, "serving")
    roll_back(lake, "serving", "first")
    assert serving_rows(lake, "serving") == serving_rows(lake, "serving", "first")


def test_rotated_codes_of_signs_have_their_coordinates_mixed(local_config: LakeConfig) -> None:
    lake = filled(local_config, documents=20)
    put(lake, CONFIG.model_copy(update={"dim": 8, "type": "binary", "rotate": True}))
    state = published(lake.table("serving"))
    assert state is not None
    record = recorded_rotation(lake, state)
    assert record is not None
    fitted = Rotation.fit(record.moment)
    assert np.allclose(record.rotation.matrix_DD, fitted.then(mixing(DIM, 8)).matrix_DD, atol=1e-5)
    # They hold what they did, together.
    assert record.rotation.energy(record.moment, 8) == pytest.approx(fitted.energy(record.moment, 8))
    assert serving_rows(lake, "serving") == expected_rows(lake, "serving")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dim": 64}, "gives 32 dimensions, 64 are wanted"),
        ({"dim": 12, "type": "binary"}, "not whole bytes"),
        ({"columns": ("body",)}, "no column 'body'"),
        ({"columns": ("metadata.source",)}, "called 'source'"),
        ({"partition_by": ("lang",)}, "no column 'lang'"),
        ({"sort_by": ("vector",)}, "no column 'vector'"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_made(
    local_config: LakeConfig, change: dict[str, object], words: str
) -> None:
    lake = filled(local_config, documents=2)
    with pytest.raises(ConfigError, match=words):
        put(lake, PublishConfig.model_validate({"table": "serving", **change}))
    assert not lake.exists("serving")


def test_other_columns_in_a_table_that_is_there_are_refused(local_config: LakeConfig) -> None:
    lake = filled(local_config, documents=2)
    put(lake)
    with pytest.raises(ConfigError, match="other columns or partitions"):
        put(lake, CONFIG.model_copy(update={"columns": ("text",)}))


def test_a_dimension_that_the_model_was_not_made_for_is_published_with_a_warning(
    local_config: LakeConfig,
) -> None:
    lake = filled(local_config, documents=2)
    said: list[str] = []
    conf = load_model_conf("minilm").model_copy(update={"name": "hash"})
    publish(lake, CONFIG, SparkConfig(), Request(conf=conf), _Said(said))
    assert any("not made for slices of 16" in line for line in said)
    assert len(serving_rows(lake, "serving")) == 4


class _Said(Silent):
    def __init__(self, lines: list[str]) -> None:
        self.lines = lines

    def say(self, line: str) -> None:
        self.lines.append(line)
