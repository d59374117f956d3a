"""Which of the lake's models a query is put to. Pure but for the model's files."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.encoder.conf import ModelConf, load_model_conf
from pipelines.encoder.fingerprint import Precision, describe_model, model_key
from pipelines.errors import ConfigError, ModelError
from pipelines.progress import Progress

_PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
_EMBED = "Run 'embedlake embed'"


def choose_model(
    recorded: Mapping[str, Mapping[str, Any]], conf: ModelConf | None, model: str | None = None
) -> tuple[ModelConf, str]:
    """The configuration and the key that a query is encoded by.

    Args:
        recorded: Identities by key, as the embeddings table records them.
        conf: The model; None takes the lake's only one.
        model: A key, or a model's name, to choose among those recorded; None leaves it to `conf`.

    Returns:
        A configuration whose document vectors have that key, so its queries are comparable with them.

    Raises:
        ModelError: No embeddings are by the model, or several sets are and nothing says which is meant.
    """
    if not recorded:
        raise ModelError("the lake has no embeddings", _EMBED)
    wanted = [key for key in sorted(recorded) if model in (None, key, key.partition("@")[0])]
    if not wanted:
        raise ModelError(
            f"the lake has no embeddings by '{model}'", f"It has those of {', '.join(sorted(recorded))}"
        )
    if conf is None:
        conf = load_model_conf(_only(sorted({key.partition("@")[0] for key in wanted}), recorded))
    makes = _keys(conf)
    usable = [key for key in wanted if key in makes]
    if not usable:
        others = [key for key in wanted if key.partition("@")[0] == conf.name]
        if others:
            raise ModelError(
                f"the lake's embeddings by '{conf.name}' ({', '.join(others)}) are of other weights or "
                f"settings than the model has now ({' or '.join(makes)})",
                f"{_EMBED} with it, or search with the configuration that they were made by",
            )
        raise ModelError(
            f"the lake has no embeddings by '{conf.name}', only by {', '.join(wanted)}", f"{_EMBED} with it"
        )
    return conf, _only(usable, recorded)


def conf_for(conf: ModelConf, key: str) -> ModelConf:
    """The configuration of the model that a key names: `conf` where it is that one, else that of its name.

    Raises:
        ModelError, ConfigError: There is none.
    """
    name = key.partition("@")[0]
    return conf if conf.name == name else load_model_conf(name)


def checked_dimension(conf: ModelConf, dim: int | None, stored: int, progress: Progress) -> int:
    """The dimension to compare in.

    Args:
        conf: The model.
        dim: What was asked for; None is that of the stored vectors.
        stored: Dimension of the stored vectors.
        progress: Told where the model was not made for slices of that size.

    Raises:
        ConfigError: The stored vectors are smaller.
    """
    if dim is None:
        return stored
    if not 1 <= dim <= stored:
        raise ConfigError(
            f"the vectors have {stored} dimensions, and cannot be compared in {dim}",
            f"Use {', '.join(str(one) for one in conf.dimensions if one <= stored) or stored}",
        )
    if dim not in conf.dimensions and dim != stored:
        made_for = ", ".join(map(str, conf.dimensions))
        progress.say(
            f"'{conf.name}' was not made for slices of {dim} dimensions, but of {made_for}: 'embedlake "
            "evaluate' measures what they cost"
        )
    return dim


def _keys(conf: ModelConf) -> list[str]:
    """The keys that its vectors may have: one, or where its precision is `auto`, one for each."""
    if conf.precision != "auto":
        return [describe_model(conf, conf.precision).key]
    first = describe_model(conf, _PRECISIONS[0])
    return [
        first.key,
        *(
            model_key(conf, other, first.tokenizer_fingerprint, first.weights_sha256, first.head_sha256)
            for other in _PRECISIONS[1:]
        ),
    ]


def _only(choices: Sequence[str], recorded: Mapping[str, Mapping[str, Any]]) -> str:
    if len(choices) == 1:
        return choices[0]
    told = ", ".join(
        f"{choice} ({recorded[choice].get('precision')})" if choice in recorded else choice
        for choice in choices
    )
    raise ModelError(f"several models fit: {told}", "Name one of them in full as the model to search")
