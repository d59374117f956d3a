"""Vectors in fewer bytes: float32, float16, int8 with a scale a row, or one bit a coordinate.

A stored row is bytes, little-endian, the same on every machine and for every engine that reads Iceberg:
`numpy.frombuffer` gives it back. Scores of int8 rows need their scale only where lengths matter, and these
vectors have length 1: `decode` gives it back.
"""
# ruff: noqa: N803, N806  (array names carry their shape: x_NB)

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from pipelines.errors import ConfigError

VectorType = Literal["float32", "float16", "int8", "binary"]
VECTOR_TYPES: tuple[VectorType, ...] = get_args(VectorType)

# Steps of an int8 coordinate in a coordinate's usual size, 1 / sqrt(dim). More are nearer, and leave less for
# zstd to take away. MiniLM vectors, 384 dimensions: 18 give 298 bytes and 0.990 of the exact ten nearest of
# 14,000, 32 give 338 and 0.994, a scale by each row's largest coordinate 355 and 0.995.
_INT8_STEPS = 18.0

_WIDTH = {"float32": 4.0, "float16": 2.0, "int8": 1.0, "binary": 0.125}


def bytes_per_vector(kind: VectorType, dim: int) -> int:
    """Bytes of a stored row, the scale of an int8 one (float32) included.

    Raises:
        ConfigError: A binary row of this dimension would not be whole bytes.
    """
    if kind == "binary" and dim % 8:
        raise ConfigError(f"binary vectors of dimension {dim} are not whole bytes", "Use a multiple of 8")
    return int(dim * _WIDTH[kind]) + (4 if kind == "int8" else 0)


def encode(
    x_ND: npt.NDArray[np.float32], kind: VectorType
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32] | None]:
    """Rows of length 1 as bytes.

    Args:
        x_ND: Finite vectors.
        kind: How to store them. int8 is symmetric with a scale for each row: the same for all but those with
            a coordinate so large that it would not fit. binary is one bit a coordinate, 1 where it is above
            zero, the first in the highest bit.

    Returns:
        x_NB uint8 with B bytes a row, and the scale of each row where the kind is int8.

    Raises:
        ConfigError: As `bytes_per_vector`.
    """
    bytes_per_vector(kind, x_ND.shape[1])
    if kind == "int8":
        usual = np.float32(1 / (_INT8_STEPS * np.sqrt(x_ND.shape[1])))
        scale_N = np.maximum(usual, np.abs(x_ND).max(axis=1, initial=0.0) / np.float32(127))
        q_ND = np.rint(x_ND * (1 / scale_N)[:, None]).clip(-127, 127).astype(np.int8)
        return q_ND.view(np.uint8), scale_N.astype(np.float32)
    if kind == "binary":
        return np.packbits(x_ND > 0, axis=1), None
    x_Nd = np.ascontiguousarray(x_ND, dtype="<f4" if kind == "float32" else "<f2")
    return x_Nd.view(np.uint8).reshape(len(x_Nd), bytes_per_vector(kind, x_ND.shape[1])), None


def decode(
    x_NB: npt.NDArray[np.uint8],
    kind: VectorType,
    dim: int,
    scale_N: npt.NDArray[np.float32] | None = None,
) -> npt.NDArray[np.float32]:
    """The vectors that stored rows stand for; a bit is +1 or -1, so only directions of those mean anything.

    Args:
        x_NB: As `encode` gives it.
        kind: As it was encoded.
        dim: The dimension.
        scale_N: Of int8 rows.

    Returns:
        x_ND float32.

    Raises:
        ConfigError: The rows are of another length than kind and dimension say.
    """
    wanted = bytes_per_vector(kind, dim) - (4 if kind == "int8" else 0)
    if x_NB.shape[1] != wanted:
        raise ConfigError(f"a {kind} vector of dimension {dim} has {wanted} bytes, not {x_NB.shape[1]}")
    rows = np.ascontiguousarray(x_NB)
    if kind == "int8":
        x_ND = rows.view(np.int8).astype(np.float32)
        return x_ND if scale_N is None else x_ND * scale_N[:, None]
    if kind == "binary":
        bits_ND = np.unpackbits(rows, axis=1)
        return bits_ND.astype(np.float32) * 2 - 1
    stored: npt.NDArray[np.floating] = rows.view("<f4" if kind == "float32" else "<f2")
    return stored.astype(np.float32)


def hamming(x_NB: npt.NDArray[np.uint8], query_B: npt.NDArray[np.uint8]) -> npt.NDArray[np.int32]:
    """In how many bits each row differs from the query's: of binary codes, the smaller the nearer."""
    width = x_NB.shape[1]
    if width % 8 == 0:  # eight bytes at a time
        differs = np.ascontiguousarray(x_NB).view(np.uint64) ^ np.ascontiguousarray(query_B).view(np.uint64)
    else:
        differs = x_NB ^ query_B
    counts: npt.NDArray[np.int32] = np.bitwise_count(differs).sum(axis=1, dtype=np.int32)
    return counts
