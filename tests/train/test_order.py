"""The order of batches."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import TrainingError
from pipelines.train.order import batch_order
from tests.train.lakes import contrastive


@given(
    counts=st.lists(st.integers(0, 400), min_size=1, max_size=5),
    epochs=st.integers(1, 3),
    seed=st.integers(0, 9),
)
def test_every_whole_batch_is_one_step_of_each_epoch(counts: list[int], epochs: int, seed: int) -> None:
    sources = [{"name": f"s{number}"} for number in range(len(counts))]
    recipe = contrastive(sources=sources, epochs=epochs, seed=seed, too_few="skip", negatives=0)
    units = {f"s{number}": count for number, count in enumerate(counts)}
    if all(count < 16 for count in counts):
        with pytest.raises(TrainingError, match="no source of 'tiny'"):
            batch_order(recipe, units)
        return
    order = batch_order(recipe, units)
    whole = sum(count // 16 for count in counts)
    assert sorted(order.steps.values()) == list(range(epochs * whole))
    assert order.skipped == {unit: count for unit, count in units.items() if count < 16}
    for (epoch, unit, number), step in order.steps.items():
        assert epoch * whole <= step < (epoch + 1) * whole
        assert number < units[unit] // 16
    assert order == batch_order(recipe, units)


def test_sources_come_in_proportion_and_mixed() -> None:
    recipe = contrastive(sources=[{"name": "big"}, {"name": "small"}], negatives=0)
    order = batch_order(recipe, {"big": 16 * 900, "small": 16 * 100})
    small = sorted(step for (_, unit, _), step in order.steps.items() if unit == "small")
    assert len(small) == 100
    assert 20 <= sum(step < 500 for step in small) <= 80
    other = batch_order(
        contrastive(sources=[{"name": "big"}, {"name": "small"}], negatives=0, seed=1),
        {"big": 16 * 900, "small": 16 * 100},
    )
    assert other.steps != order.steps


def test_a_source_with_too_few_pairs_is_named() -> None:
    with pytest.raises(TrainingError, match="'s' has 15 pairs, fewer than a batch of 16"):
        batch_order(contrastive(), {"s": 15})
    with pytest.raises(TrainingError, match="'s' has 40 pairs, and the recipe takes 48"):
        batch_order(contrastive(sources=[{"name": "s", "pairs": 48}], negatives=0), {"s": 40})


def test_clusters_are_units_and_a_sources_number_holds_for_all_of_them() -> None:
    recipe = contrastive(sources=[{"name": "s", "pairs": 96}], negatives=0)
    order = batch_order(recipe, {"s/0": 70, "s/1": 40, "s/2": 17, "s/3": 3, "sister": 500})
    assert order.batches == {"s/0": 4, "s/1": 2}
