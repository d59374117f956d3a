"""Settings of the curate stage."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from pipelines.config import Config


class ColumnsConfig(Config):
    """Which columns of the input hold what. Text files need none: the id is the path, the text the content.

    Attributes:
        id: The document's id.
        text: Its text.
        source: The part of the corpus that it comes from; where the column is absent or null, `source` of
            `CurateConfig` is taken.
        metadata: Further columns to keep, as strings; None keeps all.
    """

    id: str = "doc_id"
    text: str = "text"
    source: str | None = "source"
    metadata: tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _distinct(self) -> "ColumnsConfig":
        if self.id == self.text:
            raise ValueError(f"id and text cannot both be the column '{self.id}'")
        return self


class ChunkConfig(Config):
    """How documents are cut.

    Attributes:
        max_tokens: Of a chunk, as the model sees it: special tokens and the document prefix included.
        overlap_tokens: Tokens that a chunk repeats of the one before.
        min_tokens: A document's last chunk is not shorter than this; the cut before it moves back.
    """

    max_tokens: int = Field(default=256, ge=8)
    overlap_tokens: int = Field(default=0, ge=0)
    min_tokens: int = Field(default=16, ge=1)

    @model_validator(mode="after")
    def _fits(self) -> "ChunkConfig":
        if self.overlap_tokens + self.min_tokens > self.max_tokens // 2:
            raise ValueError("overlap_tokens + min_tokens must be at most half of max_tokens")
        return self


class CurateConfig(Config):
    """Settings of a curate run.

    Attributes:
        format: Of the input files; `auto` goes by their names' endings.
        columns: Which columns hold what.
        source: Of documents without one; None is the name of the input folder or file.
        source_priority: Of two equal documents, the one whose source stands earlier here is kept; sources
            not named come last. Then the smaller id.
        split_bytes: Input bytes of one Spark task; larger Parquet and plain JSONL files are split.
        chunk: How documents are cut.
    """

    format: Literal["auto", "parquet", "jsonl", "text"] = "auto"
    columns: ColumnsConfig = ColumnsConfig()
    source: str | None = None
    source_priority: tuple[str, ...] = ()
    split_bytes: int = Field(default=32 * 1024 * 1024, ge=64 * 1024)
    chunk: ChunkConfig = ChunkConfig()

    @field_validator("source")
    @classmethod
    def _named(cls, value: str | None) -> str | None:
        if value is not None and not value.strip():
            raise ValueError("a source needs a name")
        return value
