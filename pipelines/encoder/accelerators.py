"""The kinds of device that plans reckon with."""

from pydantic import Field

from pipelines.config import Config, conf_dir, load_yaml, parse

# Share of a device's peak that a model is taken to reach where nothing was measured. An assumption.
ASSUMED_SHARE = 0.4


class Accelerator(Config):
    """A kind of device.

    Attributes:
        name: For people.
        match: Regular expression that finds it in the name that the device has of itself.
        bf16_tflops: Peak of its matrix products.
        price_per_hour: Of one.
    """

    name: str
    match: str
    bf16_tflops: float = Field(gt=0)
    price_per_hour: float | None = Field(default=None, ge=0)


class _Accelerators(Config):
    accelerators: tuple[Accelerator, ...]


def accelerators() -> list[Accelerator]:
    """Those of `conf/accelerators.yaml`.

    Raises:
        ConfigError: The file is malformed.
    """
    file = conf_dir() / "accelerators.yaml"
    return list(parse(_Accelerators, load_yaml(file), str(file)).accelerators)
