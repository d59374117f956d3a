"""What becomes of units that fail: rows that no model can take are found, and cost no other row anything."""

from collections.abc import Sequence
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.embed.engine.trouble import LONE_TRIES, LOSSES, TRIES, Attempt, Fault, Verdict, after
from pipelines.embed.plan.units import Slice, Unit
from pipelines.lake.scan import ScanFile
from tests.embed.columns import id_of

Row = tuple[str, int]


def _slice(number: int, mask: Sequence[bool]) -> Slice:
    keep = None if all(mask) else np.packbits(np.array(mask, dtype=np.bool_)).tobytes()
    file = ScanFile(f"/lake/{number}", ("a", 0), 0, len(mask))
    return Slice(id_of(number), file, 0, len(mask), sum(mask), sum(mask), keep)


def _rows(unit: Unit) -> list[Row]:
    return [
        (piece.file_id, piece.start + int(at)) for piece in unit.slices for at in np.flatnonzero(piece.mask())
    ]


_masks = st.lists(st.booleans(), min_size=1, max_size=40).filter(any)
_units = st.lists(_masks, min_size=1, max_size=6).map(
    lambda masks: Unit(3, tuple(_slice(number, mask) for number, mask in enumerate(masks)))
)


@given(_units, st.data(), st.randoms(use_true_random=False), st.sampled_from([Fault.FAILED, Fault.CRASHED]))
def test_exactly_the_poison_rows_are_rejected_in_few_tries(
    unit: Unit, data: st.DataObject, random: Random, fault: Fault
) -> None:
    rows = _rows(unit)
    poison = set(data.draw(st.lists(st.sampled_from(rows), max_size=4)))
    waiting, tries = [Attempt(unit)], 0
    embedded: list[Row] = []
    rejected: list[Row] = []
    while waiting:
        attempt = waiting.pop(random.randrange(len(waiting)))
        tries += 1
        held = _rows(attempt.unit)
        if not poison & set(held):
            embedded += held
            continue
        if random.random() < 0.2:  # and now and then the node goes under it
            (attempt,) = after(attempt, Fault.LOST, "gone", "w")[1]
        verdict, left = after(attempt, fault, "boom", f"w{tries}")
        if verdict is Verdict.REJECT:
            assert [entry.detail for entry in left] == ["boom"]
            rejected += [row for entry in left for row in _rows(entry.unit)]
        else:
            assert verdict is Verdict.AGAIN
            waiting += left
    assert sorted(rejected) == sorted(poison)
    assert sorted(embedded) == sorted(set(rows) - poison)
    widest = max(piece.rows for piece in unit.slices)
    depth = (len(unit.slices) - 1).bit_length() + (widest - 1).bit_length()
    assert tries <= (TRIES + (2 * depth + LONE_TRIES) * len(poison) if poison else 1)


_TEN = Unit(0, (_slice(0, [True] * 6), _slice(1, [True] * 4)))
_ONE = Unit(0, (_slice(0, [False, True]),))


@pytest.mark.parametrize("fault", [Fault.FAILED, Fault.CRASHED])
def test_a_unit_is_tried_whole_again_elsewhere_before_it_is_halved(fault: Fault) -> None:
    verdict, (again,) = after(Attempt(_TEN), fault, "boom", "w1")
    assert (verdict, again.unit, again.avoid, again.detail) == (
        Verdict.AGAIN,
        _TEN,
        frozenset({"w1"}),
        "boom",
    )
    verdict, halves = after(again, fault, "bang", "w2")
    assert verdict is Verdict.AGAIN
    assert [half.unit.rows for half in halves] == [6, 4]
    assert all(half.avoid == {"w1", "w2"} for half in halves)
    # A half is suspect already: it is halved at once.
    assert [quarter.unit.rows for quarter in after(halves[0], fault, "bang", "w1")[1]] == [3, 3]


@pytest.mark.parametrize("fault", [Fault.FAILED, Fault.CRASHED])
def test_one_row_is_tried_three_times_and_then_rejected(fault: Fault) -> None:
    attempt = Attempt(_ONE)
    for _ in range(LONE_TRIES - 1):
        verdict, (attempt,) = after(attempt, fault, "boom", "w1")
        assert verdict is Verdict.AGAIN
    verdict, (last,) = after(attempt, fault, "bang", "w1")
    assert (verdict, last.unit, last.detail) == (Verdict.REJECT, _ONE, "bang")


def test_a_row_beside_poison_is_not_rejected_because_its_encoder_was_killed_once() -> None:
    two = Unit(0, (_slice(0, [True] * 2),))
    _, (again,) = after(Attempt(two), Fault.FAILED, "boom", "w1")
    _, (left, right) = after(again, Fault.FAILED, "boom", "w2")
    for half in (left, right):
        assert after(half, Fault.CRASHED, "killed", "w1")[0] is Verdict.AGAIN


def test_lost_work_is_done_again_whole_and_the_run_ends_if_it_is_lost_again_and_again() -> None:
    attempt = Attempt(_ONE)
    for _ in range(LOSSES):
        verdict, (attempt,) = after(attempt, Fault.LOST, "the node went", "w1")
        assert (verdict, attempt.unit, attempt.tries, attempt.avoid) == (Verdict.AGAIN, _ONE, 0, frozenset())
    assert after(attempt, Fault.LOST, "the node went", "w1") == (Verdict.GIVE_UP, [])


def test_an_unreachable_store_is_waited_for_without_end_and_rejects_nothing() -> None:
    attempt = Attempt(_ONE)
    for number in range(1, 200):
        verdict, (attempt,) = after(attempt, Fault.UNREACHABLE, "no answer", "w1")
        assert (verdict, attempt.waits, attempt.unit) == (Verdict.AGAIN, number, _ONE)
    assert (attempt.tries, attempt.losses, attempt.avoid) == (0, 0, frozenset())


def test_of_a_unit_with_a_file_that_is_gone_the_other_files_are_done() -> None:
    verdict, parts = after(Attempt(_TEN), Fault.GONE, "gone", "w1")
    assert verdict is Verdict.AGAIN
    assert [part.unit.slices for part in parts] == [(piece,) for piece in _TEN.slices]
    assert after(parts[0], Fault.GONE, "gone", "w1") == (Verdict.DROP, [])
