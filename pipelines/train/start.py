"""The model that a run begins with: random weights, or a checkpoint's."""
# ruff: noqa: N806  (tensor names carry their shape: head_DH)

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import NomicBertConfig, NomicBertForMaskedLM, NomicBertModel

from pipelines.encoder.checkpoint import read_config, tensor_shapes
from pipelines.encoder.conf import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    ModelConf,
    RopeConf,
    load_model_conf,
    model_folder,
)
from pipelines.encoder.flops import forward_flops
from pipelines.encoder.loading import load_head, load_transformer
from pipelines.encoder.rope import LengthRope
from pipelines.encoder.tokenizer import Tokenizer
from pipelines.errors import ModelError
from pipelines.train.architecture import Architecture
from pipelines.train.plan import Sizes
from pipelines.train.recipe import ContrastiveRecipe, MlmRecipe, Recipe
from pipelines.train.tower import Embedder, set_dropout


@dataclass(frozen=True)
class Start:
    """Where a run begins, without weights in memory.

    Attributes:
        conf: Of the model that is trained: dimension, pooling, prefixes as they were before.
        tokenizer_folder: Holds its tokenizer.json.
        folder: Of the checkpoint; None for random weights.
    """

    conf: ModelConf
    tokenizer_folder: Path
    folder: Path | None

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's."""
        return Tokenizer.from_folder(self.tokenizer_folder)


def starting_point(recipe: Recipe) -> Start:
    """Where a recipe begins, checked against what the recipe says of it.

    Raises:
        ModelError: A model is not there, or has other sizes.
        ConfigError: A model's YAML is missing or malformed.
    """
    if recipe.start is None:
        assert recipe.architecture is not None  # the recipe has both or a start
        assert recipe.tokenizer is not None
        given = load_model_conf(recipe.tokenizer)
        conf = _random_conf(recipe, recipe.architecture)
        _check_dimensions(recipe, conf)
        return Start(conf, model_folder(given), None)
    conf = load_model_conf(recipe.start)
    folder = model_folder(conf)
    if recipe.architecture is not None and recipe.architecture.hidden != conf.dimension:
        raise ModelError(
            f"the recipe is for a model of dimension {recipe.architecture.hidden}, but '{conf.name}', "
            f"which it starts from, has {conf.dimension}",
            "Correct start or architecture in the recipe",
        )
    _check_dimensions(recipe, conf)
    return Start(conf, folder, folder)


def _check_dimensions(recipe: Recipe, conf: ModelConf) -> None:
    if isinstance(recipe, MlmRecipe) or recipe.objective.dimensions is None:
        return
    largest = max(recipe.objective.dimensions)
    if largest > conf.dimension:
        raise ModelError(
            f"objective.dimensions of '{recipe.name}' has {largest}, but '{conf.name}' has dimension "
            f"{conf.dimension}",
            f"Name dimensions of {conf.dimension} and below",
        )


def _random_conf(recipe: Recipe, sizes: Architecture) -> ModelConf:
    return ModelConf(
        name=recipe.name,
        path=Path(),
        prefixes={"document": "", "query": ""},
        layer_norm=True,
        dimension=sizes.hidden,
        dimensions=(sizes.hidden,),
        max_tokens=sizes.positions,
        rope=RopeConf(rope_theta=sizes.rope_theta, max_position_embeddings=sizes.positions),
    )


def model_sizes(recipe: Recipe) -> Sizes:
    """Sizes of a recipe's model, heads left out; where the recipe says them, no checkpoint is asked.

    Raises:
        ModelError: The model that the recipe starts from is not there.
    """
    own = recipe.architecture
    if own is not None:
        return Sizes(own.parameters, own.layers, own.hidden, own.inner, own.forward_flops())
    assert recipe.start is not None  # the recipe has one of the two
    folder = model_folder(load_model_conf(recipe.start))
    config = read_config(folder / CONFIG_FILE)
    shapes = tensor_shapes(folder / WEIGHTS_FILE)
    return Sizes(
        parameters=sum(prod(shape) for shape in shapes.values()),
        layers=int(config.get("num_hidden_layers") or config.get("n_layer") or 0),
        hidden=int(config.get("hidden_size") or config.get("n_embd") or 0),
        inner=int(config.get("intermediate_size") or config.get("n_inner") or 0),
        flops=forward_flops(folder),
    )


def load_embedder(recipe: ContrastiveRecipe, start: Start, device: torch.device) -> Embedder:
    """An embedder to be trained, float32, the same on every worker.

    Its head is that of the checkpoint, or where the recipe wants one, one that changes nothing.

    Raises:
        ModelError: The checkpoint cannot be loaded.
    """
    if start.folder is None:
        assert recipe.architecture is not None
        torch.manual_seed(recipe.seed)
        model: Any = NomicBertModel(native_config(recipe.architecture))
        model.pooler = None
        model.rotary_emb = LengthRope(model.config.head_dim, _rope(start.conf))
    else:
        model = load_transformer(start.conf, start.folder, "float32")
    head_DH = None
    if start.folder is not None:
        head_DH = load_head(start.conf, start.folder, model.config.hidden_size)
    if head_DH is None and recipe.head is not None:
        head_DH = torch.eye(start.conf.dimension)
    head = None
    if head_DH is not None:
        head = nn.Linear(head_DH.shape[1], head_DH.shape[0], bias=False, device=device)
        head.weight.data.copy_(head_DH)
    return Embedder(_ready(model, recipe, device), head)


def load_masked_lm(recipe: MlmRecipe, start: Start, device: torch.device) -> Any:
    """A nomic_bert with a head that tells tokens, to be trained, float32, the same on every worker.

    Raises:
        ModelError: The checkpoint cannot be loaded, or is no nomic_bert.
    """
    sizes = recipe.architecture
    if sizes is None:
        raise ModelError(
            "a masked language model is made from an architecture", "Add architecture to the recipe"
        )
    torch.manual_seed(recipe.seed)
    model: Any = NomicBertForMaskedLM(native_config(sizes))
    if start.folder is not None:
        encoder = load_transformer(start.conf, start.folder, "float32")
        if encoder.config.model_type != "nomic_bert":
            raise ModelError(
                f"'{start.conf.name}' is a {encoder.config.model_type}; masking trains nomic_bert only",
                "Start from random weights or from a nomic_bert",
            )
        model.nomic_bert.load_state_dict(encoder.state_dict(), strict=False)
    model.nomic_bert.rotary_emb = LengthRope(model.config.head_dim, _rope(start.conf))
    return _ready(model, recipe, device)


def native_config(sizes: Architecture) -> Any:
    """Transformers' configuration of a nomic_bert of these sizes."""
    return NomicBertConfig(
        vocab_size=sizes.vocabulary,
        hidden_size=sizes.hidden,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        intermediate_size=sizes.inner,
        max_position_embeddings=sizes.positions,
        rope_parameters={"rope_type": "default", "rope_theta": sizes.rope_theta},
    )


def _rope(conf: ModelConf) -> RopeConf:
    assert conf.rope is not None  # a nomic_bert's has it
    return conf.rope


def _ready(model: Any, recipe: Recipe, device: torch.device) -> Any:
    set_dropout(model, recipe.dropout)
    if device.type == "cpu":
        # MiniLM in bfloat16, two AVX512-BF16 cores, 53,883 tokens in micro-batches of 4,096, forward and
        # backward: 14.6 s, and 23.1 s with sdpa (2026-11-28).
        model.set_attn_implementation("eager")
    return model.to(device).train()
