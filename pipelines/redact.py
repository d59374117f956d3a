"""Keeps secrets out of everything that is printed: logs, plans, tables, errors."""

import logging
import os
import re

# Names of environment variables that hold a secret; those of places and of token counts do not.
_SECRET_NAME = re.compile(
    r"secret|passw(?:or)?d|token(?!i[sz]|s(?:_|$))|credential|(?:access|api|private)_?key", re.IGNORECASE
)
_PLACE_NAME = re.compile(r"_(?:file|path|dir|home|uri|url|endpoint|credentials)$", re.IGNORECASE)

_VALUE = r"(?:(?<=\")[^\"<\[{(][^\"]{3,}|(?<=')[^'<\[{(][^']{3,}|[^\s'\",;&)}<\[{(][^\s'\",;&)}]{3,})"
_NOTHING = r"(?!(?:none|null|true|false|client-id:secret)(?![\w:/+=-]|\.\w))"
_COUNT = r"(?!\d[\d._]*(?![\w:/+=-]))"
# A value that no word of a sentence looks like: with a digit, or long.
_OPAQUE = r"(?:(?=[a-z._~+/:=-]*\d)[\w.~+/:=-]{8,}|[\w.~+/:=-]{20,})"
_PATTERNS = (
    (re.compile(r"(?<![A-Z0-9])(AKIA|ASIA)[A-Z0-9]{16}(?![A-Z0-9])"), "***"),
    (re.compile(r"(://)[^/\s:@]*:[^/\s]+@"), r"\1***@"),
    # `s3.secret-access-key=…`, `password: …`
    (
        re.compile(
            r"(?i)((?:secret|password|passwd|(?:access|api|private)[._-]?key)[\w.-]{0,40}['\"]?\s*[=:]\s*['\"]?)"
            rf"{_NOTHING}{_VALUE}"
        ),
        r"\1***",
    ),
    # `token=…`, `"credential": "…"`; not `n_tokens=512`, `tokenizer: …`, `credentials.provider=…`
    (
        re.compile(
            rf"(?i)((?:token|credentials?)(?:['\"]?\s*=\s*['\"]?|['\"]\s*:\s*['\"])){_NOTHING}{_COUNT}{_VALUE}"
        ),
        r"\1***",
    ),
    # `token: …`, where prose goes on in words: `unexpected token: comma`
    (re.compile(rf"(?i)((?:token|credentials?)\s*:\s*){_NOTHING}{_COUNT}{_OPAQUE}"), r"\1***"),
    (re.compile(r"(?i)(\bauthorization['\"]?\s*[:=]\s*['\"]?(?:bearer|basic)\s+)[^\s'\",]+"), r"\1***"),
    # `Bearer eyJh…`; not `basic authentication`
    (
        re.compile(r"(?i)\b((?:bearer|basic)\s+)(?:(?=[a-z._~+/-]*[\d=])[\w.~+/=-]{8,}|[\w.~+/=-]{20,})"),
        r"\1***",
    ),
    (re.compile(r"(?i)(x-amz-(?:signature|credential|security-token)=)[^&\s'\"]+"), r"\1***"),
    (re.compile(r"(?i)\b(signature=)[\w%+/=-]{16,}"), r"\1***"),
)


def redact(text: str) -> str:
    """`text` without credentials: the environment's secret values, and whatever looks like one."""
    for value in _environment_secrets():
        text = text.replace(value, "***")
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def _environment_secrets() -> list[str]:
    """The longest first: of two values one may be part of the other."""
    secrets = set()
    for name, value in os.environ.items():
        if _SECRET_NAME.search(name) and not (_PLACE_NAME.search(name) and _is_place(value)):
            secrets.add(value)
            client, _, secret = value.partition(":")  # `client-id:secret`
            secrets.add(secret)
            if any(letter.isdigit() for letter in client):  # else it is a name such as `embedlake`
                secrets.add(client)
    return sorted((secret for secret in secrets if len(secret) >= 6), key=len, reverse=True)


def _is_place(value: str) -> bool:
    return value.startswith(("/", "http://", "https://", "~", "."))


class RedactingFilter(logging.Filter):
    """A logging filter that rewrites each record's message through `redact`."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Redacts the record in place; never drops one."""
        try:
            message = record.getMessage()
        except Exception:  # a library's wrong call of its logger, which logging itself forgives too
            message = f"{record.msg} {record.args}"
        record.msg = redact(message)
        record.args = None
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = redact(record.exc_text)
        if record.stack_info:
            record.stack_info = redact(record.stack_info)
        return True
