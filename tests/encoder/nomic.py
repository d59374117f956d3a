"""A small nomic_bert checkpoint in the hub's own layout, and its forward pass by the report alone, in numpy.

Nothing here is taken from transformers: the layout is that of the hub's files, the arithmetic that of arXiv
2402.01613 and of the model card, row by row and in float64, so neither padding nor batching can enter.
"""

import json
import math
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save_file

from pipelines.encoder.conf import ModelConf, RopeConf, load_model_conf, model_folder

Array = npt.NDArray[np.float64]

HIDDEN, HEADS, LAYERS, INNER = 64, 4, 2, 96
TRAINED = 32  # tokens up to which RoPE is plain; 2,048 in the real model
THETA, FACTOR = 1000.0, 2.0

LEGACY_CONFIG = {
    "model_type": "nomic_bert",
    "architectures": ["NomicBertModel"],
    "auto_map": {"AutoModel": "nomic-ai/nomic-bert-2048--modeling_hf_nomic_bert.NomicBertModel"},
    "activation_function": "swiglu",
    "attn_pdrop": 0.0,
    "causal": False,
    "layer_norm_epsilon": 1e-12,
    "max_trained_positions": TRAINED,
    "mlp_fc1_bias": False,
    "mlp_fc2_bias": False,
    "n_embd": HIDDEN,
    "n_head": HEADS,
    "n_inner": INNER,
    "n_layer": LAYERS,
    "n_positions": 8192,
    "prenorm": False,
    "qkv_proj_bias": False,
    "rotary_emb_base": int(THETA),
    "rotary_emb_fraction": 1.0,
    "rotary_emb_interleaved": False,
    "rotary_scaling_factor": 2,
    "type_vocab_size": 2,
    "vocab_size": 30528,
}


def nomic_conf(folder: Path, max_tokens: int = 200) -> ModelConf:
    """The configuration of the checkpoint in a folder."""
    return ModelConf(
        name="tiny-nomic",
        path=folder,
        prefixes={"document": "search_document", "query": "search_query"},
        layer_norm=True,
        dimension=HIDDEN,
        dimensions=(HIDDEN, 16),
        max_tokens=max_tokens,
        rope=RopeConf(rope_theta=THETA, rope_type="dynamic", factor=FACTOR, max_position_embeddings=TRAINED),
    )


def legacy_weights(seed: int = 0) -> dict[str, npt.NDArray[np.float32]]:
    """Random weights by the names of the hub's file, large enough for attention to attend to something."""
    rng = np.random.default_rng(seed)

    def matrix(*shape: int, scale: float = 1.5) -> npt.NDArray[np.float32]:
        return (rng.normal(size=shape) * scale / math.sqrt(shape[-1])).astype(np.float32)

    def norm(name: str) -> dict[str, npt.NDArray[np.float32]]:
        return {
            f"{name}.weight": rng.uniform(0.5, 1.5, HIDDEN).astype(np.float32),
            f"{name}.bias": rng.normal(size=HIDDEN).astype(np.float32) * 0.3,
        }

    weights = {
        "embeddings.word_embeddings.weight": matrix(30528, HIDDEN, scale=8.0),
        "embeddings.token_type_embeddings.weight": matrix(2, HIDDEN, scale=2.0),
        **norm("emb_ln"),
    }
    for layer in (f"encoder.layers.{i}" for i in range(LAYERS)):
        weights |= {
            f"{layer}.attn.Wqkv.weight": matrix(3 * HIDDEN, HIDDEN),
            f"{layer}.attn.out_proj.weight": matrix(HIDDEN, HIDDEN),
            f"{layer}.mlp.fc11.weight": matrix(INNER, HIDDEN),
            f"{layer}.mlp.fc12.weight": matrix(INNER, HIDDEN),
            f"{layer}.mlp.fc2.weight": matrix(HIDDEN, INNER),
            **norm(f"{layer}.norm1"),
            **norm(f"{layer}.norm2"),
        }
    return weights


def save(
    folder: Path, weights: dict[str, npt.NDArray[np.float32]], config: dict[str, object] | None = None
) -> Path:
    """Writes a checkpoint with bert-base-uncased's tokenizer, which nomic-embed uses too."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config or LEGACY_CONFIG))
    shutil.copy(model_folder(load_model_conf("minilm")) / "tokenizer.json", folder)
    return folder


@cache
def _weights(folder: Path) -> dict[str, Array]:
    return {name: value.astype(np.float64) for name, value in load_file(folder / "model.safetensors").items()}


def reference(folder: Path, row: npt.NDArray[np.int32], theta: float = THETA) -> Array:
    """The vector of one row of ids, x_D."""
    w = _weights(folder)
    length, head_dim = len(row), HIDDEN // HEADS
    if length > TRAINED:  # dynamic NTK
        theta *= (FACTOR * length / TRAINED - (FACTOR - 1)) ** (head_dim / (head_dim - 2))
    frequencies = theta ** (-2.0 * np.arange(head_dim // 2) / head_dim)
    turn = np.exp(1j * np.outer(np.arange(length), frequencies))  # a rotation is a product of complex numbers

    def norm(x: Array, name: str) -> Array:
        return standardise(x, 1e-12) * w[f"{name}.weight"] + w[f"{name}.bias"]

    def rotate(x: Array) -> Array:
        half = head_dim // 2
        turned = (x[:, :half] + 1j * x[:, half:]) * turn
        return np.concatenate([turned.real, turned.imag], axis=1)

    def attend(x: Array, name: str) -> Array:
        q, k, v = np.split(x @ w[f"{name}.Wqkv.weight"].T, 3, axis=1)
        heads = []
        for h in range(HEADS):
            cut = slice(h * head_dim, (h + 1) * head_dim)
            scores = rotate(q[:, cut]) @ rotate(k[:, cut]).T / math.sqrt(head_dim)
            power = np.exp(scores - scores.max(axis=1, keepdims=True))
            heads.append(power / power.sum(axis=1, keepdims=True) @ v[:, cut])
        out: Array = np.concatenate(heads, axis=1) @ w[f"{name}.out_proj.weight"].T
        return out

    def swiglu(x: Array, name: str) -> Array:
        gate = x @ w[f"{name}.fc12.weight"].T
        inner = x @ w[f"{name}.fc11.weight"].T * gate / (1 + np.exp(-gate))
        out: Array = inner @ w[f"{name}.fc2.weight"].T
        return out

    embedded = w["embeddings.word_embeddings.weight"][row] + w["embeddings.token_type_embeddings.weight"][0]
    x = norm(embedded, "emb_ln")
    for layer in (f"encoder.layers.{i}" for i in range(LAYERS)):
        x = norm(x + attend(x, f"{layer}.attn"), f"{layer}.norm1")  # post-norm
        x = norm(x + swiglu(x, f"{layer}.mlp"), f"{layer}.norm2")
    pooled_D = standardise(x.mean(axis=0), 1e-5)
    unit_D: Array = pooled_D / np.linalg.norm(pooled_D)
    return unit_D


def standardise(x: Array, eps: float) -> Array:
    """LayerNorm without affine over the last axis."""
    standard: Array = (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + eps)
    return standard
