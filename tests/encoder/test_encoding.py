"""What surrounds the forward pass: ragged rows, padding, memory that runs out, batches made ahead."""

import threading
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
import torch

from pipelines.encoder.backends.base import Batch
from pipelines.encoder.backends.packed import PackedBackend
from pipelines.encoder.backends.padded import PaddedBackend
from pipelines.encoder.conf import ModelConf, model_folder
from pipelines.encoder.feed import prefetched
from pipelines.encoder.loading import load_transformer
from pipelines.encoder.model import Encoder
from pipelines.encoder.ragged import Ragged
from tests.encoder.nomic import TRAINED, legacy_weights, nomic_conf, save
from tests.encoder.texts import filled_chunks

Row = npt.NDArray[np.int32]


@pytest.fixture(scope="module")
def rows(encoder: Encoder) -> list[Row]:
    return encoder.tokenizer.model_inputs(filled_chunks(encoder.tokenizer, 300, most=62), "")


def test_joined_rows_are_rows(encoder: Encoder, rows: list[Row]) -> None:
    some = rows[:50]
    np.testing.assert_array_equal(encoder.encode_ids(Ragged.of(some)), encoder.encode_ids(some))
    assert encoder.encode(Ragged.of([])).vectors_ND.shape == (0, 384)


class Counting(PaddedBackend):
    """Computes nothing, and remembers the shapes that it was given."""

    def __init__(self, *, most_tokens: int | None = None, error: Exception | None = None) -> None:
        self._pad_id = 0
        self.shapes: list[tuple[int, int]] = []
        self._most, self._error = most_tokens, error

    def pool(self, batch: Batch) -> torch.Tensor:
        if self._error and (self._most is None or batch.ids.numel() > self._most):
            raise self._error
        self.shapes.append((batch.ids.shape[0], batch.ids.shape[1]))
        # A vector that only the row itself could have: its sum of ids.
        return torch.nn.functional.one_hot((batch.ids * batch.mask_BL).sum(dim=1) % 384, 384).float()


def with_backend(encoder: Encoder, backend: PaddedBackend | PackedBackend) -> Encoder:
    return Encoder(encoder.conf, encoder.tokenizer, encoder.identity, backend, "cpu", "a test's")


def test_real_text_at_the_default_budget_is_padded_by_at_most_3_percent(encoder: Encoder) -> None:
    rows = encoder.tokenizer.model_inputs(filled_chunks(encoder.tokenizer, 2000, most=254), "")
    lengths = [len(row) for row in rows]
    assert min(lengths) < 10
    assert max(lengths) == 256
    counting = Counting()
    encoded = with_backend(encoder, counting).encode(rows)
    assert encoded.tokens == sum(lengths)
    assert encoded.padded_tokens == sum(count * length for count, length in counting.shapes)
    assert encoded.padding == 1 - encoded.tokens / encoded.padded_tokens
    assert 0 < encoded.padding <= 0.03


def test_rows_one_after_the_other_are_not_padded(
    encoder: Encoder, minilm: ModelConf, rows: list[Row]
) -> None:
    packed = with_backend(encoder, PackedBackend(load_transformer(minilm, model_folder(minilm), "float32")))
    encoded = packed.encode(rows[:60], batch_tokens=1024)
    assert encoded.padded_tokens == encoded.tokens
    assert encoded.padding == 0
    np.testing.assert_allclose(encoded.vectors_ND, encoder.encode_ids(rows[:60]), atol=2e-6)


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: 3 bytes"),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=["gpu", "python", "host"])
def test_out_of_memory_halves_the_budget_and_goes_on(
    encoder: Encoder, rows: list[Row], error: Exception
) -> None:
    tight, ample = Counting(most_tokens=700, error=error), Counting()
    limited = with_backend(encoder, tight)
    encoded = limited.encode(rows)
    np.testing.assert_array_equal(encoded.vectors_ND, with_backend(encoder, ample).encode_ids(rows))
    assert limited.most_batch_tokens is not None
    assert 350 < limited.most_batch_tokens <= 700
    assert max(count * length for count, length in tight.shapes) <= limited.most_batch_tokens

    before = len(tight.shapes)
    tight._error = AssertionError("the next call should begin with what has fitted")
    np.testing.assert_array_equal(limited.encode_ids(rows), encoded.vectors_ND)
    assert tight.shapes[before:] == tight.shapes[:before]


def test_memory_that_runs_out_in_the_middle_loses_and_repeats_no_row(
    encoder: Encoder, rows: list[Row]
) -> None:
    class Later(Counting):
        """Fails once, at its third batch."""

        def pool(self, batch: Batch) -> torch.Tensor:
            self._error = MemoryError() if len(self.shapes) == 2 and not self._error else None
            if self._error:
                self.shapes.append((0, 0))
                raise self._error
            return super().pool(batch)

    later = Later()
    vectors = with_backend(encoder, later).encode_ids(rows, batch_tokens=1000)
    np.testing.assert_array_equal(vectors, with_backend(encoder, Counting()).encode_ids(rows))
    assert sum(count for count, _ in later.shapes) == len(rows)


def test_a_single_row_that_does_not_fit_is_an_error(encoder: Encoder, rows: list[Row]) -> None:
    for error in OUT_OF_MEMORY:
        with pytest.raises(type(error)) as raised:
            with_backend(encoder, Counting(error=error)).encode(rows[:9])
        assert raised.value is error


def test_other_errors_are_not_taken_for_lack_of_memory(encoder: Encoder, rows: list[Row]) -> None:
    error = RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    counting = Counting(error=error)
    with pytest.raises(RuntimeError) as raised:
        with_backend(encoder, counting).encode(rows)
    assert raised.value is error


def test_packed_long_rows_depend_on_no_neighbour(tmp_path_factory: pytest.TempPathFactory) -> None:
    conf = nomic_conf(save(tmp_path_factory.mktemp("nomic"), legacy_weights()))
    plain = Encoder.load(conf, device="cpu", precision="float32", threads=1)
    packed = with_backend(plain, PackedBackend(load_transformer(conf, model_folder(conf), "float32")))
    rng = np.random.default_rng(3)
    lengths = (5, TRAINED, TRAINED + 1, 60, 60, 61, 150, 9)
    rows = [rng.integers(1000, 30000, size=length, dtype=np.int32) for length in lengths]
    alone = np.concatenate([plain.encode_ids([row]) for row in rows])
    np.testing.assert_allclose(packed.encode_ids(rows), alone, atol=2e-6)
    np.testing.assert_allclose(packed.encode_ids(rows, batch_tokens=64), alone, atol=2e-6)


def test_the_next_item_is_made_while_the_caller_holds_one() -> None:
    made = [threading.Event() for _ in range(3)]

    def items() -> Iterator[int]:
        for place, event in enumerate(made):
            event.set()
            yield place

    ahead = prefetched(items())
    assert next(ahead) == 0
    assert made[1].wait(10)
    assert list(ahead) == [1, 2]


def test_what_fails_ahead_is_raised_in_its_place() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise MemoryError("pinned")

    ahead = prefetched(items())
    assert next(ahead) == 1
    with pytest.raises(MemoryError, match="pinned"):
        next(ahead)
