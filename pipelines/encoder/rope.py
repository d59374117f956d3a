"""Rotary positions without a memory: frequencies follow from a batch's length alone.

transformers' dynamic RoPE keeps the frequencies of the longest row it has met, so a long document changes the
vectors of shorter ones that follow it or share its batch (cosine 0.997). This module takes its place.
"""
# ruff: noqa: N806  (tensor names carry their shape: x_BLD)

import torch
from torch import Tensor, nn

from pipelines.encoder.conf import RopeConf


def inverse_frequencies(length: int, head_dim: int, rope: RopeConf) -> Tensor:
    """Frequencies for rows of one length, inv_freq_H float32 with H = head_dim / 2.

    Up to `rope.max_position_embeddings` tokens those that the model was trained with, theta^(-2i / head_dim)
    (RoFormer, arXiv 2104.09864, section 3.4.2). Beyond, for `dynamic`, the same with the NTK-scaled base
    theta' = theta * (factor * length / max - (factor - 1))^(head_dim / (head_dim - 2)),
    as nomic-embed infers beyond 2,048 tokens.

    Args:
        length: Tokens of every row, specials included.
        head_dim: Dimension of an attention head, even and above 2.
        rope: The model's settings.
    """
    theta = rope.rope_theta
    if rope.rope_type == "dynamic" and length > rope.max_position_embeddings:
        stretch = rope.factor * length / rope.max_position_embeddings - (rope.factor - 1)
        theta *= stretch ** (head_dim / (head_dim - 2))
    # float32 throughout, as in training: float64 would turn long rows by another angle.
    return 1.0 / (theta ** (torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim))


class LengthRope(nn.Module):
    """In place of a transformers rotary embedding: the same input gives the same output whatever came before.

    A batch is taken to be of one length wherever the frequencies depend on it: rows longer than
    `rope.max_position_embeddings` must not share a batch with rows of another length.

    Attributes:
        row_length: Tokens of the longest row where a batch's rows lie one after the other; None where
            `position_ids` are as long as the rows.
    """

    def __init__(self, head_dim: int, rope: RopeConf) -> None:
        super().__init__()
        self._head_dim = head_dim
        self._rope = rope
        self.row_length: int | None = None

    def forward(self, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines of the rotation, each [1 or B, L, head_dim] in the dtype of `x`.

        Args:
            x: Hidden states; only their device and dtype count.
            position_ids: Positions, [1 or B, L].
        """
        length = position_ids.shape[-1] if self.row_length is None else self.row_length
        inv_freq_H = inverse_frequencies(length, self._head_dim, self._rope).to(x.device)
        angles_BLH = position_ids[..., None].float() * inv_freq_H
        angles_BLD = torch.cat((angles_BLH, angles_BLH), dim=-1)  # halves, not interleaved pairs
        return angles_BLD.cos().to(x.dtype), angles_BLD.sin().to(x.dtype)
