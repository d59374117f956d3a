"""A checkpoint's folder to a transformers model that is known to be whole."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoConfig, AutoModel
from transformers.utils import logging as _logging

from pipelines.encoder.checkpoint import (
    check_loaded,
    key_mapping,
    native_nomic_config,
    read_config,
    weight_names,
)
from pipelines.encoder.conf import CONFIG_FILE, WEIGHTS_FILE, ModelConf, RopeConf
from pipelines.encoder.fingerprint import Precision
from pipelines.encoder.rope import LengthRope
from pipelines.errors import ModelError

# Measured on one AVX512-BF16 core, MiniLM, rows of 160 tokens on average, batches of 4,096 tokens: 5,500
# tokens/s against eager's 5,300 in bfloat16, 3,150 against 2,350 in float32. It also needs no [B, H, L, L]
# scores, which at 8,192 tokens and 12 heads are 1.6 GB in bfloat16.
_ATTENTION = "sdpa"
_HEAD_WEIGHT = "linear.weight"  # of a Dense module


def load_transformer(conf: ModelConf, folder: Path, precision: Precision) -> Any:
    """The encoder of a checkpoint in evaluation mode, without heads, on the CPU.

    No code from the checkpoint is run and no pickle is read.

    Args:
        conf: What the model must turn out to be.
        folder: Holds config.json and model.safetensors.
        precision: Of the weights and the forward pass.

    Returns:
        A transformers model whose output has `last_hidden_state`, [B, L, H]; without a head H is
        conf.dimension.

    Raises:
        ModelError: The checkpoint cannot be read, misses weights, or has another dimension, other rotary
            positions or a smaller length than the configuration says.
    """
    try:
        config = _load_config(folder)
        _check_config(conf, config)
        with quiet():
            model, info = AutoModel.from_pretrained(
                folder,
                config=config,
                dtype=getattr(torch, precision),
                attn_implementation=_ATTENTION,
                key_mapping=key_mapping(config.model_type, weight_names(folder / WEIGHTS_FILE)),
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except ModelError:
        raise
    except Exception as error:  # transformers and safetensors raise built-in types and types of their own
        reason = " ".join(str(error).split())[:300]
        raise ModelError(
            f"the checkpoint in {folder} cannot be loaded: {reason}",
            "config.json and model.safetensors must belong together and be of a type known to transformers",
        ) from error
    check_loaded(info["missing_keys"], info["unexpected_keys"], folder)
    if getattr(model, "pooler", None) is not None:
        model.pooler = None  # a head that mean pooling has no use for
    if conf.rope:
        model.rotary_emb = LengthRope(config.head_dim, conf.rope)
    return model.eval()


def load_head(conf: ModelConf, folder: Path, hidden: int) -> Tensor | None:
    """The matrix of a model's head, x_DH float32; None where it has none.

    Raises:
        ModelError: The file cannot be read, or does not hold one matrix of the right sizes.
    """
    if conf.head is None:
        return None
    file = folder / conf.head.folder / WEIGHTS_FILE
    try:
        tensors = load_file(file)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"the head of '{conf.name}' cannot be read: {error}", "Fetch it again") from error
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    wanted = {_HEAD_WEIGHT: (conf.dimension, hidden)}
    if shapes != wanted:
        raise ModelError(
            f"the head of '{conf.name}' in {file} holds {shapes}, and should hold {wanted}",
            "Only a linear map without bias to the YAML's dimension can be loaded",
        )
    _check_linear(conf.name, file.parent / CONFIG_FILE)
    return tensors[_HEAD_WEIGHT].float()


def _check_linear(name: str, file: Path) -> None:
    """Refuses a Dense module that does more than its matrix."""
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"the head of '{name}' has no readable {file}", "Fetch it again") from error
    activation = str(config.get("activation_function", ""))
    if not activation.endswith(".Identity") or config.get("use_residual"):
        raise ModelError(
            f"the head of '{name}' is more than a matrix: {file} has activation '{activation}'",
            "Only torch.nn.modules.linear.Identity, without a residual, is implemented",
        )


def _load_config(folder: Path) -> Any:
    raw = read_config(folder / CONFIG_FILE)
    if raw["model_type"] == "nomic_bert":
        return AutoConfig.for_model(**native_nomic_config(raw))
    return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def _check_config(conf: ModelConf, config: Any) -> None:
    """Refuses a checkpoint that is not what the model's YAML says, before its weights are read."""
    if conf.head is None and config.hidden_size != conf.dimension:
        raise ModelError(
            f"the checkpoint of '{conf.name}' has dimension {config.hidden_size}, its YAML says "
            f"{conf.dimension}",
            "Correct dimension and dimensions in the model's YAML",
        )
    if conf.rope is not None:
        _check_rope(conf.name, conf.rope, config)
        return
    # A length-dependent RoPE of transformers remembers its longest row, and so mixes rows up.
    own_rope = str(getattr(config, "rope_parameters", None))
    if config.model_type == "nomic_bert" or "dynamic" in own_rope or "longrope" in own_rope:
        raise ModelError(
            f"'{conf.name}' is a {config.model_type} with rotary positions that its YAML does not describe",
            "Add rope to the model's YAML, as in conf/models/nomic-embed-text-v1.5.yaml",
        )
    if conf.max_tokens > config.max_position_embeddings:
        raise ModelError(
            f"max_tokens of '{conf.name}' is {conf.max_tokens}, but the model knows "
            f"{config.max_position_embeddings} positions",
            f"Set max_tokens to {config.max_position_embeddings} or less",
        )


def _check_rope(name: str, rope: RopeConf, config: Any) -> None:
    # Only nomic_bert is known to call its rotary embedding as LengthRope answers.
    if config.model_type != "nomic_bert":
        raise ModelError(
            f"'{name}' is a {config.model_type}; rope is implemented for nomic_bert only",
            "Remove rope from the model's YAML, or use a nomic_bert checkpoint",
        )
    trained = float(config.rope_parameters["rope_theta"])
    if trained != rope.rope_theta:
        raise ModelError(
            f"the checkpoint of '{name}' was trained with rope_theta {trained}, its YAML says "
            f"{rope.rope_theta}",
            "Correct rope_theta in the model's YAML",
        )


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps transformers' progress bars and reports out of an actor's log; errors say it in one line."""
    logging: Any = _logging  # its functions carry no types
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
