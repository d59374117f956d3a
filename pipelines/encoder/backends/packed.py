"""Rows one after the other, without padding, for CUDA: attention by a kernel that takes their bounds."""
# ruff: noqa: N806  (tensor names carry their shape: x_TD)

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface

from pipelines.encoder.backends.base import Batch, collate_packed
from pipelines.encoder.ragged import Ragged
from pipelines.encoder.rope import LengthRope

_ATTENTION = "embedlake_packed"
_FAMILIES = ("bert", "nomic_bert")  # known to hand keyword arguments on to the attention function


class PackedBackend:
    """A transformers model that reads one long row, and is told where the rows in it begin."""

    pads = False

    def __init__(self, model: Any, *, compiled: bool = False) -> None:
        """Takes a model in evaluation mode, on the device that it shall run on.

        Args:
            model: Its attention function is replaced.
            compiled: Whether torch.compile fuses what lies between the products: minutes at the first batch.
        """
        model.set_attn_implementation(_ATTENTION)
        rotary = getattr(model, "rotary_emb", None)
        self._rotary = rotary if isinstance(rotary, LengthRope) else None
        self._model = torch.compile(model, dynamic=True) if compiled else model
        self.name = "torch, compiled" if compiled else "torch"

    def collate(self, rows: Ragged) -> Batch:
        """See `Backend`."""
        return collate_packed(rows)

    def pool(self, batch: Batch) -> Tensor:
        """See `Backend`."""
        lengths_B = batch.lengths_B
        tokens, device = batch.ids.shape[1], lengths_B.device
        bounds_M = functional.pad(lengths_B.cumsum(0), (1, 0))
        # With its size given, the device is not asked for it.
        row_T = torch.repeat_interleave(
            torch.arange(len(lengths_B), device=device), lengths_B, output_size=tokens
        )
        if self._rotary is not None:
            self._rotary.row_length = batch.longest
        hidden_TD = self._model(
            input_ids=batch.ids,
            position_ids=(torch.arange(tokens, device=device) - bounds_M[row_T])[None],
            cu_seq_lens_q=bounds_M.int(),
            max_length_q=batch.longest,
        ).last_hidden_state[0]
        # Not a sum by index: on CUDA its order, and so its rounding, changes from run to run.
        share_BT = (row_T == torch.arange(len(lengths_B), device=device)[:, None]) / lengths_B[:, None]
        pooled_BD: Tensor = share_BT.float() @ hidden_TD.float()
        return pooled_BD


def can_pack(model: Any) -> bool:
    """Whether a model and its device have a kernel for packed rows."""
    weight = next(model.parameters())
    return model.config.model_type in _FAMILIES and weight.is_cuda and weight.dtype == torch.bfloat16


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    cu_seq_lens_q: Tensor,
    max_length_q: int,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention inside each of the rows; query, key and value are [1, H, T, d], the answer [1, T, H, d]."""
    if query.is_cuda:
        q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
        # One split: else how a row is summed would depend on the longest row beside it.
        mixed: Any = varlen_attn(
            q, k, v, cu_seq_lens_q, cu_seq_lens_q, max_length_q, max_length_q, scale=scaling, num_splits=1
        )
        return mixed[None], None
    lengths = cu_seq_lens_q.diff().tolist()
    rows = zip(*(torch.split(x, lengths, dim=2) for x in (query, key, value)), strict=True)
    each = [functional.scaled_dot_product_attention(q, k, v, scale=scaling) for q, k, v in rows]
    return torch.cat(each, dim=2).transpose(1, 2), None


AttentionInterface.register(_ATTENTION, _attend)
