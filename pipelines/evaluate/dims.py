"""Which dimensions are evaluated."""

from collections.abc import Sequence

from pipelines.encoder.conf import ModelConf
from pipelines.errors import ConfigError
from pipelines.progress import Progress


def dimensions(conf: ModelConf, asked: Sequence[int] | None, progress: Progress) -> tuple[int, ...]:
    """The dimensions to evaluate, descending, each once.

    Args:
        conf: The model.
        asked: Dimensions; None for the model's own.
        progress: Told of those that the model was not made for; they are evaluated all the same.

    Raises:
        ConfigError: One is above the model's dimension.
    """
    dims = tuple(sorted(set(asked or conf.dimensions), reverse=True))
    if dims[0] > conf.dimension:
        raise ConfigError(
            f"'{conf.name}' has vectors of dimension {conf.dimension}, none of {dims[0]}",
            f"Ask for {conf.dimension} or less",
        )
    for dim in dims:
        if dim not in conf.dimensions:
            progress.say(f"warning: {dim} is not among the dimensions of '{conf.name}', {conf.dimensions}")
    return dims
