import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from pipelines.encoder.matryoshka import slice_renormalise
from pipelines.errors import ModelError

VECTORS = arrays(
    np.float32, array_shapes(min_dims=2, max_dims=2, max_side=8), elements=st.floats(-9, 9, width=32)
)


@given(vectors=VECTORS, scale=st.floats(0.01, 100))
def test_slices_have_length_one_and_do_not_depend_on_a_row_s_scale(
    vectors: npt.NDArray[np.float32], scale: float
) -> None:
    vectors[np.abs(vectors) < 1e-3] = 0  # else scaling alone would lose them to float32
    for dim in range(1, vectors.shape[1] + 1):
        sliced = slice_renormalise(vectors, dim)
        assert sliced.dtype == np.float32
        assert sliced.shape == (len(vectors), dim)
        zero = ~vectors[:, :dim].any(axis=1)
        np.testing.assert_allclose(np.linalg.norm(sliced, axis=1), np.where(zero, 0, 1), atol=1e-6)
        np.testing.assert_allclose(slice_renormalise(vectors * np.float32(scale), dim), sliced, atol=1e-6)
        assert ((sliced > 0) == (vectors[:, :dim] > 0)).all()


def test_float16_vectors_do_not_overflow() -> None:
    np.testing.assert_allclose(slice_renormalise(np.full((1, 4), 6e4, np.float16), 4), [[0.5] * 4])


def test_a_dimension_that_vectors_do_not_have_is_refused() -> None:
    for dim in (0, -1, 5):
        with pytest.raises(ModelError, match=f"no slice of {dim}"):
            slice_renormalise(np.ones((2, 4)), dim)


def test_no_vectors_have_no_slices() -> None:
    assert slice_renormalise(np.empty((0, 4)), 2).shape == (0, 2)
