"""The curate job."""

import json
from collections.abc import Sequence

from rich.console import Console

from jobs.console import ConsoleProgress
from jobs.settings import Settings
from pipelines.curate.ledger.rebuild import rebuild as rebuild_lake
from pipelines.curate.removals import NOTHING_REMOVED, Removals
from pipelines.curate.report import CurateReport
from pipelines.curate.run import curate as curate_inputs
from pipelines.encoder.conf import load_model_conf
from pipelines.errors import InputError
from pipelines.lake import Lake


def run(
    settings: Settings,
    inputs: Sequence[str],
    removals: Removals = NOTHING_REMOVED,
    rebuild: bool = False,
    as_json: bool = False,
    only: frozenset[str] | None = None,
) -> None:
    """Curates `inputs` into the lake and prints what became of them.

    Args:
        settings: Of the job.
        inputs: What to read.
        removals: What is to go.
        rebuild: Judge and cut what the lake has anew, instead of reading anything.
        as_json: Print JSON.
        only: URIs of the files to read of the inputs; None reads all.

    Raises:
        InputError: Options contradict each other.
    """
    progress = ConsoleProgress(Console(stderr=True))
    model = load_model_conf(settings.model)
    lake = Lake.open(settings.lake)
    if rebuild:
        if inputs or removals.deletes or removals.full:
            raise InputError("--rebuild reads nothing but the lake", "Give it alone, then curate the input")
        report = rebuild_lake(lake, model, settings.curate, settings.spark, progress)
    else:
        report = curate_inputs(lake, inputs, model, settings.curate, settings.spark, progress, removals, only)
    if as_json:
        print(json.dumps(report.as_dict()))  # noqa: T201 - for programs
    else:
        Console().print(summary(report), highlight=False, markup=False, soft_wrap=True)


def summary(report: CurateReport) -> str:
    """The report in a few lines."""
    lines = [f"{location}: {line}" for location, line in report.left_out.items()]
    if not (report.new or report.deleted or report.rejudged):
        known = (
            f"nothing new: all {report.given:,} documents are in the lake already ({report.seconds:.0f} s)"
        )
        return "\n".join([*lines, known])
    rejected = sum(report.rejects.values())
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(report.rejects.items()))
    near = f" ({report.near:,} of them near)" if report.near else ""
    lines.append(
        f"{report.new:,} new documents: {report.kept:,} kept, {report.duplicates:,} duplicates{near}, "
        f"{rejected:,} rejects" + (f" ({reasons})" if reasons else "")
    )
    if report.changed or report.deleted or report.rejudged:
        lines.append(
            f"{report.changed:,} of them replace an older version; {report.deleted:,} removed, "
            f"{report.rejudged:,} others judged otherwise than before"
        )
    repeated = max(report.given - report.new, 0)
    lines.append(
        f"{report.chunks:,} chunks written; {report.given:,} records read, {repeated:,} known or repeated; "
        f"{report.seconds:.0f} s"
    )
    return "\n".join(lines)
