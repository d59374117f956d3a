"""How a fault is told over HTTP: a status, and what is wrong and how to mend it, without secrets. Pure."""

from http import HTTPStatus

from pipelines.errors import (
    CatalogError,
    ConfigError,
    EmbedlakeError,
    EnvironmentFault,
    InputError,
    StorageError,
)
from pipelines.redact import redact

_ASKED_WRONGLY = (ConfigError, InputError)
_AWAY = (CatalogError, StorageError, EnvironmentFault)


class UnknownDocumentError(InputError):
    """The lake has no such document, or keeps no text of it."""


def told(error: Exception) -> tuple[int, dict[str, str]]:
    """The status and the body for a fault.

    Of one that is no domain error only the kind is told: its words are for the server's own log.
    """
    if not isinstance(error, EmbedlakeError):
        return HTTPStatus.INTERNAL_SERVER_ERROR, {
            "error": f"unexpected {type(error).__name__}",
            "hint": "See what 'embedlake serve' prints",
        }
    body = {"error": redact(error.message), "hint": redact(error.hint)}
    if isinstance(error, UnknownDocumentError):
        return HTTPStatus.NOT_FOUND, body
    if isinstance(error, _ASKED_WRONGLY):
        return HTTPStatus.BAD_REQUEST, body
    if isinstance(error, _AWAY):
        return HTTPStatus.SERVICE_UNAVAILABLE, body
    return HTTPStatus.INTERNAL_SERVER_ERROR, body
