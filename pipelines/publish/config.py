"""Settings of the publish stage."""

from typing import Annotated

from pydantic import Field

from pipelines.config import Config
from pipelines.encoder.quantise import VectorType

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=100)]
Column = Annotated[str, Field(pattern=r"^\w+(\.[^.\s]+)?$")]
Part = Annotated[str, Field(pattern=r"^(\w+|bucket\(\w+\)|(bucket|truncate)\(\w+, ?[1-9]\d*\))$")]


class PublishConfig(Config):
    """What a serving table holds, and how its files are made.

    Attributes:
        table: Its name; None makes one of the model, the dimension and the type, `serving_minilm_128_int8`.
        dim: Dimension of the vectors; None is the model's full one.
        type: `float32` (a list), or packed in bytes: `float16`, `int8` (with a column `scale`), `binary`.
        columns: Columns of `chunks` to copy beside chunk_id, doc_id and source: `text`, `ordinal`,
            `char_start`, `char_end`, `n_tokens`, `text_hash`, `metadata` (all of it), or `metadata.lang`
            for a column `lang` with that key's value.
        partition_by: Partition fields: a column, `bucket(column, N)` or `truncate(column, N)`;
            `bucket(doc_id)` has as many buckets as the lake. As they are by default, each partition follows
            one of the embeddings' own, and what is gone is found by reading its ids alone.
        sort_by: Columns that the rows of a file are sorted by.
        rotate: Whether vectors are rotated, before they are sliced, to where the corpus has its energy.
        refit_above: A rotation is fitted anew, and everything published again, where a new one would hold so
            much more of the vectors' energy in the table's dimension; 1 is never.
        file_mib: About how large a data file becomes, before compression.
        inline_rows: Up to so many rows to read are published by this process, without starting Spark.
    """

    table: Name | None = None
    dim: int | None = Field(default=None, ge=1)
    type: VectorType = "int8"
    columns: tuple[Column, ...] = ()
    partition_by: tuple[Part, ...] = ("source", "bucket(doc_id)")
    sort_by: tuple[str, ...] = ("doc_id",)
    rotate: bool = False
    refit_above: float = Field(default=0.02, gt=0, le=1)
    file_mib: int = Field(default=64, ge=1)
    inline_rows: int = Field(default=500_000, ge=0)

    def table_name(self, model: str, dim: int) -> str:
        """The table's name, of the model's own name where none is set."""
        plain = "".join(char if char.isalnum() else "_" for char in model)
        return self.table or f"serving_{plain}_{dim}_{self.type}"
