import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.encoder.quantise import VECTOR_TYPES, VectorType, bytes_per_vector, decode, encode, hamming
from pipelines.errors import ConfigError


def unit_rows(rows: int, dim: int, seed: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    x_ND = np.random.default_rng(seed).standard_normal((rows, dim)).astype(np.float32)
    return np.asarray(x_ND / np.linalg.norm(x_ND, axis=1, keepdims=True), dtype=np.float32)


@settings(deadline=None, max_examples=30)
@given(
    rows=st.integers(0, 20),
    eighths=st.integers(1, 20),
    kind=st.sampled_from(VECTOR_TYPES),
    seed=st.integers(0, 99),
)
def test_a_row_comes_back_as_near_as_its_type_promises(
    rows: int, eighths: int, kind: VectorType, seed: int
) -> None:
    x_ND = unit_rows(rows, 8 * eighths, seed)
    stored_NB, scale_N = encode(x_ND, kind)
    assert stored_NB.dtype == np.uint8
    assert stored_NB.shape[1] + (0 if scale_N is None else 4) == bytes_per_vector(kind, 8 * eighths)
    back_ND = decode(stored_NB, kind, 8 * eighths, scale_N)
    if kind == "float32":
        assert (back_ND == x_ND).all()
    elif kind == "float16":
        assert np.abs(back_ND - x_ND).max(initial=0) <= 2**-11
    elif kind == "int8":
        assert scale_N is not None
        assert (np.abs(back_ND - x_ND) <= scale_N[:, None] * 0.5001).all()
    else:
        assert ((back_ND > 0) == (x_ND > 0)).all()


def test_a_row_of_zeros_stays_one() -> None:
    stored_NB, scale_N = encode(np.zeros((2, 8), dtype=np.float32), "int8")
    assert (decode(stored_NB, "int8", 8, scale_N) == 0).all()


@pytest.mark.parametrize("dim", [8, 24, 64, 384])
def test_hamming_counts_the_signs_that_differ(dim: int) -> None:
    x_ND = unit_rows(50, dim, 1)
    codes_NB, _ = encode(x_ND, "binary")
    assert (hamming(codes_NB, codes_NB[0]) == ((x_ND > 0) != (x_ND[0] > 0)).sum(axis=1)).all()


def test_stored_rows_are_little_endian_whoever_reads_them() -> None:
    stored_NB, _ = encode(np.array([[1.0, -2.0]], dtype=np.float32), "float32")
    assert stored_NB.tobytes().hex() == "0000803f000000c0"


def test_a_binary_row_that_is_not_whole_bytes_is_refused() -> None:
    with pytest.raises(ConfigError, match="multiple of 8"):
        encode(unit_rows(1, 12, 0), "binary")


def test_rows_of_another_length_are_refused() -> None:
    with pytest.raises(ConfigError, match="16 bytes, not 8"):
        decode(np.zeros((1, 8), dtype=np.uint8), "int8", 16)
