"""Who a model is: the key that its vectors are stored under. No torch, and no weights in memory."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

from pipelines.encoder.conf import WEIGHTS_FILE, ModelConf, model_folder
from pipelines.encoder.tokenizer import Tokenizer
from pipelines.errors import ModelError

Precision = Literal["float32", "bfloat16"]

_CPUINFO = Path("/proc/cpuinfo")
_BF16_FLAGS = {"avx512_bf16", "amx_bf16"}


@dataclass(frozen=True)
class ModelIdentity:
    """What is known of a model before its weights are in memory.

    Attributes:
        key: Value of the `model` partition, `<name>@<12 hex digits>`.
        name: The configuration's name.
        dimension: Full dimension of its vectors.
        precision: Resolved precision of the forward pass.
        tokenizer_fingerprint: Of the tokenizer that its rows must come from.
        vocab_size: Of that tokenizer.
        weights_sha256: Of model.safetensors as it lies on disk, in hex.
        head_sha256: Of the head's; None where there is none.
    """

    key: str
    name: str
    dimension: int
    precision: Precision
    tokenizer_fingerprint: str
    vocab_size: int
    weights_sha256: str
    head_sha256: str | None = None


def model_key(
    conf: ModelConf,
    precision: Precision,
    tokenizer_fingerprint: str,
    weights_sha256: str,
    head_sha256: str | None = None,
) -> str:
    """The key of a model's vectors, `<name>@<12 hex digits>`: equal if documents get the same vectors.

    It does not change with where the files lie, with the query prefix, with max_tokens or with batch sizes.

    Args:
        conf: The model.
        precision: Resolved, never `auto`: bfloat16 vectors differ from float32 ones in the third digit.
        tokenizer_fingerprint: As `Tokenizer.fingerprint` gives it.
        weights_sha256: Of model.safetensors, in hex.
        head_sha256: Of the head's, where the model has one.
    """
    decisive: dict[str, object] = {
        "weights": weights_sha256,
        "tokenizer": tokenizer_fingerprint,
        "document_prefix": conf.prefix("document"),
        "pooling": conf.pooling,
        "layer_norm": conf.layer_norm,
        "dimension": conf.dimension,
        "rope": conf.rope.model_dump() if conf.rope else None,
        "precision": precision,
    }
    if head_sha256 is not None:  # left out where there is none: keys are older than heads
        decisive["head"] = head_sha256
    digest = hashlib.sha256(json.dumps(decisive, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    return f"{conf.name}@{digest[:12]}"


def resolve_precision(conf: ModelConf, device: str) -> Precision:
    """The precision that the model runs in on a device of this machine.

    Args:
        conf: Its `precision` is taken as it is unless `auto`.
        device: As torch names them: `cuda`, `cuda:1`, `cpu`.

    Returns:
        For `auto`: bfloat16 on CUDA and on CPUs that multiply it in hardware (AVX512-BF16 or AMX), where it
        is 1.7 to 2.7 times as fast as float32 at a cosine of 0.9999; elsewhere float32, there the faster.

    A cluster whose machines differ must resolve it once, on one of them, and hand the result to all.
    """
    if conf.precision != "auto":
        return conf.precision
    if device.split(":")[0] == "cuda":
        return "bfloat16"
    if device != "cpu" or not _CPUINFO.is_file():  # not Linux
        return "float32"
    return "bfloat16" if multiplies_bfloat16(_CPUINFO.read_text(encoding="utf-8")) else "float32"


def multiplies_bfloat16(cpuinfo: str) -> bool:
    """Whether a processor multiplies bfloat16 in hardware, from what Linux says of it in /proc/cpuinfo."""
    flags = next((line.split() for line in cpuinfo.splitlines() if line.startswith("flags")), [])
    return not _BF16_FLAGS.isdisjoint(flags)


def checked_precision(precision: str) -> Precision:
    """`precision` itself.

    Raises:
        ModelError: It is neither float32 nor bfloat16.
    """
    if precision not in get_args(Precision):
        raise ModelError(f"there is no precision '{precision}'", "Use float32 or bfloat16")
    return cast(Precision, precision)


def describe_model(conf: ModelConf, precision: str | None = None) -> ModelIdentity:
    """The identity of a model, from its files; `Encoder` gives its vectors the same key.

    Args:
        conf: The model.
        precision: `float32` or `bfloat16`, resolved on the kind of machine that will embed; None resolves it
            for this machine's CPU.

    Raises:
        ModelError: The files cannot be had, or the weights are not those that the configuration names.
    """
    folder = model_folder(conf)
    tokenizer = Tokenizer.from_folder(folder)
    resolved = resolve_precision(conf, "cpu") if precision is None else checked_precision(precision)
    weights_sha256 = _verified(conf.name, folder / WEIGHTS_FILE, conf.weights_sha256, "weights_sha256")
    head_sha256 = None
    if conf.head:
        file = folder / conf.head.folder / WEIGHTS_FILE
        head_sha256 = _verified(conf.name, file, conf.head.sha256, "head.sha256")
    return ModelIdentity(
        key=model_key(conf, resolved, tokenizer.fingerprint, weights_sha256, head_sha256),
        name=conf.name,
        dimension=conf.dimension,
        precision=resolved,
        tokenizer_fingerprint=tokenizer.fingerprint,
        vocab_size=tokenizer.vocab_size,
        weights_sha256=weights_sha256,
        head_sha256=head_sha256,
    )


def _verified(name: str, file: Path, wanted: str | None, setting: str) -> str:
    """The file's sha256.

    Raises:
        ModelError: It is not there, or not the one wanted.
    """
    if not file.is_file():
        raise ModelError(f"model '{name}' lacks {file}", "Fetch it again, or correct the model's YAML")
    found = file_sha256(file)
    if wanted not in (None, found):
        raise ModelError(
            f"the weights of '{name}' in {file} have sha256 {found} and should have {wanted}",
            f"Fetch them again; or, if they are meant to differ, change {setting} in the model's YAML",
        )
    return found


def file_sha256(file: Path) -> str:
    """sha256 of a file in hex, read in pieces."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
