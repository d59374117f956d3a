"""How many pairs there are, what teachers have said of them, and which runs there are."""

from collections import Counter
from dataclasses import dataclass

import pyarrow.compute as pc

from pipelines.lake.lake import Lake
from pipelines.lake.live import LiveFiles
from pipelines.lake.scan import read_file, scan_files
from pipelines.lake.training_tables import CHECKPOINTS, JUDGEMENTS, NEGATIVES, PAIRS


@dataclass(frozen=True)
class SourceCounts:
    """Of one source of pairs.

    Attributes:
        outcomes: Pairs by outcome.
        consistent: Pairs that the filter has kept, by what was asked.
        negatives: Pairs that were mined for, by what was asked.
    """

    outcomes: dict[str, int]
    consistent: dict[str, int]
    negatives: dict[str, int]


def pair_counts(lake: Lake) -> dict[str, SourceCounts]:
    """By source; none where there are no pairs."""
    outcomes, consistent, negatives = (Counter[tuple[str, str]]() for _ in range(3))
    if lake.exists(PAIRS.name):
        table = lake.table(PAIRS.name)
        for file in scan_files(table):
            for found in pc.value_counts(read_file(table, file, ("outcome",)).column("outcome")).to_pylist():
                outcomes[file.partition[0], found["values"]] += found["counts"]
    if lake.exists(JUDGEMENTS.name):
        table = lake.table(JUDGEMENTS.name)
        for file in scan_files(table):
            kept = pc.sum(read_file(table, file, ("kept",)).column("kept")).as_py() or 0
            consistent[file.partition[0], file.partition[1]] += kept
    if lake.exists(NEGATIVES.name):
        for file in scan_files(lake.table(NEGATIVES.name)):
            negatives[file.partition[0], file.partition[1]] += file.rows
    return {
        source: SourceCounts(*(_of(source, counts) for counts in (outcomes, consistent, negatives)))
        for source in sorted({source for source, _ in outcomes})
    }


def run_steps(lake: Lake) -> dict[str, int]:
    """The newest checkpoint's step of each training run."""
    steps: dict[str, int] = {}
    if lake.exists(CHECKPOINTS.name):
        live = LiveFiles(lambda file: (str(file.partition[0]), int(file.partition[1])))
        for run, step in live.of(lake.table(CHECKPOINTS.name)):
            steps[run] = max(steps.get(run, 0), step)
    return steps


def _of(source: str, counts: Counter[tuple[str, str]]) -> dict[str, int]:
    return {key: count for (of, key), count in sorted(counts.items()) if of == source}
