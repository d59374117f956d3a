"""The publish job."""

import json
from dataclasses import asdict

from rich.console import Console

from jobs.console import ConsoleProgress
from jobs.settings import Settings
from pipelines.encoder.conf import load_model_conf
from pipelines.encoder.fingerprint import describe_model
from pipelines.lake import Lake
from pipelines.publish.release import roll_back
from pipelines.publish.report import Report, Request
from pipelines.publish.run import publish as publish_embeddings


def run(settings: Settings, release: str | None, rebuild: bool, refit: bool, as_json: bool) -> None:
    """Publishes and prints what changed."""
    conf = load_model_conf(settings.model)
    lake = Lake.open(settings.lake)
    # Where its precision is left to the machine, the lake's only vectors by the model are meant.
    model = conf.name if conf.precision == "auto" else describe_model(conf, conf.precision).key
    request = Request(model, conf, release, rebuild, refit)
    progress = ConsoleProgress(Console(stderr=True))
    report = publish_embeddings(lake, settings.publish, settings.spark, request, progress)
    _told(asdict(report) if as_json else summary(report))


def roll_back_to(settings: Settings, as_of: str, as_json: bool) -> None:
    """Makes a release the table again and prints which publication that is."""
    conf = load_model_conf(settings.model)
    lake = Lake.open(settings.lake)
    name = settings.publish.table_name(conf.name, settings.publish.dim or conf.dimension)
    state = roll_back(lake, name, as_of)
    line = f"{name} is '{as_of}' again: {state.model} at {state.dim} dimensions, {state.type}"
    _told({"table": name, **asdict(state)} if as_json else line)


def summary(report: Report) -> str:
    """The report in a line or two."""
    lines = []
    if report.kind == "nothing":
        lines.append(f"nothing new: {report.table} has {report.rows:,} rows ({report.seconds:.1f} s)")
    else:
        lines.append(
            f"{report.table}: {report.rows:,} rows; {report.new:,} new, {report.changed:,} changed, "
            f"{report.gone:,} gone; {report.files} files, {report.kind} ({report.seconds:.1f} s)"
        )
    if report.without_chunk:
        lines.append(f"{report.without_chunk:,} embeddings were left out: their chunks are gone")
    if report.rotation:
        held, best = report.rotation
        lines.append(f"rotation: holds {held:.1%} of the vectors' energy, one fitted now {best:.1%}")
    if report.release:
        lines.append(f"release '{report.release}': --rollback {report.release} makes it the table again")
    return "\n".join(lines)


def _told(told: str | dict[str, object]) -> None:
    if isinstance(told, str):
        Console().print(told, highlight=False, markup=False, soft_wrap=True)
    else:
        print(json.dumps(told))  # noqa: T201 - for programs
