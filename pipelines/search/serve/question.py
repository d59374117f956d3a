"""What a request asks for, read from its parameters. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from pipelines.errors import ConfigError, InputError
from pipelines.lake.vector_source import EMBEDDINGS

MOST_HITS = 1000

_NAMES = ("q", "k", "dim", "source", "where", "table", "as_of", "funnel")
_SWITCH = {"1": True, "true": True, "on": True, "0": False, "false": False, "off": False}


@dataclass(frozen=True)
class Question:
    """A search that is asked for.

    Attributes:
        query: What to look for.
        k: Most hits.
        dim: Dimension to compare in; None is that of the vectors.
        source: Only this source.
        where: Only rows that match this filter.
        table: `embeddings`, or a serving table.
        as_of: A release's name or a snapshot's id; None is now.
        funnel: Shortlist first.
    """

    query: str
    k: int = 10
    dim: int | None = None
    source: str | None = None
    where: str | None = None
    table: str = EMBEDDINGS
    as_of: str | None = None
    funnel: bool = False


def read_question(parameters: Mapping[str, str]) -> Question:
    """The question of a request's parameters; an empty one counts as not given, as forms send them.

    Raises:
        ConfigError: A parameter is unknown, is no number where one is needed, or is out of its bounds.
    """
    for name in parameters:
        if name not in _NAMES:
            raise ConfigError(f"a search has no parameter '{name}'", f"It has {', '.join(_NAMES)}")
    given = {name: value for name, value in parameters.items() if value.strip()}
    switch = given.get("funnel", "0").strip().lower()
    if switch not in _SWITCH:
        raise ConfigError(f"funnel is '{given['funnel']}', and can only be on or off", "Use 1 or 0")
    return Question(
        query=given.get("q", ""),
        k=_number(given, "k", MOST_HITS) or Question.k,
        dim=_number(given, "dim"),
        source=given.get("source"),
        where=given.get("where"),
        table=given.get("table", EMBEDDINGS),
        as_of=given.get("as_of"),
        funnel=_SWITCH[switch],
    )


def read_document_name(parameters: Mapping[str, str]) -> tuple[str, str]:
    """The source and the doc_id that a request names.

    Raises:
        InputError: One of them is missing.
    """
    for name in ("source", "doc_id"):
        if not parameters.get(name):
            raise InputError(f"the document's {name} is missing", "Give doc_id and source, as a hit has them")
    return parameters["source"], parameters["doc_id"]


def _number(given: Mapping[str, str], name: str, most: int | None = None) -> int | None:
    if name not in given:
        return None
    text = given[name].strip()
    bounds = f"from 1 to {most:,}" if most else "of 1 or more"
    # Not `isdigit`, which takes digits of all scripts, nor as many as one likes.
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
    if number < 1 or (most is not None and number > most):
        raise ConfigError(f"{name} is '{text[:40]}'", f"Use a whole number {bounds}")
    return number
