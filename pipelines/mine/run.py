"""The consistency filter and the hard negatives of all windows, by Ray, each window one file and one commit.

Killed anywhere and run again, the windows that are committed are not looked at again; the others are as if
nothing had been. Two runs at once ask the same questions, and the first answer of a window stays.
"""
# ruff: noqa: N806  (array names carry their shape: x_ND)

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.table import Table

from pipelines.cluster.session import load_ray
from pipelines.lake import Lake, LakeConfig
from pipelines.lake.beside import DOCUMENT, Teacher, pairs_lake
from pipelines.lake.commit import append_files
from pipelines.lake.datafiles import WrittenFile, write_data_file
from pipelines.lake.faults import explained
from pipelines.lake.filters import all_of, equals
from pipelines.lake.live import LiveFiles
from pipelines.lake.scan import read_file, scan_files
from pipelines.lake.table_spec import TableSpec
from pipelines.lake.tables import STAGE_PROPERTY
from pipelines.lake.training_tables import JUDGEMENTS, NEGATIVES
from pipelines.mine.config import MineConfig
from pipelines.mine.consistency import judge_window
from pipelines.mine.negatives import Miner
from pipelines.mine.windows import Window, pair_ids, read_side, read_window, windows
from pipelines.progress import Progress


@dataclass(frozen=True)
class MineReport:
    """What a run did.

    Attributes:
        windows: That it answered.
        settled: That were answered before.
        pairs: In the answered ones, by source.
        kept: Of these, pairs that found their document; or that have a hard negative.
    """

    windows: int
    settled: int
    pairs: Mapping[str, int]
    kept: Mapping[str, int]


@dataclass(frozen=True)
class _Answer:
    """A window's file, and what is in it."""

    window: Window
    file: WrittenFile | None
    pairs: int
    kept: int


def filter_pairs(
    lake: Lake, teacher: Teacher, config: MineConfig, device: str, progress: Progress
) -> MineReport:
    """Ranks each pair's document among those of its window, and keeps or drops the pair.

    Args:
        lake: With the pairs; their texts are embedded.
        teacher: Who has embedded them.
        config: Of the filter.
        device: Where similarities are computed, as torch names it.
        progress: Told of windows.
    """
    job = _Job(lake.config, teacher, judged_by(teacher, config), config, device)
    return _answered(lake, JUDGEMENTS, job, _judge, progress, "judging pairs")


def mine_negatives(lake: Lake, teacher: Teacher, config: MineConfig, progress: Progress) -> MineReport:
    """Finds the hard negatives of each pair that the filter has kept.

    Args:
        lake: With the judgements.
        teacher: Who has embedded the texts.
        config: Of the negatives.
        progress: Told of windows.
    """
    job = _Job(lake.config, teacher, asked(teacher, config), config, "cpu")
    return _answered(lake, NEGATIVES, job, _mine, progress, "mining hard negatives")


def judged_by(teacher: Teacher, config: MineConfig) -> str:
    """What a row of `judgements` answers: the teacher, and how far down a document may stand."""
    return f"{teacher.document}/top{config.top}"


def asked(teacher: Teacher, config: MineConfig) -> str:
    """What a row of `negatives` answers: the same, and a hash of the settings."""
    text = json.dumps(config.negatives.model_dump(mode="json"), sort_keys=True)
    return f"{judged_by(teacher, config)}/{hashlib.sha256(text.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class _Job:
    """What every task is told."""

    lake: LakeConfig
    teacher: Teacher
    asked: str
    config: MineConfig
    device: str

    def open(self) -> tuple[Lake, Lake]:
        lake = Lake.open(self.lake)
        return lake, pairs_lake(lake)


def _answered(
    lake: Lake,
    spec: TableSpec,
    job: _Job,
    answer: Callable[[_Job, Window], _Answer],
    progress: Progress,
    label: str,
) -> MineReport:
    lake.ensure_namespace()
    lake.create(spec)
    table = lake.table(spec.name)
    with explained(lake.config):
        everything = windows(pairs_lake(lake))
        done = _done(table, job.asked)
        left = [window for window in everything if window not in done]
        pairs: Counter[str] = Counter()
        kept: Counter[str] = Counter()
        live: LiveFiles[str] = LiveFiles(lambda file: str(file.file_path))

        def still_missing(now: Table, files: Sequence[WrittenFile]) -> Sequence[WrittenFile]:
            there = _done(now, job.asked)
            return [file for file in files if Window(file.partition[0], file.partition[2]) not in there]

        with progress.step(label, len(left), "windows") as step:
            for number, found in enumerate(_by_ray(job, answer, left), start=1):
                if found.file is not None:
                    append_files(table, [found.file], {STAGE_PROPERTY: "mine"}, still_missing, live)
                pairs[found.window.source] += found.pairs
                kept[found.window.source] += found.kept
                step.done(number)
    return MineReport(len(left), len(everything) - len(left), dict(pairs), dict(kept))


def _done(table: Table, question: str) -> set[Window]:
    """Windows that are answered."""
    partitions = LiveFiles(
        lambda file: (str(file.partition[0]), str(file.partition[1]), int(file.partition[2]))
    )
    return {Window(source, number) for source, of, number in partitions.of(table) if of == question}


def _by_ray(
    job: _Job, answer: Callable[[_Job, Window], _Answer], left: Sequence[Window]
) -> Iterator[_Answer]:
    """The answers as they come. A window's vectors want memory, so each node has few at once."""
    ray = load_ray()
    task: Any = ray.remote(num_cpus=1, num_gpus=1 if job.device == "cuda" else 0)(answer)
    at_once = max(1, int(ray.cluster_resources().get("GPU" if job.device == "cuda" else "CPU", 1)))
    waiting = list(reversed(left))
    running: list[Any] = []
    while waiting or running:
        while waiting and len(running) < at_once:
            running.append(task.remote(job, waiting.pop()))
        ready, running = ray.wait(running)
        yield from ray.get(ready)


def _judge(job: _Job, window: Window) -> _Answer:
    lake, texts = job.open()
    queries, documents = read_window(texts, window, job.teacher)
    positives = {at: own for at, own in enumerate(queries.positives) if own}
    found = judge_window(queries.x_ND, documents.x_ND, documents.code_N, positives, job.device)
    kept_N = found.rank_N <= job.config.top
    everyone = pair_ids(texts, window)
    rows = pa.table(
        {
            "pair_id": queries.pair_ids,
            "rank": found.rank_N,
            "score": found.score_N,
            "kept": kept_N,
        }
    )
    silent = everyone.filter(pc.invert(pc.is_in(everyone, queries.pair_ids)))
    rows = pa.concat_tables(
        [rows, pa.table({"pair_id": silent, "kept": np.zeros(len(silent), np.bool_)})],
        promote_options="default",
    )
    return _Answer(window, _written(lake, JUDGEMENTS, job, window, rows), len(rows), int(kept_N.sum()))


def _mine(job: _Job, window: Window) -> _Answer:
    lake, texts = job.open()
    queries, documents = read_window(texts, window, job.teacher)
    kept = _kept(lake, judged_by(job.teacher, job.config), window)
    rows_N = np.flatnonzero(np.asarray(pc.is_in(queries.pair_ids, kept)))
    config = job.config.negatives
    own = [queries.positives[row] or [int(documents.code_N[row])] for row in rows_N.tolist()]
    miner = Miner(queries.x_ND[rows_N], own, config.k, config.depth or config.k)
    score_N = np.einsum("nd,nd->n", queries.x_ND[rows_N], documents.x_ND[rows_N])
    for tile in windows(texts):
        if tile.source == window.source:
            other = read_side(texts, tile, job.teacher, DOCUMENT)
            miner.see(other.x_ND, other.code_N)
    found = miner.negatives(score_N, config.margin)
    offsets = pa.array(np.concatenate(([0], np.cumsum(found.counts_N))).astype(np.int32))
    rows = pa.table(
        {
            "pair_id": queries.pair_ids.take(pa.array(rows_N)),
            "score": score_N.astype(np.float32),
            "documents": pa.ListArray.from_arrays(offsets, pa.array(found.codes_M)),
            "scores": pa.ListArray.from_arrays(offsets, pa.array(found.scores_M)),
        }
    )
    some = int((found.counts_N > 0).sum())
    return _Answer(window, _written(lake, NEGATIVES, job, window, rows), len(rows), some)


def _kept(lake: Lake, judged: str, window: Window) -> pa.Array:
    """Pairs of a window that the filter has kept."""
    table = lake.table(JUDGEMENTS.name)
    where = all_of(equals("source", window.source), equals("asked", judged))
    files = [file for file in scan_files(table, where) if file.partition[2] == window.number]
    parts = [read_file(table, file, ("pair_id", "kept")) for file in files]
    ids = [part.filter(part.column("kept")).column("pair_id").combine_chunks() for part in parts]
    return pa.concat_arrays(ids) if ids else pa.array([], pa.string())


def _written(lake: Lake, spec: TableSpec, job: _Job, window: Window, rows: pa.Table) -> WrittenFile | None:
    if not len(rows):
        return None
    for name, value in (("source", window.source), ("asked", job.asked), ("window", window.number)):
        rows = rows.append_column(name, pa.array([value] * len(rows)))
    return write_data_file(lake.table(spec.name), rows, f"{spec.name}-{window.number}")
