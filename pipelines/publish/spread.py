"""Runs a publication's tasks: here where there is little to do, else by Spark's Python workers."""

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from pipelines.lake import Lake
from pipelines.lake.config import SparkConfig
from pipelines.lake.delta import DeadRows
from pipelines.progress import Step
from pipelines.publish.task import Result, Task

T = TypeVar("T")


def spread(
    lake: Lake,
    config: SparkConfig,
    work: Callable[[Task], T],
    tasks: Sequence[Task],
    inline_rows: int,
    step: Step,
) -> list[T]:
    """What `work` gives for each task, in no order.

    Args:
        lake: Whose catalogue a session gets.
        config: Of the session, which is started where no one runs.
        work: May be sent to other processes.
        tasks: The tasks.
        inline_rows: Up to so many rows are worked on by this process.
        step: Told of the rows done.
    """
    rows = sum(task.rows for task in tasks)
    if rows <= inline_rows:
        made = []
        done = 0
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # pyarrow and numpy leave the interpreter to others
            for task, one in zip(tasks, pool.map(work, tasks), strict=True):
                made.append(one)
                done += task.rows
                step.done(done)
        return made
    from pipelines.lake.spark import spark_session  # a JVM, and a second to import

    with spark_session(lake, config) as spark:
        # The largest first, each as soon as a core is free: the end waits for none of them.
        ordered = sorted(tasks, key=lambda task: -task.rows)
        results: list[T] = spark.sparkContext.parallelize(ordered, len(ordered)).map(work).collect()
    step.done(rows)
    return results


def joined(results: Iterable[Result]) -> Result:
    """All tasks' results as one; a file of the serving table is named once among the rows that go."""
    whole = Result()
    dead: dict[str, list[DeadRows]] = {}
    for result in results:
        whole.files += result.files
        whole.new += result.new
        whole.changed += result.changed
        whole.gone += result.gone
        whole.without_chunk += result.without_chunk
        if result.moment is not None:
            whole.moment = result.moment if whole.moment is None else whole.moment.plus(result.moment)
        for rows in result.dead:
            dead.setdefault(rows.path, []).append(rows)
    for path, parts in dead.items():
        positions = np.unique(np.concatenate([part.positions for part in parts]))
        whole.dead.append(DeadRows(path, parts[0].partition, parts[0].spec_id, positions))
    return whole
