"""Which batch is which step, and how many there are: decided on the driver, from counts and a seed. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pipelines.errors import TrainingError
from pipelines.train.recipe import ContrastiveRecipe

SEGMENT_ROWS = 32_768  # rows that a worker's reader takes up at once: some tens of MB of ids
SHARD_ROWS = 256


@dataclass(frozen=True)
class Order:
    """The batches of a run.

    Attributes:
        batches: By unit, whole batches in an epoch.
        skipped: Units with fewer pairs than a batch, and how many they have.
        steps: By epoch, unit and number of the batch in it: the step.
        batch: Rows of a batch.
        segment: Steps of a segment.
        shards: Parts of each batch's slots.
    """

    batches: Mapping[str, int]
    skipped: Mapping[str, int]
    steps: Mapping[tuple[int, str, int], int]
    batch: int
    segment: int
    shards: int


def batch_order(recipe: ContrastiveRecipe, units: Mapping[str, int]) -> Order:
    """Draws the order of the batches: each of one unit, units in proportion to their size, epoch by epoch.

    Args:
        recipe: Batch, epochs, seed, and the sources' own numbers.
        units: Pairs that there are, by unit: a source, or `source/cluster`.

    Raises:
        TrainingError: A source has fewer pairs than the recipe takes, or than a batch; or nothing is left.
    """
    wanted = {source.name: source.pairs for source in recipe.sources}
    batches: dict[str, int] = {}
    skipped: dict[str, int] = {}
    for source, pairs in wanted.items():
        own = {
            unit: count for unit, count in units.items() if unit == source or unit.startswith(f"{source}/")
        }
        there = sum(own.values())
        if pairs is not None and there < pairs:
            raise TrainingError(
                f"source '{source}' has {there:,} pairs, and the recipe takes {pairs:,} of it",
                "Lower its pairs in the recipe, or bring more: embedlake pairs",
            )
        whole = {unit: count // recipe.batch for unit, count in own.items()}
        if not any(whole.values()):
            if recipe.too_few == "error":
                raise TrainingError(
                    f"source '{source}' has {there:,} pairs, fewer than a batch of {recipe.batch:,}",
                    "Lower batch, drop the source, or set too_few to skip",
                )
            skipped[source] = there
            continue
        batches |= _limited(whole, None if pairs is None else pairs // recipe.batch)
    if not batches:
        raise TrainingError(f"no source of '{recipe.name}' has enough pairs for a batch", "Lower batch")
    steps: dict[tuple[int, str, int], int] = {}
    for epoch in range(recipe.epochs):
        all_ = [(epoch, unit, number) for unit in sorted(batches) for number in range(batches[unit])]
        drawn = np.random.default_rng((recipe.seed, epoch)).permutation(len(all_))
        steps |= {all_[which]: epoch * len(all_) + at for at, which in enumerate(drawn.tolist())}
    return Order(
        batches=batches,
        skipped=skipped,
        steps=steps,
        batch=recipe.batch,
        segment=max(1, SEGMENT_ROWS // recipe.batch),
        shards=max(1, min(64, recipe.batch // SHARD_ROWS)),
    )


def _limited(whole: Mapping[str, int], most: int | None) -> dict[str, int]:
    """Batches of a source's units, no more than `most` together: taken from the largest, down to the rest."""
    taken: dict[str, int] = {}
    for unit in sorted(whole, key=lambda name: (-whole[name], name)):
        count = whole[unit] if most is None else min(whole[unit], most - sum(taken.values()))
        if count > 0:
            taken[unit] = count
    return taken
