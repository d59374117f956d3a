"""The settings that a lake was curated with: recorded with the first run, and kept to by all others."""

import json

from pipelines.curate.config import CurateConfig
from pipelines.curate.rules.boilerplate import BoilerplateConfig
from pipelines.errors import ConfigError
from pipelines.lake import Lake
from pipelines.lake.tables import CHUNKING_PROPERTY, CURATION_PROPERTY, LINES_PROPERTY

# Of words, shingles and hash functions: another form of these makes other signatures of the same text.
_SIGNATURES = 1
REBUILDING = "a rebuild that has not ended"
_HINT = (
    "Set them as they were, or judge and cut all documents anew by 'embedlake curate --rebuild', or use "
    "another namespace (--set lake.namespace=NAME)"
)


def curation_settings(config: CurateConfig) -> str:
    """What decides who is a duplicate of whom, as JSON."""
    near = config.near.model_dump(exclude={"driver_nodes"}) if config.near.enabled else {"enabled": False}
    return json.dumps(
        {"signatures": _SIGNATURES, "near": near, "source_priority": list(config.source_priority)},
        sort_keys=True,
    )


def chunking_settings(config: CurateConfig) -> str:
    """What decides where documents are cut, as JSON."""
    return json.dumps(config.chunk.model_dump(), sort_keys=True)


def bind_settings(lake: Lake, config: CurateConfig) -> None:
    """Records the settings, or checks that they are the recorded ones.

    Raises:
        ConfigError: The signatures or the chunks were made with others.
    """
    for table, key, value, what in _bound(config):
        recorded = lake.bound(table, key, value)
        if recorded != value and lake.table("documents").current_snapshot() is None:
            recorded = lake.set_property(table, key, value)  # nothing was made with them yet
        _check(recorded, value, what)


def check_settings(lake: Lake, config: CurateConfig) -> None:
    """Checks that the lake still has the settings that were bound; sets none.

    Raises:
        ConfigError: Another run has bound others meanwhile, or a rebuild has begun.
    """
    for table, key, value, what in _bound(config):
        _check(lake.table(table).properties.get(key, value), value, what)


def _bound(config: CurateConfig) -> tuple[tuple[str, str, str, str], ...]:
    """Of each kind of settings: the table and property that hold it, its value, what is made with it."""
    return (
        ("documents", CURATION_PROPERTY, curation_settings(config), "signatures and duplicates"),
        ("chunks", CHUNKING_PROPERTY, chunking_settings(config), "chunks"),
    )


def _check(recorded: str, value: str, what: str) -> None:
    if recorded != value:
        raise ConfigError(
            f"the lake's {what} were made with other settings ({_differing(recorded, value)})", _HINT
        )


def record_settings(lake: Lake, config: CurateConfig) -> None:
    """Records the settings that everything in the lake has just been made with."""
    lake.set_property("chunks", CHUNKING_PROPERTY, chunking_settings(config))
    lake.set_property("documents", CURATION_PROPERTY, curation_settings(config))


def check_line_settings(lake: Lake, config: BoilerplateConfig) -> None:
    """Checks that lines get the keys that they were learnt with, where any were.

    Raises:
        ConfigError: They do not.
    """
    recorded = lake.table("boilerplate").properties.get(LINES_PROPERTY)
    _check_lines(recorded or _line_settings(config), config)


def bind_line_settings(lake: Lake, config: BoilerplateConfig) -> None:
    """Records how lines get their keys, before the first are written; or checks it, as above.

    Not with the run's start, as other settings: most runs learn nothing, and would bind those that do. Of two
    that learn at once, the first decides.
    """
    _check_lines(lake.bound("boilerplate", LINES_PROPERTY, _line_settings(config)), config)


def _line_settings(config: BoilerplateConfig) -> str:
    return json.dumps({"min_chars": config.min_chars})


def _check_lines(recorded: str, config: BoilerplateConfig) -> None:
    value = _line_settings(config)
    if recorded != value:
        then = json.loads(recorded)["min_chars"]
        raise ConfigError(
            f"the lake's boilerplate lines were learnt with other settings ({_differing(recorded, value)})",
            f"Set curate.boilerplate.min_chars to {then}, or use another namespace "
            "(--set lake.namespace=NAME)",
        )


def _differing(recorded: str, wanted: str) -> str:
    """The settings that differ, in words."""
    if recorded == REBUILDING:
        return recorded
    old, new = _flat(json.loads(recorded)), _flat(json.loads(wanted))
    names = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    return ", ".join(f"{name}: {old.get(name)} then, {new.get(name)} now" for name in names)


def _flat(value: dict[str, object], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, one in value.items():
        flat |= _flat(one, f"{prefix}{name}.") if isinstance(one, dict) else {prefix + name: one}
    return flat
