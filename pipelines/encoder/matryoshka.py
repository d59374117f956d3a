"""Smaller vectors out of larger ones: slice, then give them length 1 again."""
# ruff: noqa: N803, N806  (array names carry their shape: x_BD)

import numpy as np
import numpy.typing as npt

from pipelines.errors import ModelError


def slice_renormalise(x_BD: npt.NDArray[np.floating], dim: int) -> npt.NDArray[np.float32]:
    """The first `dim` coordinates of each row, divided by their L2 norm.

    Exact for rows that were themselves divided by a norm before: scaling a row does not change the direction
    of its slice, so full vectors are enough to derive every smaller dimension (arXiv 2205.13147).

    Args:
        x_BD: Vectors, a row each, of any float type.
        dim: Coordinates to keep, 1 to D.

    Returns:
        x_Bd float32 with rows of length 1. Rows whose slice is all zeros stay zeros.

    Raises:
        ModelError: `dim` is below 1 or above D.
    """
    full = x_BD.shape[1]
    if not 1 <= dim <= full:
        raise ModelError(
            f"vectors of dimension {full} have no slice of {dim}", f"Choose between 1 and {full}"
        )
    # float64 for the sum of squares: float16 input would overflow, float32 lose the last digit.
    x_Bd = x_BD[:, :dim].astype(np.float64)
    norm_B1 = np.linalg.norm(x_Bd, axis=1, keepdims=True)
    unit_Bd: npt.NDArray[np.float64] = np.divide(x_Bd, norm_B1, out=np.zeros_like(x_Bd), where=norm_B1 > 0)
    return unit_Bd.astype(np.float32)
