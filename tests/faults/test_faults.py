"""The schedules themselves, and some of them played."""

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.faults.schedule import CHANGES, Event, Kind, LakeKind, draw, is_outage, lake_of
from tests.faults.stage import Stage

_SEEDS = range(200)


def test_a_seed_gives_the_same_schedule_and_another_seed_another() -> None:
    for seed in _SEEDS:
        assert draw(seed, lake_of(seed)) == draw(seed, lake_of(seed))
    schedules = {str(draw(seed, lake_of(seed))) for seed in _SEEDS}
    assert len(schedules) == len(_SEEDS)


def test_every_kind_comes_at_every_moment_and_only_where_it_can() -> None:
    faults = [(seed, fault) for seed in _SEEDS for fault in draw(seed, lake_of(seed)).faults]
    kinds = Counter(fault.kind for _, fault in faults)
    assert set(kinds) == set(Kind)
    assert min(kinds.values()) >= 20
    assert {fault.event for _, fault in faults} == set(Event)
    assert {fault.held for _, fault in faults if fault.event is not Event.ENCODING} == {True, False}
    assert not any(fault.held for _, fault in faults if fault.event is Event.ENCODING)  # nothing stands still
    for seed, fault in faults:
        if is_outage(fault.kind):
            assert (fault.kind is Kind.STORE_AWAY) == (lake_of(seed) == "s3")
    for kind in (Kind.REPLACE, Kind.MOVE):
        assert {fault.by_position for _, fault in faults if fault.kind is kind} == {True, False}
    assert not any(is_outage(kind) for kind in CHANGES)


def test_a_schedule_is_said_in_words() -> None:
    for seed in _SEEDS:
        schedule = draw(seed, lake_of(seed))
        assert str(schedule).count("; ") == len(schedule.faults) - 1
        assert all(fault.kind.value in str(schedule) for fault in schedule.faults)


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """A cluster and a server for all seeds."""
    with Stage() as stage:
        yield stage


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "lake"), [(2, "local"), (5, "s3"), (11, "s3"), (12, "local")])
def test_each_chunk_has_its_one_row_in_the_end(stage: Stage, seed: int, lake: LakeKind) -> None:
    result = stage.play(draw(seed, lake))
    assert result.wrong == []
    assert result.reached > 0
