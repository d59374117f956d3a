"""The embed stage as one call."""

import itertools
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from types import FrameType
from typing import Literal

from pipelines.cluster.config import RayConfig
from pipelines.cluster.session import RaySession
from pipelines.embed.commit.committer import Committed, Committer
from pipelines.embed.commit.loop import CommitLoop
from pipelines.embed.commit.patience import Patience
from pipelines.embed.commit.salvage import salvage
from pipelines.embed.commit.sweep import sweep
from pipelines.embed.config import EmbedConfig
from pipelines.embed.engine.loop import Engine
from pipelines.embed.engine.nodes import place
from pipelines.embed.metrics import Metrics, exported
from pipelines.embed.plan.check import check_chunks, new_fingerprint
from pipelines.embed.plan.plan import Plan, Wanted
from pipelines.embed.plan.survey import survey
from pipelines.embed.record import recorded
from pipelines.embed.work.encode import load_encoder
from pipelines.embed.work.wire import EncoderFactory, Job
from pipelines.encoder.conf import ModelConf
from pipelines.encoder.fingerprint import ModelIdentity, describe_model, resolve_precision
from pipelines.lake import Lake
from pipelines.lake.faults import explained
from pipelines.lake.models import record_model
from pipelines.progress import Progress

# Tokens of a unit. Some seconds of work: on a GPU at 200,000 tokens/s, or a core at 10,000.
_UNIT_TOKENS = {"cuda": 1_000_000, "cpu": 65_536}
_LEAST_UNIT_TOKENS = 4096
# With a calibration the start of an encoder takes 4 s longer. With so many tokens the faster backend saved a
# quarter of 45 s on one processor (MiniLM, two AVX2 cores, 2026-11-27), and nothing on another, with AMX.
_CALIBRATED_TOKENS = 200_000
_UNITS_EACH = 4
_ROUNDS = 10


@dataclass(frozen=True)
class EmbedReport:
    """What a run did.

    Attributes:
        model: The model's key.
        precision: Of the forward pass.
        rows: Embeddings committed.
        rejects: Chunks newly rejected.
        settled_rows: Chunks that had an embedding or a reject before.
        needless_rows: Embeddings that another job had committed first, or whose chunks went meanwhile, so
            ours were left out.
        copied_rows: Rows that got the vector of an equal text instead of one of their own.
        swept_rows: Embeddings and rejects taken out because their chunks are gone, and rejects of chunks that
            another job has embedded.
        units: Units worked on, or parts of them.
        commits: Snapshots of `embeddings`.
        retries: Units tried again.
        tokens: What the model read, specials and prefixes included.
        padding: Of what it read with padding, the padding's share.
        seconds: The run's whole time.
        encoding_seconds: Of it, from when the first encoder, its model loaded, took up a unit to the end of
            the last commit: what a longer run needs more of.
        tokens_per_second: Of the encoding seconds; 0 where nothing was to do.
        busy: Share of the encoding seconds that the encoders were at work.
    """

    model: str
    precision: str
    rows: int
    rejects: int
    settled_rows: int
    needless_rows: int
    copied_rows: int
    swept_rows: int
    units: int
    commits: int
    retries: int
    tokens: int
    padding: float
    seconds: float
    encoding_seconds: float
    tokens_per_second: float
    busy: float


def embed(
    lake: Lake,
    conf: ModelConf,
    config: EmbedConfig,
    ray_config: RayConfig,
    progress: Progress,
    wanted: Wanted | None = None,
    factory: EncoderFactory = load_encoder,
) -> EmbedReport:
    """Gives each chunk of the lake its embedding by a model, or a reject, unless it has one.

    May be killed at any time, run again, run twice at once, and the tables be compacted and curated
    meanwhile: in the end each (chunk, model) has one row. Ctrl-C and SIGTERM commit what is finished, and end
    Ray, before they are passed on.

    Args:
        lake: With the chunks.
        conf: The model.
        config: How to embed.
        ray_config: On what. A Ray that this process is connected to is used as it is and left running.
        progress: Told the key decisions, and of rows as they are written.
        wanted: Which chunks; all where None.
        factory: Makes the model in each encoder's process.

    Raises:
        CatalogError: There are no chunks yet, or the catalogue does not answer.
        ModelError: The model cannot be loaded, its tokenizer is not that of the chunks, or the lake holds
            vectors of another dimension under its key.
        StorageError: The object store or a disk fails.
        CommitError: See `pipelines.lake.commit`.
        EnvironmentFault: Ray cannot be had, or has not what is asked of it.
    """
    began = time.monotonic()
    wanted = wanted or Wanted()
    chunks = lake.table("chunks")
    total, metrics, swept = Committed(), Metrics(), 0
    with RaySession(ray_config) as session, _termination_raises():
        device = _device(config, session) if conf.precision == "auto" or config.device == "cuda" else None
        model = describe_model(conf, resolve_precision(conf, device or "cpu"))
        check_chunks(chunks, conf, model)
        lake.ensure_tables()
        plan = survey(lake, model.key, progress, wanted)
        swept += sweep(lake, plan)
        run_id = uuid.uuid4().hex
        salvaged = Committer(lake, plan, run_id, total)
        if rows := salvage(lake, plan, salvaged):
            progress.say(f"{rows:,} chunks were embedded by a run that was killed, and are committed now")
            plan = survey(lake, model.key, progress, wanted)
            swept += sweep(lake, plan)
        settled = plan.settled_rows - total.rows
        if not plan.pending_rows:
            progress.say(f"nothing to embed: {settled:,} chunks are done by {model.key}, none is left")
            return _report(model, settled, swept, total, metrics, time.monotonic() - began, 0.0)
        if notice := new_fingerprint(lake.table("embeddings"), model):
            progress.say(notice)
        with explained(lake.config):
            record_model(lake.table("embeddings"), model.key, asdict(model))
        with progress.step("starting Ray", None, "seconds"):
            session.start()
        device = device or _device(config, session)
        backend = config.backend
        if backend == "auto" and plan.pending_tokens < _CALIBRATED_TOKENS:
            backend = "torch"
        patience = Patience(config.patience_seconds)
        job = Job(lake.config, conf, model, run_id, config.batch_tokens, backend, wanted.where)
        with (
            exported(metrics, model.key, config.metrics_port, config.metrics_address),
            recorded(lake, run_id, model.key, metrics, total, progress),
        ):
            for _ in range(_ROUNDS):
                engine = Engine(job, factory, config, device, progress, metrics)
                committer = Committer(lake, plan, run_id, total, patience)
                left = None if wanted.limit is None else max(0, wanted.limit - metrics.rows)
                _embed_units(engine, plan, left, session, committer)
                if engine.gone and not committer.chunks_changed():
                    raise engine.gone
                if not engine.gone and committer.only_grew() and not committer.rejects_changed():
                    break
                # Chunks were compacted or taken away meanwhile: what was dropped has new files, and rows that
                # were committed as their chunks went have none. Or a job beside this one has embedded what
                # was rejected here, or the other way round.
                plan = patience.outlast(partial(survey, lake, model.key, progress, wanted))
                swept += patience.outlast(partial(sweep, lake, plan))
                if not engine.gone or not plan.pending_rows:
                    break
        encoding = time.time() - (metrics.encoding_from or time.time())
    seconds = time.monotonic() - began
    return _report(model, settled, swept, total, metrics, seconds, min(seconds, encoding))


def _embed_units(
    engine: Engine, plan: Plan, limit: int | None, session: RaySession, committer: Committer
) -> None:
    config, progress = engine.config, engine.progress
    pending = plan.pending_rows if limit is None else min(limit, plan.pending_rows)
    encoders = place(session.nodes(), config, engine.device)
    tokens = unit_tokens(plan, config, engine.device, max(1, encoders.actors))
    units = plan.units(tokens, _unit_rows(config, engine, session, max(1, encoders.actors)), limit)
    seats = {seat.threads for seat in encoders.encoders.values()}
    what = (
        f"{config.gpus_per_actor:g} GPU each"
        if engine.device == "cuda"
        else (f"{min((seat or 1 for seat in seats), default=1)} CPU thread{'s' * (seats != {1})} each")
    )
    progress.say(
        f"embedding {pending:,} chunks in units of about {tokens:,} tokens with {plan.model} "
        f"({engine.job.model.precision}): {encoders.actors} encoder{'s' * (encoders.actors != 1)}, {what}; "
        f"{plan.settled_rows:,} chunks are done already"
    )
    if config.cache:
        engine.use_cache(plan)
    finished = engine.run(units)
    share = pending / plan.pending_rows
    planned, done = round(plan.pending_tokens * share), 0
    engine.metrics.planned(planned)
    with CommitLoop(committer.commit, config.commit_seconds, config.commit_units) as loop:
        try:
            with progress.step("loading the model, first unit", None, "units"):
                first = next(finished, None)
            with progress.step("embedding", planned, "tokens") as step:
                for unit in itertools.chain([first] if first else [], finished):
                    loop.add(unit)
                    done += unit.unit.tokens
                    engine.metrics.committed(committer.total.commits)
                    step.done(min(done, planned), engine.metrics.note())
        finally:
            finished.close()


def unit_tokens(plan: Plan, config: EmbedConfig, device: str, encoders: int) -> int:
    """About how many tokens a unit should have: some seconds of work, and several units for each encoder."""
    if config.unit_tokens is not None:
        return config.unit_tokens
    fair = plan.pending_tokens // (encoders * _UNITS_EACH)
    return max(_LEAST_UNIT_TOKENS, min(_UNIT_TOKENS[device], fair))


def _unit_rows(config: EmbedConfig, engine: Engine, session: RaySession, encoders: int) -> int:
    """Most rows of a unit, so that what is in flight fills half of the smallest object store at most."""
    each = (engine.job.model.dimension + 512) * 4  # a vector, and token ids and keys of a usual chunk
    room = session.object_store_bytes() / 2 / (encoders * (2 + config.units_ahead)) / each
    return max(64, min(config.unit_rows, int(room)))


def _device(config: EmbedConfig, session: RaySession) -> Literal["cpu", "cuda"]:
    if config.device != "auto":
        return config.device
    return "cuda" if session.has_gpu() else "cpu"


def _report(
    model: ModelIdentity,
    settled: int,
    swept: int,
    total: Committed,
    metrics: Metrics,
    seconds: float,
    encoding: float,
) -> EmbedReport:
    return EmbedReport(
        model=model.key,
        precision=model.precision,
        rows=total.rows,
        rejects=total.rejects,
        settled_rows=settled,
        needless_rows=total.needless_rows,
        copied_rows=metrics.copied_rows,
        swept_rows=swept,
        units=metrics.units,
        commits=total.commits,
        retries=sum(metrics.retries.values()),
        tokens=metrics.tokens,
        padding=metrics.padding,
        seconds=seconds,
        encoding_seconds=encoding,
        tokens_per_second=metrics.tokens / encoding if encoding else 0.0,
        busy=metrics.busy,
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
