"""What a checkpoint says of itself, in native terms, and whether all its weights arrived. No torch."""

import json
import re
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pipelines.errors import ModelError

# transformers 5.23 knows nomic_bert by native keys only and drops the hub's older ones without a word; v1.5
# loads because its sizes happen to be the defaults. Any other size needs this.
_NATIVE_KEYS = {
    "n_embd": "hidden_size",
    "n_head": "num_attention_heads",
    "n_layer": "num_hidden_layers",
    "n_inner": "intermediate_size",
    "layer_norm_epsilon": "layer_norm_eps",
    "max_trained_positions": "max_position_embeddings",
}

# Variants that the hub's own code could build and transformers' nomic_bert cannot.
_ONLY_VALUES: dict[str, Any] = {
    "activation_function": "swiglu",
    "causal": False,
    "mlp_fc1_bias": False,
    "mlp_fc2_bias": False,
    "parallel_block": False,
    "prenorm": False,
    "qkv_proj_bias": False,
    "rotary_emb_fraction": 1.0,
    "rotary_emb_interleaved": False,
    "rotary_emb_scale_base": None,
    "use_rms_norm": False,
}

# Weights that a checkpoint may lack or have beyond the encoder: heads, and buffers that are computed anew.
_HEADS = re.compile(r"^(\w+\.)?(cls|pooler|lm_head|classifier)\.|(^|\.)(position_ids|inv_freq)$")


def native_nomic_config(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A nomic_bert config.json in the keys that transformers reads, from either layout.

    Args:
        raw: The parsed file, in the hub's layout (`n_embd`, `rotary_emb_base`, …) or transformers' own.

    Raises:
        ModelError: The file describes a variant that transformers would silently build differently.
    """
    for key, only in _ONLY_VALUES.items():
        if raw.get(key, only) != only:
            raise ModelError(
                f"a nomic_bert checkpoint with {key}={raw[key]!r} cannot be loaded",
                f"Only {key}={only!r} is implemented by transformers",
            )
    native = {new: raw[old] for old, new in _NATIVE_KEYS.items() if raw.get(old) is not None}
    if "rotary_emb_base" in raw:
        native["rope_parameters"] = {"rope_type": "default", "rope_theta": float(raw["rotary_emb_base"])}
    dropped = {*_NATIVE_KEYS, "rotary_emb_base", "auto_map"}  # the last names remote code, never run here
    return {**native, **{key: value for key, value in raw.items() if key not in dropped}}


def read_config(file: Path) -> dict[str, Any]:
    """The mapping in a config.json.

    Raises:
        ModelError: The file is not JSON, or names no model_type.
    """
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{file} is not valid JSON: {error}", "Fetch the checkpoint again") from error
    if not isinstance(raw, dict) or not isinstance(raw.get("model_type"), str):
        raise ModelError(f"{file} names no model_type", "Save the checkpoint with save_pretrained")
    return raw


def tensor_shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors in a safetensors file, from its header alone.

    The format: 8 bytes of little-endian header length, then a JSON object by tensor name
    (https://huggingface.co/docs/safetensors, "Format").

    Raises:
        ModelError: The file is cut short or is not safetensors.
    """
    try:
        with file.open("rb") as stream:
            (size,) = struct.unpack("<Q", stream.read(8))
            if size > file.stat().st_size:
                raise ValueError("the header is longer than the file")
            header = json.loads(stream.read(size))
        return {name: tuple(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__"}
    except (ValueError, KeyError, struct.error) as error:
        raise ModelError(f"{file} is no safetensors file: {error}", "Fetch the checkpoint again") from error


def weight_names(file: Path) -> list[str]:
    """Names of the tensors in a safetensors file; see `tensor_shapes`."""
    return list(tensor_shapes(file))


def key_mapping(model_type: str, names: Iterable[str]) -> dict[str, str] | None:
    """Renamings without which a checkpoint's weights would all be missing, or None.

    The masked-language-model checkpoints of nomic_bert carry their weights under `bert.`.
    """
    if model_type == "nomic_bert" and any(name.startswith("bert.") for name in names):
        return {r"^bert\.": ""}
    return None


def check_loaded(missing: Iterable[str], unexpected: Iterable[str], where: Path) -> None:
    """Refuses a model that transformers has filled up with random weights, or has left weights out of.

    Args:
        missing: Parameters of the model that the checkpoint did not give.
        unexpected: Weights of the checkpoint that the model had no place for.
        where: The checkpoint, for the message.

    Raises:
        ModelError: Either holds more than heads (pooler, masked language model, classifier).
    """
    for what, names in (("lacks weights", missing), ("holds weights unknown to the model", unexpected)):
        serious = sorted(name for name in names if not _HEADS.search(name))
        if serious:
            shown = ", ".join(serious[:3]) + (f" and {len(serious) - 3} more" if len(serious) > 3 else "")
            raise ModelError(
                f"the checkpoint in {where} {what}: {shown}",
                "Its config.json and model.safetensors do not belong together, or it is another architecture",
            )
