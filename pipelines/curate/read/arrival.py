"""When a document came: read from whatever the corpus holds."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

Moment = datetime  # with a time zone, to the microsecond

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Numbers this large are milliseconds or microseconds: in seconds they would lie after the year 5138.
_MILLIS, _MICROS = 1e11, 1e14


def moment(value: Any) -> tuple[Moment | None, str | None]:
    """The moment that `value` tells, or what is wrong with it; both None where there is no value.

    Takes timestamps, dates, ISO 8601 strings (UTC where they name no zone), and numbers of seconds,
    milliseconds or microseconds since 1970.
    """
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if value is None or value != value or (isinstance(value, str) and not value.strip()):
        return None, None
    try:
        return _moment(value), None
    except (ValueError, OverflowError):
        return None, f"'{str(value)[:100]}' is not a time"


def _moment(value: Any) -> Moment:
    if isinstance(value, str):
        text = value.strip()
        # Eight digits are a date (20260131), more are seconds.
        is_number = text.lstrip("+-").replace(".", "", 1).isdigit() and len(text) > 8
        value = float(text) if is_number else datetime.fromisoformat(text)
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError
    unit = 1e6 if abs(value) < _MILLIS else 1e3 if abs(value) < _MICROS else 1
    return _EPOCH + timedelta(microseconds=round(value * unit))
