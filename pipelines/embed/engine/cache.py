"""Builds the index of vectors that are there already, by the processes that read and write."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np

from pipelines.cluster.session import load_ray
from pipelines.embed.engine.actors import Failure
from pipelines.embed.engine.pool import Pool
from pipelines.embed.plan.plan import Plan
from pipelines.embed.work.cache import CacheIndex
from pipelines.progress import Progress

# Files of one call. Texts' hashes are 32 bytes a row, so 16 files of 16,384 rows are 8 MiB.
_BATCH = 16
_CALLS_EACH = 4
_MOST_TEXTS = 50_000_000  # 400 MB of hashes, in each node's object store


def build_index(pool: Pool, plan: Plan, progress: Progress) -> CacheIndex | None:
    """Where the vectors of pending texts are, of those that the model has embedded; None where none is.

    Costs one column of the pending chunks and one of the model's embeddings.
    """
    embedded = plan.embedded
    if int(embedded.rows.sum()) == 0 or plan.pending_rows == 0:
        return None
    with progress.step("looking for texts that are embedded", None, "files"):
        found = _gathered(pool, "hashes", ((group,) for group in _batches(plan.slices())))
        probe = _distinct(found)
        if len(probe) == 0:
            return None
        shared = load_ray().put(probe)
        files = [(number, path) for number, path in enumerate(embedded.paths.to_pylist())]
        calls = ((group, shared) for group in _batches(iter(files)))
        index = CacheIndex.merged(list(_gathered(pool, "matches", calls)), [path for _, path in files])
    if len(index.hash_M):
        progress.say(f"{len(index.hash_M):,} of {len(probe):,} texts have a vector already, which is copied")
    return index if len(index.hash_M) else None


def _batches(items: Iterator[Any]) -> Iterator[tuple[Any, ...]]:
    while batch := tuple(islice(items, _BATCH)):
        yield batch


def _distinct(found: Iterable[Any]) -> Any:
    hashes = np.empty(0, dtype=np.uint64)
    waiting: list[Any] = []
    for part in found:
        waiting.append(part)
        if sum(map(len, waiting)) > 4_000_000:
            hashes, waiting = np.unique(np.concatenate([hashes, *waiting])), []
        if len(hashes) >= _MOST_TEXTS:
            break
    return np.unique(np.concatenate([hashes, *waiting]))[:_MOST_TEXTS]


def _gathered(pool: Pool, method: str, calls: Iterator[tuple[Any, ...]]) -> Iterator[Any]:
    """What a method of the helpers gives for each call, in no particular order, some calls at a time."""
    ray = load_ray()
    running: dict[Any, Any] = {}
    while True:
        helpers = [worker for worker in pool.helpers.values() if worker.starting is None]
        free = _CALLS_EACH * len(helpers) - len(running)
        for call in islice(calls, max(0, free)):
            worker = helpers[len(running) % len(helpers)]
            running[getattr(worker.handle, method).remote(*call)] = worker
        if not running:
            return
        (done, *_), _ = ray.wait(list(running), num_returns=1)
        del running[done]
        result = ray.get(done)
        if isinstance(result, Failure):
            raise result.error or RuntimeError(result.detail)
        yield result
