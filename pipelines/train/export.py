"""The model that comes out of a run, as others load it: transformers, sentence-transformers, `embed`.

A folder in the hub's layout: config.json, model.safetensors, the tokenizer; modules.json and a folder for
each module of sentence-transformers after the transformer; and model.yaml, the `conf/models` form.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file
from torch import nn

from pipelines.encoder.conf import CONFIG_FILE, TOKENIZER_FILE, WEIGHTS_FILE, HeadConf, ModelConf
from pipelines.encoder.fingerprint import file_sha256
from pipelines.encoder.loading import quiet
from pipelines.errors import StorageError
from pipelines.train.recipe import MlmRecipe, Recipe
from pipelines.train.start import Start, load_embedder, load_masked_lm
from pipelines.train.state import unpacked
from pipelines.train.tower import Embedder

MODEL_YAML = "model.yaml"
_TOKENIZER_FILES = ("tokenizer_config.json", "special_tokens_map.json", "vocab.txt")
_SENTENCE = "sentence_transformers"


def export(recipe: Recipe, start: Start, checkpoint: bytes, out: Path) -> Path:
    """Writes the model of a checkpoint.

    It is written beside its place, and then takes the place of an earlier one: killed before that, the
    earlier one stays; killed between its removal and the move, none is there until the next call.

    Args:
        recipe: Of the run.
        start: Where it began.
        checkpoint: See `pipelines.train.state`.
        out: Folder of models; the model's own is in it, by name, and replaced.

    Returns:
        The model.yaml.

    Raises:
        StorageError: The folder cannot be written.
    """
    folder, part = out / recipe.name, out / f".{recipe.name}.part"
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        _write(recipe, start, checkpoint, part)
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
    except OSError as error:
        raise StorageError(f"{folder} cannot be written: {error.strerror}", "Check train.out") from error
    return folder / MODEL_YAML


def _write(recipe: Recipe, start: Start, checkpoint: bytes, folder: Path) -> None:
    cpu = torch.device("cpu")
    if isinstance(recipe, MlmRecipe):
        model: Any = load_masked_lm(recipe, start, cpu)
    else:
        model = load_embedder(recipe, start, cpu)
    unpacked(checkpoint, model, torch.optim.AdamW(model.parameters()))
    head = model.head if isinstance(model, Embedder) else None
    with quiet():
        (model.encoder if isinstance(model, Embedder) else model).save_pretrained(folder)
    conf = exported_conf(recipe, start)
    if head is not None:
        conf = conf.model_copy(update={"head": _written_head(head, folder)})
    _write_tokenizer(start.tokenizer_folder, conf, folder)
    _write_modules(conf, head.in_features if head else conf.dimension, folder)
    conf = conf.model_copy(update={"weights_sha256": file_sha256(folder / WEIGHTS_FILE)})
    values = conf.model_dump(mode="json", exclude_none=True)
    (folder / MODEL_YAML).write_text(yaml.safe_dump({**values, "path": "."}, sort_keys=False))


def exported_conf(recipe: Recipe, start: Start) -> ModelConf:
    """The `conf/models` form of the model that comes out; its path is the YAML's own folder."""
    before = start.conf
    changed: dict[str, Any] = {
        "name": recipe.name,
        "package": None,
        "hub": None,
        "revision": None,
        "path": Path(),
        "weights_sha256": None,
        "head": None,
    }
    if not isinstance(recipe, MlmRecipe):
        dims = recipe.objective.dimensions or (before.dimension,)
        changed["dimensions"] = tuple(sorted({before.dimension, *dims}, reverse=True))
        if recipe.prefixes is not None:
            changed["prefixes"] = recipe.prefixes
        if recipe.layer_norm is not None:
            changed["layer_norm"] = recipe.layer_norm
    return ModelConf.model_validate({**before.model_dump(), **changed})


def _written_head(head: nn.Linear, folder: Path) -> HeadConf:
    conf = HeadConf()
    (folder / conf.folder).mkdir()
    file = folder / conf.folder / WEIGHTS_FILE
    save_file({"linear.weight": head.weight.detach().contiguous()}, file)
    config = {
        "in_features": head.in_features,
        "out_features": head.out_features,
        "bias": False,
        "activation_function": "torch.nn.modules.linear.Identity",
    }
    (folder / conf.folder / CONFIG_FILE).write_text(json.dumps(config, indent=2))
    return conf.model_copy(update={"sha256": file_sha256(file)})


def _write_tokenizer(source: Path, conf: ModelConf, folder: Path) -> None:
    for name in _TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copy(source / name, folder / name)
    spec = json.loads((source / TOKENIZER_FILE).read_text(encoding="utf-8"))
    # A file's own cut and padding would win over what a library is asked for (all-MiniLM's cuts at 128).
    spec["truncation"] = spec["padding"] = None
    (folder / TOKENIZER_FILE).write_text(json.dumps(spec, ensure_ascii=False), encoding="utf-8")
    config = folder / "tokenizer_config.json"
    values = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
    values["model_max_length"] = conf.max_tokens
    config.write_text(json.dumps(values, indent=2))


def _write_modules(conf: ModelConf, hidden: int, folder: Path) -> None:
    """What sentence-transformers reads: the transformer, mean pooling, head, LayerNorm without affine, L2."""
    modules: list[tuple[str, str, dict[str, Any] | None]] = [
        ("", "Transformer", None),
        ("1_Pooling", "Pooling", _POOLING | {"word_embedding_dimension": hidden}),
    ]
    if conf.head:
        modules.append((conf.head.folder, "Dense", None))
    if conf.layer_norm:
        name = f"{len(modules)}_LayerNorm"
        modules.append((name, "LayerNorm", {"dimension": conf.dimension}))
        # The module has an affine map where the model has none: one that changes nothing.
        same = {"norm.weight": torch.ones(conf.dimension), "norm.bias": torch.zeros(conf.dimension)}
        (folder / name).mkdir()
        save_file(same, folder / name / WEIGHTS_FILE)
    modules.append((f"{len(modules)}_Normalize", "Normalize", {}))
    listed = []
    for number, (path, kind, config) in enumerate(modules):
        kind = f"{_SENTENCE}.models.{kind}"
        listed.append({"idx": number, "name": str(number), "path": path, "type": kind})
        if config is not None:
            (folder / path).mkdir(exist_ok=True)
            (folder / path / CONFIG_FILE).write_text(json.dumps(config, indent=2))
    (folder / "modules.json").write_text(json.dumps(listed, indent=2))
    (folder / "sentence_bert_config.json").write_text(
        json.dumps({"max_seq_length": conf.max_tokens, "do_lower_case": False}, indent=2)
    )
    prompts = {role: f"{prefix}: " if prefix else "" for role, prefix in conf.prefixes.items()}
    (folder / "config_sentence_transformers.json").write_text(
        json.dumps({"prompts": prompts, "similarity_fn_name": "cosine"}, indent=2)
    )


_POOLING = {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False, "include_prompt": True}
