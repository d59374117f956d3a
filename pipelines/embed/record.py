"""A run's row in the table `runs`, written however the run ends, unless it is killed."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from pipelines.embed.commit.committer import Committed
from pipelines.embed.metrics import Metrics
from pipelines.embed.plan.survey import STAGE
from pipelines.errors import EmbedlakeError
from pipelines.lake import Lake
from pipelines.lake.runs import Run, append_run
from pipelines.progress import Progress
from pipelines.redact import redact

_DETAIL_CHARS = 500


@contextmanager
def recorded(
    lake: Lake, run_id: str, model: str, metrics: Metrics, total: Committed, progress: Progress
) -> Iterator[None]:
    """Adds the row when the block ends; a lake that cannot take it is told of and is no fault of the run."""
    began, clock = datetime.now(UTC), time.monotonic()
    outcome, detail = "done", None
    try:
        yield
    except Exception as error:
        outcome, detail = "failed", redact(" ".join(str(error).split()))[:_DETAIL_CHARS]
        raise
    except BaseException as error:  # Ctrl-C or SIGTERM
        outcome, detail = "stopped", type(error).__name__
        raise
    finally:
        run = Run(
            run_id=run_id,
            job=STAGE,
            model=model,
            started_at=began,
            ended_at=datetime.now(UTC),
            outcome=outcome,
            detail=detail,
            hardware=", ".join(sorted(metrics.hardware)) or None,
            encoders=metrics.started,
            rows=total.rows,
            rejects=total.rejects,
            copied_rows=metrics.copied_rows,
            needless_rows=total.needless_rows,
            units=metrics.units,
            commits=total.commits,
            retries=sum(metrics.retries.values()),
            tokens=metrics.tokens,
            padded_tokens=metrics.padded_tokens,
            seconds=time.monotonic() - clock,
            encoding_seconds=time.time() - metrics.encoding_from if metrics.encoding_from else 0.0,
            busy_seconds=metrics.busy_seconds,
        )
        try:
            append_run(lake, run)
        except EmbedlakeError as error:
            progress.say(f"the run is not recorded: {error}")
