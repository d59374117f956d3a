"""Spark's finished tasks as progress of a step with a known total."""

import contextlib
import threading
from collections.abc import Iterator

from py4j.protocol import Py4JError
from pyspark.sql import SparkSession

from pipelines.progress import Step

_POLL_SECONDS = 0.5


@contextlib.contextmanager
def task_progress(spark: SparkSession, step: Step, total: int | None) -> Iterator[None]:
    """Advances `step` by the share of Spark's tasks that are done, while the block runs its jobs.

    Spark plans the stages of a query as it goes, so the share never goes back and the end is told only when
    the block ends.
    """
    if total is None:
        yield
        return
    group = f"step-{id(step)}"
    spark.sparkContext.setJobGroup(group, "embedlake")
    ended = threading.Event()

    def watch() -> None:
        best = 0
        while not ended.wait(_POLL_SECONDS):
            try:
                best = max(best, int(0.99 * total * _share(spark, group)))
            except (Py4JError, OSError):
                return  # the JVM is gone: the block itself says so
            step.done(best)

    watcher = threading.Thread(target=watch, name="embedlake-tasks", daemon=True)
    watcher.start()
    try:
        yield
        step.done(total)
    finally:
        ended.set()
        watcher.join()


def _share(spark: SparkSession, group: str) -> float:
    tracker = spark.sparkContext.statusTracker()
    done = planned = 0
    for job in tracker.getJobIdsForGroup(group):
        info = tracker.getJobInfo(job)
        for stage in info.stageIds if info else ():
            stage_info = tracker.getStageInfo(stage)
            if stage_info is not None and stage_info.numTasks:
                done += stage_info.numCompletedTasks
                planned += stage_info.numTasks
    return done / planned if planned else 0.0
