"""Columns of vectors as matrices, and matrices as columns."""
# ruff: noqa: N803  (array names carry their shape: x_ND)

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.errors import ModelError


def as_matrix(column: pa.Array | pa.ChunkedArray, dimension: int) -> npt.NDArray[np.float32]:
    """A list column as x_ND float32; without a copy where it is in one piece.

    Args:
        column: list or large_list of float32.
        dimension: Length that every list must have.

    Raises:
        ModelError: One has another length, or is null.
    """
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    offsets = column.offsets.to_numpy()
    if column.null_count or not (np.diff(offsets) == dimension).all():
        raise ModelError(
            f"the lake holds embeddings that have not the recorded dimension of {dimension}",
            "They were written by something else: delete them and run 'embedlake embed'",
        )
    matrix: npt.NDArray[np.float32] = column.flatten().to_numpy(zero_copy_only=True).reshape(-1, dimension)
    return matrix


def list_column(x_ND: npt.NDArray[np.float32]) -> pa.Array:
    """Vectors as a column of lists, without a copy."""
    count, dimension = x_ND.shape
    offsets = pa.array(np.arange(count + 1, dtype=np.int32) * np.int32(dimension))
    return pa.ListArray.from_arrays(offsets, pa.array(x_ND.reshape(-1)))


def bytes_column(x_NB: npt.NDArray[np.uint8]) -> pa.Array:
    """Rows of bytes as a column of fixed size, without a copy where they are contiguous."""
    count, width = x_NB.shape
    return pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(width), count, [None, pa.py_buffer(np.ascontiguousarray(x_NB))]
    )


def as_bytes(column: pa.Array | pa.ChunkedArray, width: int) -> npt.NDArray[np.uint8]:
    """A column of fixed size as x_NB uint8; without a copy where it is in one piece.

    Raises:
        ModelError: Its rows have another size, or one is null.
    """
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if column.null_count or column.type != pa.binary(width):
        raise ModelError(
            f"the serving table's vectors are {column.type}, and not {width} bytes each",
            "They were written by something else: publish again with --rebuild",
        )
    _, data = column.buffers()
    rows: npt.NDArray[np.uint8] = np.frombuffer(data, dtype=np.uint8)
    return rows[column.offset * width : (column.offset + len(column)) * width].reshape(-1, width)
