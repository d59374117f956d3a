"""The curate job."""

import json
from collections.abc import Sequence

from rich.console import Console

from jobs.console import ConsoleProgress
from jobs.settings import Settings
from pipelines.curate.run import CurateReport
from pipelines.curate.run import curate as curate_inputs
from pipelines.encoder.conf import load_model_conf
from pipelines.lake import Lake


def run(settings: Settings, inputs: Sequence[str], as_json: bool) -> None:
    """Curates `inputs` into the lake and prints what became of them."""
    progress = ConsoleProgress(Console(stderr=True))
    model = load_model_conf(settings.model)
    lake = Lake.open(settings.lake)
    report = curate_inputs(lake, inputs, model, settings.curate, settings.spark, progress)
    if as_json:
        print(json.dumps(report.as_dict()))  # noqa: T201 - for programs
    else:
        Console().print(summary(report), highlight=False, markup=False, soft_wrap=True)


def summary(report: CurateReport) -> str:
    """The report in a line or two."""
    if report.new == 0:
        return f"nothing new: all {report.given:,} documents are in the lake already ({report.seconds:.0f} s)"
    rejected = sum(report.rejects.values())
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(report.rejects.items()))
    known = report.given - report.new
    lines = [
        f"{report.new:,} new documents: {report.kept:,} kept in {report.chunks:,} chunks, "
        f"{report.duplicates:,} duplicates, {rejected:,} rejects" + (f" ({reasons})" if reasons else ""),
        f"{report.given:,} records read, {known:,} of them known or repeated; {report.seconds:.0f} s",
    ]
    return "\n".join(lines)
