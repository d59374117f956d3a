"""The model under training: float32 weights, the forward pass in the precision that the device is fast in."""
# ruff: noqa: N806  (tensor names carry their shape: x_BLD)

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from pipelines.encoder.backends.base import collate_padded, mean_pool
from pipelines.encoder.ragged import Ragged


class Embedder(nn.Module):
    """What is trained.

    Attributes:
        encoder: Of transformers.
        head: A linear map of the mean of its token vectors, without bias; None where there is none.
    """

    def __init__(self, encoder: Any, head: nn.Linear | None = None) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head


class TransformerTower:
    """A transformers encoder, the mean of its token vectors, and a head if there is one.

    Attributes:
        model: Its parameters are float32 and the ones that are trained.
        head: Likewise.
        device: Where they are.
        dimension: Of its vectors.
    """

    def __init__(
        self, model: Any, device: torch.device, bfloat16: bool, head: nn.Linear | None = None
    ) -> None:
        self.model = model
        self.head = head
        self.device = device
        self.dimension = head.out_features if head else int(model.config.hidden_size)
        self._bfloat16 = bfloat16
        self._pad_id = int(getattr(model.config, "pad_token_id", None) or 0)

    def pool(self, rows: Ragged, seed: int) -> Tensor:
        """See `pipelines.train.cached.Tower`."""
        batch = collate_padded(rows, self._pad_id)
        batch = type(batch)(
            batch.ids.to(self.device), batch.lengths_B.to(self.device), batch.longest, batch.even
        )
        with self.computing(seed):
            mask = None if batch.even else batch.mask_BL.long()
            hidden_BLD = self.model(input_ids=batch.ids, attention_mask=mask).last_hidden_state
        pooled_BH = mean_pool(hidden_BLD, batch)
        return self.head(pooled_BH) if self.head else pooled_BH

    @contextmanager
    def computing(self, seed: int) -> Iterator[None]:
        """The precision and the random state of a forward pass."""
        cuda = [self.device] if self.device.type == "cuda" else []
        with (
            torch.random.fork_rng(devices=cuda),
            torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self._bfloat16),
        ):
            torch.manual_seed(seed)
            yield


def set_dropout(model: nn.Module, share: float) -> None:
    """Dropout of every layer that has one."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = share


def parameter_groups(model: nn.Module, weight_decay: float, head_share: float = 1.0) -> list[dict[str, Any]]:
    """For an optimiser: matrices decay, biases, LayerNorms and a head do not.

    Args:
        model: What is trained.
        weight_decay: Of the matrices.
        head_share: The head's learning rate, as a share of the others': `share` of its group.
    """
    head = list(model.head.parameters()) if isinstance(model, Embedder) and model.head else []
    apart = {id(parameter) for parameter in head}
    trained = [p for p in model.parameters() if p.requires_grad and id(p) not in apart]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay, "share": 1.0},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0, "share": 1.0},
    ]
    if head:
        groups.append({"params": head, "weight_decay": 0.0, "share": head_share})
    return groups
