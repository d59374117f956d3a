"""The jobs that run beside `maintain`: each does one step, on a lake, as it is told in plain data."""

import tempfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from pipelines.cluster.config import RayConfig
from pipelines.cluster.session import RaySession
from pipelines.curate.config import CurateConfig
from pipelines.curate.removals import Removals
from pipelines.curate.run import curate
from pipelines.embed.commit.committer import Committer
from pipelines.embed.commit.sweep import sweep
from pipelines.embed.config import EmbedConfig
from pipelines.embed.plan.survey import survey
from pipelines.embed.run import embed
from pipelines.embed.work.wire import Job as EmbedJob
from pipelines.encoder.conf import load_model_conf
from pipelines.encoder.fingerprint import describe_model
from pipelines.encoder.tokenizer import Tokenizer
from pipelines.errors import ModelError
from pipelines.lake import Lake, LakeConfig
from pipelines.lake.config import SparkConfig
from pipelines.lake.models import record_model, recorded_models
from pipelines.lake.spark import spark_session
from pipelines.maintain.config import MaintainConfig
from pipelines.maintain.run import maintain
from pipelines.progress import Silent
from pipelines.publish.config import PublishConfig
from pipelines.publish.run import publish
from tests.embed.inline import InlineRun
from tests.faults.model import Digests, model_conf, poison_ids

_SPARK = SparkConfig(driver_memory="1g", shuffle_partitions=2)
# Chunks of the schedules' documents make some units a partition.
_UNIT_TOKENS = 2_000


@dataclass(frozen=True)
class Job:
    """A job.

    Attributes:
        step: Does one step of it.
        engine: What stays open between steps, in the process that does them.
    """

    step: Callable[[Lake, Mapping[str, Any]], object]
    engine: Callable[[], AbstractContextManager[Any]] = nullcontext


def _curate(lake: Lake, asked: Mapping[str, Any]) -> None:
    removals = Removals(deletes=tuple(asked["deletes"]))
    curate(lake, asked["inputs"], load_model_conf("minilm"), CurateConfig(), _SPARK, Silent(), removals)


def _embed(lake: Lake, asked: Mapping[str, Any]) -> None:
    del asked
    conf, config = model_conf(), EmbedConfig(device="cpu", actors=1, unit_tokens=_UNIT_TOKENS)
    config = config.model_copy(update={"commit_seconds": 0.3})
    embed(lake, conf, config, _ray(), Silent(), factory=_digests(lake))


def embed_inline(lake: Lake, asked: Mapping[str, Any] | None = None) -> int:
    """The embed stage without Ray, with a model that does nothing; says how many rows it committed.

    Each unit is a commit of its own, so that others come between.
    """
    del asked
    conf = model_conf()
    tokenizer, model = Tokenizer.load(conf), describe_model(conf, "float32")
    lake.ensure_tables()
    rows = 0
    while True:
        plan = survey(lake, model.key)
        sweep(lake, plan)
        record_model(lake.table("embeddings"), model.key, asdict(model))
        job = EmbedJob(lake.config, conf, model, uuid4().hex, 4096, where=None)
        committer = Committer(lake, plan, job.run_id)
        run = InlineRun(plan, job, _digests(lake), tokenizer, committer)
        for unit in run.work(tokens=_UNIT_TOKENS):
            committer.commit([unit])
        rows += committer.total.rows
        if committer.only_grew() and not committer.rejects_changed():
            return rows


def _digests(lake: Lake) -> Digests:
    del lake
    tally = Path(tempfile.gettempdir()) / f"embedlake-tally-{uuid4().hex[:8]}"
    conf = model_conf()
    key = describe_model(conf, "float32").key
    return Digests(tally, 0.02, poison_ids(Tokenizer.load(conf)), key)


def publish_all(lake: Lake, asked: Mapping[str, Any] | None = None) -> None:
    """Publishes with columns of `chunks`; nothing where nothing is embedded yet."""
    del asked
    if lake.exists("embeddings") and recorded_models(lake.table("embeddings").properties):
        try:
            publish(lake, PublishConfig(table="serving", dim=16, columns=("text", "metadata")), _SPARK)
        except ModelError as error:
            if "no embeddings" not in str(error):
                raise


def _maintain(lake: Lake, asked: Mapping[str, Any]) -> None:
    maintain(lake, MaintainConfig(**asked), _SPARK, Silent())


def _ray() -> RayConfig:
    return RayConfig(object_store_memory=100 * 2**20, num_cpus=2)


def _started_ray() -> AbstractContextManager[Any]:
    session = RaySession(_ray())
    session.start()
    return session


def _started_spark() -> AbstractContextManager[Any]:
    folder = tempfile.mkdtemp(prefix="beside-")
    return spark_session(Lake.open(LakeConfig(dir=Path(folder))), _SPARK)


# What `python -m tests.maintain.worker NAME` can do. A further job that writes to the lake is one line here,
# and one in `beside.BESIDE`.
JOBS = {
    "curate": Job(_curate, _started_spark),
    "embed": Job(_embed, _started_ray),
    "embed-inline": Job(embed_inline),
    "maintain": Job(_maintain, _started_spark),
    "publish": Job(publish_all),
}
