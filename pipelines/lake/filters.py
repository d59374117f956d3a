"""Row filters that prune partitions and files, in words that mypy understands."""

from collections.abc import Iterable

from pyiceberg.expressions import And, BooleanExpression, EqualTo, In, StartsWith, parser
from pyiceberg.expressions.visitors import bind
from pyiceberg.table import Table
from pyparsing import ParseException

from pipelines.errors import ConfigError

# pyiceberg 0.12 declares these as pydantic models with aliased fields, so the constructors that it documents
# look wrong to mypy: the one place to say so.


def equals(column: str, value: str) -> BooleanExpression:
    """Rows whose column is the value."""
    return EqualTo(column, value)  # type: ignore[call-arg, arg-type]


def starts_with(column: str, prefix: str) -> BooleanExpression:
    """Rows whose column starts with the prefix."""
    return StartsWith(column, prefix)  # type: ignore[call-arg, arg-type]


def is_one_of(column: str, values: Iterable[str]) -> BooleanExpression:
    """Rows whose column is one of the values."""
    return In(column, set(values))  # type: ignore[call-arg, arg-type]


def all_of(first: BooleanExpression, *others: BooleanExpression) -> BooleanExpression:
    """Rows that match every filter."""
    for other in others:
        first = And(first, other)
    return first


def parsed_filter(table: Table, where: str) -> BooleanExpression:
    """A filter in words, that fits the table's columns.

    Raises:
        ConfigError: It cannot be read, or names a column that is not there.
    """
    try:
        expression: BooleanExpression = parser.parse(where)
        bind(table.schema(), expression, case_sensitive=True)
    except (ParseException, ValueError, TypeError, RecursionError) as error:
        raise ConfigError(
            f"the filter '{where}' cannot be used: {_reason(error)}",
            "Compare columns with constants, such as source = 'wiki'. The table has "
            + ", ".join(field.name for field in table.schema().fields),
        ) from error
    return expression


def _reason(error: Exception) -> str:
    if isinstance(error, ParseException):  # whose own words are the parser's grammar
        return "it is not a comparison, or several"
    return " ".join(str(error).removesuffix(", case_sensitive=True").split())[:200]
