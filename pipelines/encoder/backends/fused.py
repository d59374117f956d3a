"""The layers of BERT and nomic_bert on x86 CPUs: weights in the layout that oneDNN multiplies, steps fused.

The same arithmetic as transformers', with the queries, keys and values in one product, and activations and
residual sums inside the products instead of passes over memory of their own.
"""
# ruff: noqa: N803, N806  (tensor names carry their shape: x_TD)

import platform
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipelines.encoder.backends.base import Batch, collate_padded, mean_pool
from pipelines.encoder.ragged import Ragged

# Rows that the layout of the weights is chosen for: a batch of the default size. Any number will do.
_ROWS = 4096

Activation = Literal["none", "gelu", "swish"]


class Product:
    """One or more linear layers of the same input, side by side, as one."""

    def __init__(self, linears: Sequence[nn.Linear]) -> None:
        weight = torch.cat([linear.weight.detach() for linear in linears])
        # What inductor calls for a frozen model; the ops exist in every x86 build of the pinned torch.
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS)
        biases = [linear.bias.detach() for linear in linears if linear.bias is not None]
        self._bias = torch.cat(biases) if biases else None

    def __call__(self, x_TD: Tensor, activation: Activation = "none") -> Tensor:
        """The activation of the product and the bias."""
        algorithm = "none" if activation == "gelu" else ""  # exact GELU, not its tanh approximation
        product: Tensor = torch.ops.mkldnn._linear_pointwise(
            x_TD, self._weight, self._bias, activation, [], algorithm
        )
        return product

    def combined(self, x_TD: Tensor, other: Tensor, operation: Literal["add", "mul"]) -> Tensor:
        """The product and the bias, added to or multiplied with `other`."""
        product: Tensor = torch.ops.mkldnn._linear_pointwise.binary(
            x_TD, other, self._weight, self._bias, operation
        )
        return product


class BertLayer:
    """Post-norm attention and GELU."""

    def __init__(self, layer: Any) -> None:
        own, out = layer.attention.self, layer.attention.output
        self.qkv = Product([own.query, own.key, own.value])
        self.out = Product([out.dense])
        self.attention_norm: nn.LayerNorm = out.LayerNorm
        self._up, self._down = Product([layer.intermediate.dense]), Product([layer.output.dense])
        self._norm: nn.LayerNorm = layer.output.LayerNorm

    def feed_forward(self, x_TD: Tensor) -> Tensor:
        """The layer's second half."""
        x: Tensor = self._norm(self._down.combined(self._up(x_TD, "gelu"), x_TD, "add"))
        return x


class NomicLayer:
    """Post-norm attention and SwiGLU."""

    def __init__(self, layer: Any) -> None:
        own, mlp = layer.self_attn, layer.mlp
        self.qkv = Product([own.q_proj, own.k_proj, own.v_proj])
        self.out = Product([own.o_proj])
        self.attention_norm: nn.LayerNorm = layer.post_attention_layernorm
        self._gate, self._up, self._down = (Product([x]) for x in (mlp.gate_proj, mlp.up_proj, mlp.down_proj))
        self._norm: nn.LayerNorm = layer.post_mlp_layernorm

    def feed_forward(self, x_TD: Tensor) -> Tensor:
        """The layer's second half."""
        inner = self._up.combined(x_TD, self._gate(x_TD, "swish"), "mul")
        x: Tensor = self._norm(self._down.combined(inner, x_TD, "add"))
        return x


class FusedBackend:
    """A model whose layers have been taken from a transformers model, which is not needed any more."""

    name = "torch"
    pads = True

    def __init__(self, model: Any) -> None:
        """Takes a model for which `can_fuse`, in evaluation mode and on the CPU."""
        self._embeddings = model.embeddings
        self._rotary = getattr(model, "rotary_emb", None)
        self._heads = int(model.config.num_attention_heads)
        self._pad_id = int(model.config.pad_token_id or 0)
        self._layers: list[BertLayer] | list[NomicLayer] = (
            [BertLayer(layer) for layer in model.encoder.layer]
            if model.config.model_type == "bert"
            else [NomicLayer(layer) for layer in model.layers]
        )

    def collate(self, rows: Ragged) -> Batch:
        """See `Backend`."""
        return collate_padded(rows, self._pad_id)

    def pool(self, batch: Batch) -> Tensor:
        """See `Backend`."""
        embedded_BLD = self._embeddings(input_ids=batch.ids)
        rows, length, dimension = embedded_BLD.shape
        positions = torch.arange(length)[None]
        turn = self._rotary(embedded_BLD, positions) if self._rotary is not None else None
        mask = None if batch.even else batch.mask_BL[:, None, None, :]
        x_TD = embedded_BLD.reshape(-1, dimension)
        for layer in self._layers:
            # [B, L, 3, H, d] to three of [B, H, L, d].
            qkv = layer.qkv(x_TD).view(rows, length, 3, self._heads, -1).permute(2, 0, 3, 1, 4)
            q, k, v = qkv.unbind(0)
            if turn is not None:
                q, k = (_rotated(x, *turn) for x in (q, k))
            mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
            mixed_TD = mixed.transpose(1, 2).reshape(-1, dimension)
            x_TD = layer.attention_norm(layer.out.combined(mixed_TD, x_TD, "add"))
            x_TD = layer.feed_forward(x_TD)
        return mean_pool(x_TD.view(rows, length, dimension), batch)


def can_fuse(model: Any) -> bool:
    """Whether a transformers model's layers are those that this module knows, on this machine."""
    config = model.config
    in_bfloat16 = next(model.parameters()).dtype == torch.bfloat16
    activation = {"bert": "gelu", "nomic_bert": "silu"}.get(config.model_type)
    return (
        activation == config.hidden_act
        and platform.machine() in ("x86_64", "AMD64")
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        # oneDNN has no bfloat16 products for processors without AVX512.
        and (not in_bfloat16 or torch.ops.mkldnn._is_mkldnn_bf16_supported())
    )


def _rotated(x_BHLd: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Each position's vector turned by its angles; cos and sin are [1, L, d]."""
    left, right = x_BHLd.chunk(2, dim=-1)
    return x_BHLd * cos[:, None] + torch.cat((-right, left), dim=-1) * sin[:, None]
