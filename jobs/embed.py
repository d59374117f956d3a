"""The embed job."""

import json
from dataclasses import asdict

from rich.console import Console

from jobs.console import ConsoleProgress
from jobs.settings import Settings
from pipelines.embed.plan.plan import Wanted
from pipelines.embed.run import EmbedReport
from pipelines.embed.run import embed as embed_chunks
from pipelines.encoder.conf import load_model_conf
from pipelines.lake import Lake


def run(settings: Settings, wanted: Wanted, as_json: bool) -> None:
    """Embeds the pending chunks and prints how many, and how fast."""
    progress = ConsoleProgress(Console(stderr=True))
    model = load_model_conf(settings.model)
    lake = Lake.open(settings.lake)
    report = embed_chunks(lake, model, settings.embed, settings.ray, progress, wanted)
    if as_json:
        print(json.dumps(asdict(report)))  # noqa: T201 - for programs
    else:
        Console().print(summary(report), highlight=False, markup=False, soft_wrap=True)


def summary(report: EmbedReport) -> str:
    """The report in a line or two."""
    if report.units == 0:
        return (
            f"nothing new: {report.settled_rows:,} chunks are done by {report.model} ({report.seconds:.0f} s)"
        )
    others = f", {report.needless_rows:,} left to another job" if report.needless_rows else ""
    copied = f", {report.copied_rows:,} of them copied" if report.copied_rows else ""
    return (
        f"{report.rows:,} chunks embedded by {report.model}{copied}, {report.rejects:,} rejects{others}\n"
        f"{report.tokens:,} tokens at {report.tokens_per_second:,.0f} tokens/s, encoders {report.busy:.0%} "
        f"busy; {report.commits} commits; {report.seconds:.0f} s"
    )
