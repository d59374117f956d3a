"""Where pairs come from, and which are left out."""

import re
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from pipelines.config import Config
from pipelines.dedup.config import NearConfig

Objective = Literal["search", "clustering", "classification"]
# The prefixes of nomic-embed-text's objectives (arXiv 2402.01613, section 3.2).
PREFIXES: dict[str, tuple[str, str]] = {
    "search": ("search_query", "search_document"),
    "clustering": ("clustering", "clustering"),
    "classification": ("classification", "classification"),
}
_COLUMN = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)?")


class PairSourceConfig(Config):
    """One source of pairs: two columns of a table.

    Attributes:
        name: The `source` of its pairs.
        table: `documents` of this lake, or any Iceberg table of its catalogue as `namespace.table`.
        where: Condition in SQL on the table's rows; None takes all (of `documents`, all that are kept).
        query: Column of the short side, such as a title or a question; `metadata.title` is a key of a map.
        document: Column of the long side, such as a body or an answer.
        part: Column of what a split must not tear apart, such as the package that a text is from.
        objective: Decides the prefixes where they are not given.
        query_prefix: Before each query, without `: `.
        document_prefix: Before each document.
        order: Column that the source is read in the order of, beside what the table says itself.
    """

    name: str = Field(min_length=1, max_length=100)
    table: str = "documents"
    where: str | None = None
    query: str
    document: str
    part: str | None = None
    objective: Objective = "search"
    query_prefix: str | None = None
    document_prefix: str | None = None
    order: str | None = None

    @field_validator("query", "document", "part", "order")
    @classmethod
    def _is_column(cls, value: str | None) -> str | None:
        if value is not None and not _COLUMN.fullmatch(value):
            raise ValueError(f"'{value}' is no column: NAME, or NAME.KEY of a map or struct")
        return value

    @property
    def prefixes(self) -> tuple[str, str]:
        """Of query and document."""
        query, document = PREFIXES[self.objective]
        return (
            query if self.query_prefix is None else self.query_prefix,
            document if self.document_prefix is None else self.document_prefix,
        )


class OverlapConfig(Config):
    """When a pair gives an evaluation query away.

    Attributes:
        queries: Files of evaluation queries: JSON lines with `text`, or a query a line.
        words: A pair is contaminated if either side holds so many words in a row of a query; of a query with
            fewer words, if either side is that query.
        labelled_by: Models that the evaluation sets' judgements or queries came from, by their names in
            `conf/models` or on their hub. One that is asked to judge pairs, or to guide, is warned of: what
            it teaches is what its pupil is judged by.
    """

    queries: tuple[Path, ...] = ()
    words: int = Field(default=8, ge=1)
    labelled_by: tuple[str, ...] = ()


class PairsConfig(Config):
    """A run of `embedlake pairs`.

    Attributes:
        sources: Where pairs come from.
        least_chars: A side with fewer characters is rejected.
        most_per_query: A query text with more different documents is rejected, as `Untitled` would be.
        near: Which pairs, as query and document together, are near duplicates within their source.
        overlap: With evaluation queries.
        held_out: Share of the parts (of the pairs, where a source names no part) that is kept from training,
            to judge by.
        seed: Which parts are held out.
    """

    sources: tuple[PairSourceConfig, ...] = Field(min_length=1)
    least_chars: int = Field(default=3, ge=1)
    most_per_query: int = Field(default=100, ge=1)
    near: NearConfig = NearConfig()
    overlap: OverlapConfig = OverlapConfig()
    held_out: float = Field(default=0.0, ge=0, lt=1)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _named_once(self) -> Self:
        names = [source.name for source in self.sources]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"source '{twice[0]}' is given twice")
        return self
