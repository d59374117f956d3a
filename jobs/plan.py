"""The plan job: what an embed run would do, and what it would take."""

import json
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from jobs.console import ConsoleProgress
from jobs.settings import Settings
from pipelines.cluster.nodes import Device
from pipelines.cluster.session import local_gpus
from pipelines.embed.plan.check import check_chunks, new_fingerprint
from pipelines.embed.plan.cost import Expected, Work, expected, measured_rates, work
from pipelines.embed.plan.plan import Wanted
from pipelines.embed.plan.survey import survey
from pipelines.embed.run import unit_tokens
from pipelines.encoder.accelerators import ASSUMED_SHARE, accelerators
from pipelines.encoder.batches import usual_batch_tokens
from pipelines.encoder.conf import load_model_conf, model_folder
from pipelines.encoder.fingerprint import describe_model, resolve_precision
from pipelines.encoder.flops import forward_flops
from pipelines.encoder.tokenizer import Tokenizer
from pipelines.lake import Lake
from pipelines.lake.runs import recorded_runs


def run(settings: Settings, wanted: Wanted, as_json: bool) -> None:
    """Prints the work that is left for the model, and what each kind of accelerator would take for it."""
    progress = ConsoleProgress(Console(stderr=True))
    conf = load_model_conf(settings.model)
    lake = Lake.open(settings.lake)
    config = settings.embed
    device: Device = "cuda" if settings.ray.address or local_gpus() else "cpu"
    if config.device != "auto":
        device = config.device
    model = describe_model(conf, resolve_precision(conf, device))
    check_chunks(lake.table("chunks"), conf, model)
    lake.ensure_tables()
    if notice := new_fingerprint(lake.table("embeddings"), model):
        progress.say(notice)
    with progress.step("reading manifests", None, "files"):
        plan = survey(lake, model.key, progress, wanted)
    overhead = Tokenizer.load(conf).overhead(conf.prefix("document"))
    job = work(
        plan,
        unit_tokens(plan, config, device, config.actors or 1),
        config.unit_rows,
        wanted.limit,
        overhead,
        config.batch_tokens or usual_batch_tokens(device),
    )
    rates = measured_rates(recorded_runs(lake, model.key))
    rows = expected(job, forward_flops(model_folder(conf)), rates, accelerators())
    if as_json:
        told = {"model": model.key, "done": plan.settled_rows, **asdict(job)}
        print(json.dumps(told | {"expected": [asdict(row) for row in rows]}))  # noqa: T201 - for programs
    else:
        _print(model.key, plan.settled_rows, job, rows, Console())


def _print(model: str, done: int, job: Work, rows: list[Expected], console: Console) -> None:
    console.print(
        f"{job.rows:,} chunks in {job.units:,} units are left for {model}: {job.tokens:,} tokens, "
        f"{job.padding:.1%} padding; {done:,} chunks are done",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    if job.rows == 0:
        return
    table = Table(title="on one accelerator", title_justify="left")
    table.add_column("accelerator", no_wrap=True)
    for name in ("tokens/s", "hours", "cost"):
        table.add_column(name, justify="right")
    table.add_column("known from")
    for row in rows:
        table.add_row(
            row.accelerator,
            f"{row.tokens_per_second:,.0f}",
            f"{row.hours:,.2f}",
            "" if row.cost is None else f"{row.cost:,.2f}",
            "runs of this lake" if row.measured else f"the model's FLOPs at {ASSUMED_SHARE:.0%} of peak",
        )
    console.print(table)
    console.print("prices: conf/accelerators.yaml; put your own there", highlight=False)
