"""What a backend is given, and what it must give."""
# ruff: noqa: N803, N806, N815  (tensor names carry their shape: x_BLD)

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from pipelines.encoder.batches import pad
from pipelines.encoder.ragged import Ragged


@dataclass(frozen=True)
class Batch:
    """Rows ready for a forward pass.

    Attributes:
        ids: int64, [B, L] where rows are padded on the right, [1, T] where they lie one after the other.
        lengths_B: int64, each row's own tokens.
        longest: The largest of the lengths, known without asking the device.
        even: Whether all lengths are equal.
    """

    ids: Tensor
    lengths_B: Tensor
    longest: int
    even: bool

    @property
    def mask_BL(self) -> Tensor:  # noqa: N802 - the name carries its shape
        """bool, True where a token of a padded batch is the row's own."""
        return torch.arange(self.longest, device=self.ids.device) < self.lengths_B[:, None]


class Backend(Protocol):
    """A model in memory, with all that its forward pass needs.

    Attributes:
        name: As it is chosen and printed.
        pads: Whether a batch's rows are all computed at the length of its longest.
    """

    name: str
    pads: bool

    def collate(self, rows: Ragged) -> Batch:
        """Rows as `pool` wants them, on the host."""

    def pool(self, batch: Batch) -> Tensor:
        """Mean of each row's own token vectors, x_BD float32, on the device that it was computed on."""


def collate_padded(rows: Ragged, pad_id: int) -> Batch:
    """Rows padded on the right with `pad_id`, which any valid id may be: it is masked."""
    ids_BL, _ = pad(rows, pad_id)
    return _batch(torch.from_numpy(ids_BL), rows)


def collate_packed(rows: Ragged) -> Batch:
    """Rows one after the other."""
    return _batch(torch.from_numpy(rows.values_T.astype(np.int64))[None], rows)


def _batch(ids: Tensor, rows: Ragged) -> Batch:
    lengths_B = rows.lengths_N
    longest = int(lengths_B.max())
    return Batch(ids, torch.from_numpy(lengths_B), longest, even=bool((lengths_B == longest).all()))


def mean_pool(hidden_BLD: Tensor, batch: Batch) -> Tensor:
    """Mean of each row's own token vectors, x_BD float32, summed in float32 whatever the input's dtype.

    Args:
        hidden_BLD: Token vectors of a padded batch, float32 or bfloat16.
        batch: Whose they are.
    """
    if batch.even:
        return hidden_BLD.mean(dim=1, dtype=torch.float32)
    sum_BD = hidden_BLD.float().masked_fill(~batch.mask_BL[..., None], 0.0).sum(dim=1)
    return sum_BD / batch.lengths_B[:, None]
