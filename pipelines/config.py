"""Strict configuration: every component owns a `Config`, and an unknown key names the nearest known one."""

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from pipelines.errors import ConfigError

C = TypeVar("C", bound="Config")


class Config(BaseModel):
    """Base of every configuration: immutable, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def conf_dir() -> Path:
    """The `conf/` folder: beside the packages in a checkout, inside `pipelines` in an installed wheel."""
    here = Path(__file__).resolve().parent
    packaged = here / "conf"
    return packaged if packaged.is_dir() else here.parent / "conf"


def load_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; an empty file is an empty mapping.

    Raises:
        ConfigError: The file is missing, is not YAML, or holds something else than a mapping.
    """
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"there is no configuration file {path}") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise ConfigError(f"{path} must hold a mapping of settings, not a {type(loaded).__name__}")
    return loaded


def parse(cls: type[C], values: Mapping[str, Any], where: str) -> C:
    """Validates `values` as `cls`.

    Args:
        cls: The configuration to build.
        values: Plain data, as YAML gives it.
        where: What is being read, for the message: a file's path or `the settings`.

    Raises:
        ConfigError: Names the first wrong key, why it is wrong, and the nearest known key if unknown.
    """
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise ConfigError(f"unknown setting '{key}' in {where}", _suggest(key, known_keys(cls))) from None
        raise ConfigError(
            f"setting '{key}' in {where}: {first['msg'].removeprefix('Value error, ')}"
        ) from None


def known_keys(cls: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """The dotted names of all settings below `cls`."""
    for name, field in cls.model_fields.items():
        yield prefix + name
        for candidate in (field.annotation, *get_args(field.annotation)):
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                yield from known_keys(candidate, f"{prefix}{name}.")


def _suggest(key: str, known: Iterator[str]) -> str:
    names = sorted(known)
    section, _, last = key.rpartition(".")
    siblings = [name for name in names if name.rpartition(".")[0] == section]
    # A typo in the last part first; else the right name under another section; else anything alike.
    near = difflib.get_close_matches(last, [name.rpartition(".")[2] for name in siblings], 1, 0.6)
    near = [f"{section}.{name}".lstrip(".") for name in near]
    near = near or [name for name in names if name.rpartition(".")[2] == last][:1]
    near = near or ([] if section else difflib.get_close_matches(key, names, 1, 0.6))
    return f"Did you mean '{near[0]}'?" if near else f"Known settings here: {', '.join(siblings or names)}"
