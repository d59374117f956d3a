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

from pipelines.encoder.conf import TOKENIZER_FILE, WEIGHTS_FILE, ModelConf
from pipelines.encoder.fingerprint import file_sha256
from pipelines.encoder.loading import quiet
from pipelines.errors import StorageError
from pipelines.train.recipe import MlmRecipe, Recipe
from pipelines.train.start import Start, load_encoder, load_masked_lm
from pipelines.train.state import unpacked

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
        model = load_encoder(recipe, start, cpu)
    unpacked(checkpoint, model, torch.optim.AdamW(model.parameters()))
    with quiet():
        model.save_pretrained(folder)
    conf = exported_conf(recipe, start)
    _write_tokenizer(start.tokenizer_folder, conf, folder)
    _write_modules(conf, folder)
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
    }
    if not isinstance(recipe, MlmRecipe):
        dims = recipe.objective.dimensions or (before.dimension,)
        changed["dimensions"] = tuple(sorted({before.dimension, *dims}, reverse=True))
        if recipe.prefixes is not None:
            changed["prefixes"] = recipe.prefixes
        if recipe.layer_norm is not None:
            changed["layer_norm"] = recipe.layer_norm
    return ModelConf.model_validate({**before.model_dump(), **changed})


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


def _write_modules(conf: ModelConf, folder: Path) -> None:
    """What sentence-transformers reads: the transformer, mean pooling, LayerNorm without affine, L2."""
    modules: list[tuple[str, str, dict[str, Any] | None]] = [
        ("", f"{_SENTENCE}.models.Transformer", None),
        ("1_Pooling", f"{_SENTENCE}.models.Pooling", _POOLING | {"word_embedding_dimension": conf.dimension}),
    ]
    if conf.layer_norm:
        modules.append(("2_LayerNorm", f"{_SENTENCE}.models.LayerNorm", {"dimension": conf.dimension}))
    modules.append((f"{len(modules)}_Normalize", f"{_SENTENCE}.models.Normalize", {}))
    listed = []
    for number, (path, kind, config) in enumerate(modules):
        listed.append({"idx": number, "name": str(number), "path": path, "type": kind})
        if config is not None:
            (folder / path).mkdir()
            (folder / path / "config.json").write_text(json.dumps(config, indent=2))
    if conf.layer_norm:
        # The module has an affine map where the model has none: one that changes nothing.
        same = {"norm.weight": torch.ones(conf.dimension), "norm.bias": torch.zeros(conf.dimension)}
        save_file(same, folder / "2_LayerNorm" / WEIGHTS_FILE)
    (folder / "modules.json").write_text(json.dumps(listed, indent=2))
    (folder / "sentence_bert_config.json").write_text(
        json.dumps({"max_seq_length": conf.max_tokens, "do_lower_case": False}, indent=2)
    )
    prompts = {role: f"{prefix}: " if prefix else "" for role, prefix in conf.prefixes.items()}
    (folder / "config_sentence_transformers.json").write_text(
        json.dumps({"prompts": prompts, "similarity_fn_name": "cosine"}, indent=2)
    )


_POOLING = {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False, "include_prompt": True}
