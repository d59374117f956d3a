"""What a plan will take, before anything runs: units, tokens, padding, and hours and cost by accelerator."""
# ruff: noqa: N806  (array names carry their shape: x_N)

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from pipelines.embed.plan.plan import Plan
from pipelines.embed.plan.units import Unit
from pipelines.encoder.accelerators import ASSUMED_SHARE, Accelerator
from pipelines.encoder.batches import token_budget_batches
from pipelines.encoder.flops import Flops
from pipelines.lake.runs import Run

_SAMPLED_UNITS = 64
_SAMPLED_ROWS = 4096
_LEAST_TOKENS = 20_000  # of runs that count as a measurement
_LAST_RUNS = 10


@dataclass(frozen=True)
class Expected:
    """What one kind of device would take for a plan.

    Attributes:
        accelerator: Its name.
        tokens_per_second: Of one.
        measured: Whether earlier runs of this lake say so; else it follows from the model's arithmetic.
        hours: On one; on n it is an n-th, as long as there are several units for each.
        cost: Of these hours; None where no price is known.
    """

    accelerator: str
    tokens_per_second: float
    measured: bool
    hours: float
    cost: float | None


@dataclass(frozen=True)
class Work:
    """How much there is to do.

    Attributes:
        units: Units of work.
        rows: Chunks.
        tokens: That the model reads, prefixes and specials included.
        padding: Expected share of padding in what it reads with padding.
        squares: Sum of the squares of the rows' lengths.
    """

    units: int
    rows: int
    tokens: int
    padding: float
    squares: int


def work(plan: Plan, tokens: int, rows: int, limit: int | None, overhead: int, batch_tokens: int) -> Work:
    """Counts a plan's units, and samples their rows for padding.

    Args:
        plan: The plan.
        tokens: About how many a unit has.
        rows: Most rows of a unit.
        limit: See `Wanted`.
        overhead: Tokens that specials and prefix add to a row.
        batch_tokens: Most tokens of one forward pass.
    """
    units = taken = own = 0
    sampled: list[Unit] = []
    every = 1
    for unit in plan.units(tokens, rows, limit):
        units, taken, own = units + 1, taken + unit.rows, own + unit.tokens
        if units % every == 0:
            sampled.append(unit)
            if len(sampled) == 2 * _SAMPLED_UNITS:  # thinned out as more come: spread over all
                sampled, every = sampled[::2], every * 2
    read = padded = squares = 0
    for unit in sampled:
        lengths_N = _lengths(plan, unit) + overhead
        batches = token_budget_batches(lengths_N, batch_tokens)
        padded += sum(int(lengths_N[batch].max()) * len(batch) for batch in batches)
        read += int(lengths_N.sum())
        squares += int((lengths_N**2).sum())
    total = own + overhead * taken
    scale = total / read if read else 0.0
    return Work(units, taken, total, 1 - read / padded if padded else 0.0, round(squares * scale))


def _lengths(plan: Plan, unit: Unit) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """Lengths of a unit's rows, as statistics tell them; no more than some thousands a slice."""
    parts = []
    numbers = plan.chunks.index(np.array([piece.file_id.encode() for piece in unit.slices], dtype="S32"))
    for piece, number in zip(islice(unit.slices, 32), numbers.tolist(), strict=False):
        lengths = plan.lengths(number)
        count = min(piece.rows, _SAMPLED_ROWS)
        x_N = np.linspace(piece.start, max(piece.start, piece.stop - 1), count) / max(1, lengths.rows - 1)
        parts.append(np.round(lengths.at(np.minimum(x_N, 1.0))).astype(np.int64))
    return np.concatenate(parts)


def measured_rates(runs: Iterable[Run]) -> dict[str, float]:
    """Tokens a second of one encoder, by hardware, from the last runs of a model on one kind of it."""
    by_hardware: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        if run.hardware and run.busy_seconds > 0 and ", " not in run.hardware:
            by_hardware[run.hardware].append(run)
    rates = {}
    for hardware, found in by_hardware.items():
        last = found[-_LAST_RUNS:]
        tokens = sum(run.tokens for run in last)
        if tokens >= _LEAST_TOKENS:
            rates[hardware] = tokens / sum(run.busy_seconds for run in last)
    return rates


def expected(
    job: Work, flops: Flops, rates: dict[str, float], kinds: Sequence[Accelerator]
) -> list[Expected]:
    """Hours and cost, the cheapest first; those without a price last.

    Args:
        job: How much there is to do.
        flops: Of the model.
        rates: What was measured, by hardware.
        kinds: Accelerators to reckon with.
    """
    found = []
    left = dict(rates)
    operations = flops.of(job.tokens, job.squares) / max(1, job.tokens)
    for kind in kinds:
        own = [name for name in left if re.search(kind.match, name)]
        rate = max((left.pop(name) for name in own), default=None)
        measured = rate is not None
        if rate is None:
            rate = kind.bf16_tflops * 1e12 * ASSUMED_SHARE / operations if operations else math.inf
        hours = job.tokens / rate / 3600
        cost = None if kind.price_per_hour is None else hours * kind.price_per_hour
        found.append(Expected(kind.name, rate, measured, hours, cost))
    found += [Expected(name, rate, True, job.tokens / rate / 3600, None) for name, rate in left.items()]
    return sorted(found, key=lambda row: (row.cost is None, row.cost or 0.0, row.hours))
