"""Looks through vectors file by file, exactly: for one query or many, here or spread over Ray."""
# ruff: noqa: N803, N806  (array names carry their shape: x_Qd)

import heapq
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from pyiceberg.expressions import BooleanExpression

from pipelines.lake.scan import ScanFile
from pipelines.lake.vector_source import VectorSource
from pipelines.progress import Step
from pipelines.search.top_k import Ranked, TopK

Ranking = list[list[Ranked]]


def scan_top(
    source: VectorSource,
    files: Sequence[ScanFile],
    where: BooleanExpression | None,
    x_Qd: npt.NDArray[np.float32],
    k: int,
    step: Step | None = None,
) -> Ranking:
    """The k best rows for each query, best first, equal scores by chunk_id; one file in memory at a time.

    Args:
        source: Whose files these are.
        files: To look through.
        where: Only rows that match.
        x_Qd: Queries of length 1, made by `source.query`.
        k: Most rows for each.
        step: Told of the rows looked at.
    """
    tops = [TopK(k, x_d) for x_d in x_Qd]
    rows = 0
    for file in files:
        for x_Nd, keys in source.batches(file, x_Qd.shape[1], where):
            if len(tops) == 1:
                tops[0].add(x_Nd, keys)
                continue
            scores_NQ = x_Nd @ x_Qd.T  # one product for all of them
            norm_N = np.sqrt(np.einsum("nd,nd->n", x_Nd, x_Nd))
            np.divide(scores_NQ, norm_N[:, None], out=scores_NQ, where=norm_N[:, None] > 0)
            for top, rough_N in zip(tops, scores_NQ.T, strict=True):
                top.add(x_Nd, keys, rough_N)
        rows += file.rows
        if step is not None:
            step.done(rows)
    return [top.best for top in tops]


def merged(parts: Sequence[Ranking], k: int) -> Ranking:
    """The k best of several looks at different rows."""
    return [heapq.nsmallest(k, [one for part in parts for one in part[q]]) for q in range(len(parts[0]))]


def spread_top(
    source: VectorSource,
    files: Sequence[ScanFile],
    where: BooleanExpression | None,
    x_Qd: npt.NDArray[np.float32],
    k: int,
    workers: int,
    step: Step | None = None,
) -> Ranking:
    """`scan_top` by Ray tasks, each with a share of the files; Ray runs already."""
    import ray  # a second to import, which most searches need not wait for

    remote = ray.remote(scan_top)
    waiting = {
        remote.remote(source, group, where, x_Qd, k): sum(file.rows for file in group)
        for group in grouped(files, workers)
    }
    parts, rows = [], 0
    while waiting:
        [done], _ = ray.wait(list(waiting), num_returns=1)
        parts.append(ray.get(done))
        rows += waiting.pop(done)
        if step is not None:
            step.done(rows)
    return merged(parts, k) if parts else [[] for _ in x_Qd]


def grouped(files: Sequence[ScanFile], count: int) -> list[list[ScanFile]]:
    """The files in at most `count` groups of about equally many rows."""
    groups: list[list[ScanFile]] = [[] for _ in range(min(count, len(files)))]
    sizes = [0] * len(groups)
    for file in sorted(files, key=lambda file: -file.rows):
        smallest = sizes.index(min(sizes))
        groups[smallest].append(file)
        sizes[smallest] += file.rows
    return groups
