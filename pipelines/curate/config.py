"""Settings of the curate stage."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from pipelines.config import Config
from pipelines.curate.rules.boilerplate import BoilerplateConfig
from pipelines.curate.rules.language import LanguageConfig
from pipelines.curate.rules.quality_config import QualityConfig
from pipelines.dedup.config import NearConfig


class ColumnsConfig(Config):
    """Which columns of the input hold what.

    Text and WARC files need none: the id is the path, or the record's WARC-Record-ID. A partition folder
    (`lang=en/`) is a column too. A column of source, arrival or metadata that is set here must be in every
    file (of JSONL in its first 100 lines); where it is not set it may be absent. Ids are strings: 7 and
    "007" are two.

    Attributes:
        id: The document's id.
        text: Its text.
        source: The part of the corpus that it comes from; where the column is absent or null, `source` of
            `CurateConfig` is taken.
        arrival: When it came: a timestamp, an ISO 8601 string, or seconds since 1970. Of documents that
            resemble each other the older one is kept, and of two texts with one id the newer. Where the
            column is absent or null, the run's own time.
        metadata: Further columns to keep, as strings; None keeps all.
    """

    id: str = "doc_id"
    text: str = "text"
    source: str | None = "source"
    arrival: str | None = "arrived_at"
    metadata: tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _distinct(self) -> "ColumnsConfig":
        named = [name for name in (self.id, self.text, self.source, self.arrival) if name is not None]
        for name in named:
            if named.count(name) > 1:
                raise ValueError(f"the column '{name}' cannot be two of id, text, source and arrival")
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
        source_priority: Of documents that resemble each other, the one whose source stands earlier here is
            kept; sources not named come last. Then the older, then the longer, then the smaller id.
        split_bytes: Input bytes of one Spark task at most; larger Parquet and plain JSONL files are split.
        near: Which documents are near duplicates.
        quality: Which texts are rejected for what they are made of. Asked of what a run reads: a document
            that the lake has stays.
        language: Which languages are kept.
        boilerplate: Which lines are dropped for being in many documents of their source; None drops none.
            `{}` for the defaults.
        chunk: How documents are cut.
    """

    format: Literal["auto", "parquet", "jsonl", "csv", "tsv", "warc", "text"] = "auto"
    columns: ColumnsConfig = ColumnsConfig()
    source: str | None = None
    source_priority: tuple[str, ...] = ()
    split_bytes: int = Field(default=32 * 1024 * 1024, ge=64 * 1024)
    near: NearConfig = NearConfig()
    quality: QualityConfig = QualityConfig()
    language: LanguageConfig = LanguageConfig()
    boilerplate: BoilerplateConfig | None = None
    chunk: ChunkConfig = ChunkConfig()

    @field_validator("source")
    @classmethod
    def _named(cls, value: str | None) -> str | None:
        if value is not None and not value.strip():
            raise ValueError("a source needs a name")
        return value
