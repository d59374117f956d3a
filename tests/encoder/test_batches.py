import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.encoder.batches import pad, token_budget_batches
from pipelines.errors import ConfigError

LENGTHS = st.lists(st.integers(0, 300), max_size=60)


@given(lengths=LENGTHS, budget=st.integers(1, 1000), above=st.none() | st.integers(0, 300))
def test_batches_hold_every_row_once_within_the_budget(
    lengths: list[int], budget: int, above: int | None
) -> None:
    batches = token_budget_batches(lengths, budget, same_length_above=above)
    assert sorted(np.concatenate([*batches, []]).tolist()) == list(range(len(lengths)))
    flat = [lengths[i] for batch in batches for i in batch]
    assert flat == sorted(lengths, reverse=True)
    for batch in batches:
        inside = [lengths[i] for i in batch]
        assert len(batch) == 1 or len(batch) * max(inside) <= budget
        if above is not None and max(inside) > above:
            assert len(set(inside)) == 1


@given(lengths=LENGTHS, budget=st.integers(1, 1000))
def test_no_batch_could_have_taken_the_next_row(lengths: list[int], budget: int) -> None:
    batches = token_budget_batches(lengths, budget)
    for batch in batches[:-1]:
        assert (len(batch) + 1) * max(1, lengths[batch[0]]) > budget


def test_rows_of_one_length_keep_their_order() -> None:
    assert [batch.tolist() for batch in token_budget_batches([5, 9, 5, 9, 5], 10)] == [[1], [3], [0, 2], [4]]


def test_no_rows_make_no_batches() -> None:
    assert token_budget_batches([], 100) == []


def test_a_budget_below_one_token_is_refused() -> None:
    with pytest.raises(ConfigError, match="batch_tokens"):
        token_budget_batches([1], 0)


def test_padding_follows_each_row() -> None:
    ids_BL, mask_BL = pad([np.array([7, 8, 9]), np.array([5])], pad_id=1)
    assert ids_BL.tolist() == [[7, 8, 9], [5, 1, 1]]
    assert mask_BL.tolist() == [[True, True, True], [True, False, False]]
