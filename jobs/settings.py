"""All settings of a job: a profile, then the environment, then `--set`, then the command's own options."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from pipelines.config import Config, conf_dir, load_yaml, parse
from pipelines.curate.config import CurateConfig
from pipelines.embed.config import EmbedConfig, RayConfig
from pipelines.errors import ConfigError
from pipelines.lake.config import CREDENTIAL_VARIABLE, TOKEN_VARIABLE, LakeConfig, SparkConfig

_PREFIX = "EMBEDLAKE_"
# Variables that are not settings: options of the command, and credentials.
_APART = {"EMBEDLAKE_PROFILE", "EMBEDLAKE_LAKE", "EMBEDLAKE_DEBUG", CREDENTIAL_VARIABLE, TOKEN_VARIABLE}


class Settings(Config):
    """Everything that can be set; each section belongs to the component that reads it.

    Attributes:
        model: Name of a file in `conf/models`, or the path of one.
        lake: Where the tables are.
        spark: How Spark is run.
        ray: How Ray is run.
        curate: Corpus to chunks.
        embed: Chunks to vectors.
    """

    model: str = "minilm"
    lake: LakeConfig
    spark: SparkConfig = SparkConfig()
    ray: RayConfig = RayConfig()
    curate: CurateConfig = CurateConfig()
    embed: EmbedConfig = EmbedConfig()


def load_settings(
    profile: str = "local",
    lake_dir: Path | None = None,
    assignments: Iterable[str] = (),
    environment: Mapping[str, str] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Settings:
    """The settings of a job.

    Args:
        profile: Name of a file in `conf/profiles`, or the path of one.
        lake_dir: `--lake`: the folder of a local lake.
        assignments: `--set`, each `a.b=value`.
        environment: Whose `EMBEDLAKE_A__B` set `a.b`; the process's own where None.
        options: The command's own options, as dotted names; None values are left out.

    Raises:
        ConfigError: A setting is unknown (the nearest is named) or wrong.
    """
    values = load_yaml(profile_path(profile))
    where = f"profile {profile}"
    parse_partial(values, where)
    for name, text in (os.environ if environment is None else environment).items():
        if name.startswith(_PREFIX) and name not in _APART:
            key = name.removeprefix(_PREFIX).lower().replace("__", ".")
            _assign(values, key, _value(text), f"environment variable {name}")
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key.strip():
            raise ConfigError(
                f"--set takes NAME=VALUE, not '{assignment}'", "For example --set lake.buckets=16"
            )
        _assign(values, key.strip(), _value(text), "--set")
    if lake_dir is not None:
        if values.get("lake", {}).get("catalog", {}).get("type", "sql") != "sql":
            raise ConfigError(
                "--lake names a local folder, but the profile has a catalogue service",
                "Leave out one of the two",
            )
        _assign(values, "lake.dir", str(lake_dir), "--lake")
    for key, value in (options or {}).items():
        if value is not None:
            _assign(values, key, value, "the command line")
    return parse(Settings, values, "the settings")


def parse_partial(values: Mapping[str, Any], where: str) -> None:
    """Refuses unknown top-level sections early, with the profile's name in the message.

    Raises:
        ConfigError: A section is unknown.
    """
    for key in values:
        if key not in Settings.model_fields:
            parse(Settings, {key: values[key], "lake": {"dir": "."}}, where)


def profile_path(profile: str) -> Path:
    """The file of a profile.

    Raises:
        ConfigError: There is none; names those there are.
    """
    if profile.endswith((".yaml", ".yml")):
        return Path(profile)
    folder = conf_dir() / "profiles"
    path = folder / f"{profile}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in folder.glob("*.yaml")))
        raise ConfigError(
            f"there is no profile '{profile}'", f"Profiles: {known}, or the path of a YAML file"
        )
    return path


def _assign(values: dict[str, Any], key: str, value: Any, where: str) -> None:
    *sections, last = key.split(".")
    target = values
    for section in sections:
        child = target.setdefault(section, {})
        if not isinstance(child, dict):
            raise ConfigError(f"'{key}' ({where}): '{section}' is a setting, not a section")
        target = child
    target[last] = value


def _value(text: str) -> Any:
    """A setting's text; lists and mappings as YAML, `null` as None, and pydantic makes the rest of it."""
    stripped = text.strip()
    if stripped in ("null", "none", "None"):
        return None
    if stripped.startswith(("[", "{")):
        try:
            return yaml.safe_load(stripped)
        except yaml.YAMLError as error:
            raise ConfigError(f"'{text}' is not valid YAML") from error
    return text
