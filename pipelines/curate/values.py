"""Values as an input gives them, of any type, as strings that can be kept."""

import json
from typing import Any

from pipelines.text import normalise

_EXCERPT_CHARS = 200


def string_of(value: Any) -> str | None:
    """A key as a string; None where it is null, or bytes that are not UTF-8."""
    if value is None or (isinstance(value, float) and value != value):
        return None
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return None
    text = value if isinstance(value, str) else str(value)
    return text if encodes(text) else None


def encodes(text: str) -> bool:
    """Whether `text` has a UTF-8 form: JSON can spell an unpaired surrogate, which has none."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def strings_of(metadata: dict[str, Any] | None) -> dict[str, str | None]:
    """Metadata with its values as strings; of nested ones, as JSON."""
    return {_utf8(name): _metadata_value(value) for name, value in (metadata or {}).items()}


def _utf8(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def _metadata_value(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, dict | list | tuple):
        return _utf8(json.dumps(value, ensure_ascii=False, default=str))
    return _utf8(str(value))


def excerpt_of(text: Any) -> str | None:
    """The first 200 characters of what should have been a text, normalised; None of null."""
    if text is None:
        return None
    shown = text[: 4 * _EXCERPT_CHARS].decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
    return normalise(shown[: 2 * _EXCERPT_CHARS].encode("utf-8", "replace").decode("utf-8"))[:_EXCERPT_CHARS]
