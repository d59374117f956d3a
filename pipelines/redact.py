"""Keeps secrets out of everything that is printed: logs, plans, tables, errors."""

import logging
import os
import re

_SECRET_NAME = re.compile(r"secret|password|passwd|token|credential|access_?key", re.IGNORECASE)
_PATTERNS = (
    (re.compile(r"(?<![A-Z0-9])(AKIA|ASIA)[A-Z0-9]{16}(?![A-Z0-9])"), "***"),
    (re.compile(r"(://)[^/\s:@]+:[^/\s@]+@"), r"\1***@"),
    (
        re.compile(
            r"(?i)((?:secret|password|token|credential|access[._-]?key(?:[._-]?id)?)[\w.-]*['\"]?\s*[=:]\s*['\"]?)"
            r"(?!None\b|null\b)[^\s'\",;&)}]{4,}"
        ),
        r"\1***",
    ),
    (re.compile(r"(?i)\b(bearer|basic)\s+[a-z0-9._~+/=-]{8,}"), r"\1 ***"),
    (re.compile(r"(?i)(x-amz-(?:signature|credential|security-token)=)[^&\s]+"), r"\1***"),
)


def redact(text: str) -> str:
    """`text` without credentials: the environment's secret values, and whatever looks like one."""
    for name, value in os.environ.items():
        if _SECRET_NAME.search(name) and len(value) >= 6 and not value.startswith(("/", "http")):
            text = text.replace(value, "***")
            for part in value.split(":"):  # `client-id:secret`
                if len(part) >= 6:
                    text = text.replace(part, "***")
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


class RedactingFilter(logging.Filter):
    """A logging filter that rewrites each record's message through `redact`."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Redacts the record in place; never drops one."""
        record.msg = redact(record.getMessage())
        record.args = None
        if record.exc_info and not record.exc_text:
            record.exc_text = redact(logging.Formatter().formatException(record.exc_info))
        return True
