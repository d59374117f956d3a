"""All settings of a job: a profile, then the environment, then `--set`, then the command's own options."""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from pipelines.cluster.config import RayConfig
from pipelines.config import Config, conf_dir, load_yaml, parse
from pipelines.curate.config import CurateConfig
from pipelines.embed.config import EmbedConfig
from pipelines.errors import ConfigError
from pipelines.evaluate.config import EvaluateConfig
from pipelines.lake.config import CREDENTIAL_VARIABLE, TOKEN_VARIABLE, LakeConfig, SparkConfig
from pipelines.maintain.config import MaintainConfig
from pipelines.mine.config import MineConfig
from pipelines.publish.config import PublishConfig
from pipelines.search.config import SearchConfig
from pipelines.train.config import TrainConfig

_PREFIX = "EMBEDLAKE_"
_SOMEWHERE = "the settings"
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
        publish: Vectors to serving tables.
        search: Queries to chunks.
        evaluate: Vectors against judgements.
        maintain: Compaction, expiry and orphans.
        mine: Pairs to judgements and hard negatives.
        train: On what recipes are run.
    """

    model: str = "minilm"
    lake: LakeConfig
    spark: SparkConfig = SparkConfig()
    ray: RayConfig = RayConfig()
    curate: CurateConfig = CurateConfig()
    embed: EmbedConfig = EmbedConfig()
    publish: PublishConfig = PublishConfig()
    search: SearchConfig = SearchConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    maintain: MaintainConfig = MaintainConfig()
    mine: MineConfig = MineConfig()
    train: TrainConfig = TrainConfig()


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
    origins = _Origins(f"profile {profile}")
    parse_partial(values, origins.profile)
    # A section whose lines are all commented out is none.
    values = {"lake": {}} | {key: value for key, value in values.items() if value is not None}
    for name, text in (os.environ if environment is None else environment).items():
        if name.startswith(_PREFIX) and name not in _APART:
            key = name.removeprefix(_PREFIX).lower().replace("__", ".")
            origins.assign(values, key, _value(text), f"environment variable {name}")
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key.strip():
            raise ConfigError(
                f"--set takes NAME=VALUE, not '{assignment}'", "For example --set lake.buckets=16"
            )
        origins.assign(values, key.strip(), _value(text), "--set")
    if lake_dir is not None:
        if _at(values, "lake", "catalog", "type") not in (None, "sql"):
            raise ConfigError(
                "--lake names a local folder, but the profile has a catalogue service",
                "Leave out one of the two",
            )
        origins.assign(values, "lake.dir", str(lake_dir), "--lake")
    for key, value in (options or {}).items():
        if value is not None:
            origins.assign(values, key, value, "the command line")
    try:
        return parse(Settings, values, _SOMEWHERE)
    except ConfigError as error:
        raise ConfigError(origins.named(error.message), error.hint) from None


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


class _Origins:
    """Where each setting was given last, so that a wrong one is told from where to remove it."""

    def __init__(self, profile: str) -> None:
        self.profile = profile
        self._where: dict[str, str] = {}

    def assign(self, values: dict[str, Any], key: str, value: Any, where: str) -> None:
        """Sets `key`, a dotted name, in nested `values`."""
        *sections, last = key.split(".")
        target = values
        for section in sections:
            if target.get(section) is None:  # a section that the profile leaves empty
                target[section] = {}
            child = target[section]
            if not isinstance(child, dict):
                raise ConfigError(f"'{key}' ({where}): '{section}' is a setting, not a section")
            target = child
        target[last] = value
        self._where[key] = where

    def named(self, message: str) -> str:
        """`message`, a fault of the merged settings, with the place that its setting comes from."""
        found = re.search(r"'([^']*)'", message)
        key = found[1] if found else ""
        given = [where for name, where in self._where.items() if f"{name}.".startswith(f"{key}.")]
        given += [where for name, where in self._where.items() if key.startswith(f"{name}.")]
        if not given and message.startswith("unknown"):
            given = [self.profile]
        return message.replace(_SOMEWHERE, given[0], 1) if given else message


def _at(values: Any, *names: str) -> Any:
    for name in names:
        values = values.get(name) if isinstance(values, dict) else None
    return values


def _value(text: str) -> Any:
    """A setting's text; lists and mappings as YAML, `null` as None, and pydantic makes the rest of it."""
    stripped = text.strip()
    if stripped == "null":
        return None
    if stripped.startswith(("[", "{")):
        try:
            return yaml.safe_load(stripped)
        except yaml.YAMLError as error:
            raise ConfigError(f"'{text}' is not valid YAML") from error
    return text
