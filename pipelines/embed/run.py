"""The embed stage as one call."""

import itertools
import math
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from types import FrameType
from typing import Literal

from pyiceberg.table import Table

from pipelines.embed.commit_loop import CommitLoop
from pipelines.embed.committer import Committed, Committer
from pipelines.embed.config import EmbedConfig, RayConfig
from pipelines.embed.plan import Plan
from pipelines.embed.session import RaySession
from pipelines.embed.shape import Shape, shape
from pipelines.embed.survey import embedded_files, survey
from pipelines.embed.work import Job
from pipelines.encoder.conf import ModelConf
from pipelines.encoder.fingerprint import ModelIdentity, describe_model, resolve_precision
from pipelines.encoder.tokenizer import Tokenizer
from pipelines.errors import ModelError
from pipelines.lake import Lake
from pipelines.lake.faults import explained
from pipelines.lake.lake import check_tokenizer
from pipelines.lake.models import record_model
from pipelines.lake.tables import TOKENIZER_PROPERTY
from pipelines.progress import Progress


@dataclass(frozen=True)
class EmbedReport:
    """What a run did.

    Attributes:
        model: The model's key.
        precision: Of the forward pass.
        rows: Embeddings committed.
        rejects: Chunks newly rejected.
        settled_rows: Chunks that had an embedding or a reject before.
        needless_rows: Embeddings that another job had committed first, so ours were left out.
        units: Units worked on.
        commits: Snapshots of `embeddings`.
        tokens: What the model read, specials and prefixes included.
        seconds: The run's whole time.
        encoding_seconds: Of it, from when the first encoder, its model loaded, took up a unit to the end of
            the last commit: what a longer run needs more of.
        tokens_per_second: Of the encoding seconds; 0 where nothing was to do.
    """

    model: str
    precision: str
    rows: int
    rejects: int
    settled_rows: int
    needless_rows: int
    units: int
    commits: int
    tokens: int
    seconds: float
    encoding_seconds: float
    tokens_per_second: float


def embed(
    lake: Lake, conf: ModelConf, config: EmbedConfig, ray_config: RayConfig, progress: Progress
) -> EmbedReport:
    """Gives each chunk of the lake its embedding by a model, or a reject, unless it has one.

    May be killed at any time, run again, run twice at once, and the tables be compacted meanwhile: in the end
    each (chunk, model) has one row. Ctrl-C and SIGTERM commit what is finished, and end Ray, before they are
    passed on.

    Args:
        lake: With the chunks.
        conf: The model.
        config: How to embed.
        ray_config: On what. A Ray that this process is connected to is used as it is and left running.
        progress: Told the key decisions, and of rows as they are written.

    Raises:
        CatalogError: There are no chunks yet, or the catalogue does not answer.
        ModelError: The model cannot be loaded, its tokenizer is not that of the chunks, or the lake holds
            vectors of another dimension under its key.
        StorageError: The object store or a disk fails.
        CommitError: See `pipelines.lake.commit`.
        EnvironmentFault: Ray cannot be had, or has not what is asked of it.
    """
    began = time.monotonic()
    chunks = lake.table("chunks")
    with RaySession(ray_config) as session, _termination_raises():
        model = _identity(conf, config, session)
        check_chunks(chunks, conf, model)
        lake.ensure_tables()
        live = embedded_files(lake.table("embeddings"))
        plan = survey(lake, model.key, progress, live)
        if not plan.pending:
            progress.say(
                f"nothing to embed: {plan.settled_rows:,} chunks are done by {model.key}, none is left"
            )
            return _report(model, plan, Committed(), 0, 0, time.monotonic() - began, 0.0)
        with explained(lake.config):
            record_model(lake.table("embeddings"), model.key, asdict(model))
        with progress.step("starting Ray", None, "seconds"):
            session.start()
        pool = shape(config, "cuda" if _device(config, session) == "cuda" else "cpu", session.resources())
        progress.say(_decisions(model, plan, pool))
        run_id = uuid.uuid4().hex
        committer = Committer(lake, plan, live, run_id)
        job = Job(lake.config, conf, model, run_id, config.batch_tokens)
        units, tokens, encoding_began = _embed_units(job, plan, pool, config, committer, progress)
        encoding_seconds = time.time() - encoding_began
    seconds = time.monotonic() - began
    return _report(model, plan, committer.total, units, tokens, seconds, min(seconds, encoding_seconds))


def check_chunks(chunks: Table, conf: ModelConf, model: ModelIdentity) -> None:
    """Refuses chunks whose token ids another tokenizer has made, where the ids are what the model would read.

    Raises:
        ModelError: The tokenizers differ, or the table does not say which its was.
    """
    if not Tokenizer.load(conf).composable:
        return  # the text is tokenised again
    recorded = chunks.properties.get(TOKENIZER_PROPERTY)
    if recorded is None:
        raise ModelError(
            "the chunks do not say which tokenizer made their ids", "Run 'embedlake curate' first"
        )
    check_tokenizer(recorded, model.tokenizer_fingerprint)


def _embed_units(
    job: Job, plan: Plan, pool: Shape, config: EmbedConfig, committer: Committer, progress: Progress
) -> tuple[int, int, float]:
    """How many units and tokens were done, and since when (Unix time)."""
    from pipelines.embed.pipeline import finished_units

    rows = units = tokens = 0
    began = math.inf
    finished = finished_units(job, plan.pending, pool, config)
    with CommitLoop(committer.commit, config.commit_seconds, config.commit_units) as loop:
        with progress.step("loading the model, first unit", None, "units"):
            first = next(finished)
        with progress.step("embedding", plan.pending_rows, "rows") as step:
            for unit in itertools.chain([first], finished):
                loop.add(unit)
                rows, units, tokens = rows + unit.rows, units + 1, tokens + unit.tokens
                began = min(began, unit.encoded_from)
                step.done(rows)
    return units, tokens, began


def _device(config: EmbedConfig, session: RaySession) -> Literal["cpu", "cuda"]:
    if config.device != "auto":
        return config.device
    return "cuda" if session.has_gpu() else "cpu"


def _identity(conf: ModelConf, config: EmbedConfig, session: RaySession) -> ModelIdentity:
    # Where the precision is fixed, the key is known without asking for a device, so without Ray.
    device = "cpu" if conf.precision != "auto" else _device(config, session)
    return describe_model(conf, resolve_precision(conf, device))


def _decisions(model: ModelIdentity, plan: Plan, pool: Shape) -> str:
    who = f"{pool.actors} encoder{'s' if pool.actors > 1 else ''}"
    what = (
        f"{pool.gpus:g} GPU each"
        if pool.gpus
        else f"{pool.threads} CPU thread{'s' * (pool.threads != 1)} each"
    )
    return (
        f"embedding {plan.pending_rows:,} chunks in {len(plan.pending):,} units with {model.key} "
        f"({model.precision}): {who}, {what}; {plan.settled_rows:,} chunks are done already"
    )


def _report(
    model: ModelIdentity,
    plan: Plan,
    total: Committed,
    units: int,
    tokens: int,
    seconds: float,
    encoding_seconds: float,
) -> EmbedReport:
    return EmbedReport(
        model=model.key,
        precision=model.precision,
        rows=total.rows,
        rejects=total.rejects,
        settled_rows=plan.settled_rows,
        needless_rows=total.needless_rows,
        units=units,
        commits=total.commits,
        tokens=tokens,
        seconds=seconds,
        encoding_seconds=encoding_seconds,
        tokens_per_second=tokens / encoding_seconds if encoding_seconds else 0.0,
    )


@contextmanager
def _termination_raises() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does: by an exception, here SystemExit(143)."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's business
        return

    def terminate(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
