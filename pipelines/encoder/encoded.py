"""What an encoder gives. No torch: who only passes it on need not load it."""
# ruff: noqa: N815  (array names carry their shape: vectors_ND)

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Encoded:
    """Vectors, and what they took.

    Attributes:
        vectors_ND: float32 with rows of length 1, in the order of the rows.
        tokens: Of the rows.
        padded_tokens: That were computed: those of the rows, and what filled batches up.
    """

    vectors_ND: npt.NDArray[np.float32]
    tokens: int
    padded_tokens: int

    @property
    def padding(self) -> float:
        """Share of the computed tokens that belong to no row, 0 to 1."""
        return 1 - self.tokens / self.padded_tokens if self.padded_tokens else 0.0
