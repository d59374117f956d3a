"""What the workers of a run say to each other: rows of all of them, and sums over all of them."""
# ruff: noqa: N803, N806  (tensor names carry their shape: x_ND)

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Workers:
    """The workers of a run, seen from one of them.

    Attributes:
        rank: Of this one, from 0.
        size: How many there are. One needs no process group.
    """

    rank: int = 0
    size: int = 1

    def gathered(self, own_nX: Tensor) -> tuple[Tensor, slice]:
        """The rows of all workers, in the order of their ranks; they may bring different numbers.

        Args:
            own_nX: This worker's rows; the other dimensions and the dtype are everybody's.

        Returns:
            All rows, without a graph, and where this worker's are among them.
        """
        own_nX = own_nX.detach()
        if self.size == 1:
            return own_nX, slice(0, len(own_nX))
        counts = self._counts(len(own_nX), own_nX.device)
        # Collectives want equal shapes: the shorter are filled up, and cut again.
        filled = own_nX.new_zeros((max(counts), *own_nX.shape[1:]))
        filled[: len(own_nX)] = own_nX
        parts = [torch.empty_like(filled) for _ in counts]
        dist.all_gather(parts, filled)
        start = sum(counts[: self.rank])
        all_NX = torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])
        return all_NX, slice(start, start + counts[self.rank])

    def sum_(self, tensors: Iterable[Tensor]) -> None:
        """Replaces each tensor by its sum over the workers, by one collective of all of them together."""
        if self.size == 1:
            return
        each = list(tensors)
        flat = torch.cat([tensor.reshape(-1) for tensor in each])
        dist.all_reduce(flat)
        summed = torch.split(flat, [tensor.numel() for tensor in each])
        for tensor, total in zip(each, summed, strict=True):
            tensor.copy_(total.view_as(tensor))

    def _counts(self, own: int, device: torch.device) -> list[int]:
        counts = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(self.size)]
        dist.all_gather(counts, torch.tensor([own], dtype=torch.int64, device=device))
        return [int(count) for count in counts]
