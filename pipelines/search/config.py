"""Settings of the search stage."""

from typing import Literal

from pydantic import Field

from pipelines.config import Config


class SearchConfig(Config):
    """How vectors are looked through. None of it changes an exact result.

    Attributes:
        workers: Ray tasks or actors that share the vectors; 0 searches in this process.
        funnel: What the shortlist of a funnel is made by: `prefix`, the first `funnel_dim` dimensions, or
            `binary`, the signs of all.
        funnel_dim: Dimensions of the shortlist's vectors.
        funnel_rotate: Whether those are rotated first, to where the vectors in memory have their energy. Not
            where the table was published rotated: its first dimensions are those already.
        shortlist: Vectors that are compared in full for a query. Of a million by MiniLM 3,000 held 0.987 of
            the exact ten best, and 500 held 0.944 (RESULTS.md, "Search").
        index_codes: How an index keeps vectors: `fp16`, or `int8` in half the bytes.
        index_probes: Lists of an index that a query looks into, of about 4 x sqrt(rows).
        index_min_rows: Partitions with fewer rows get no index: all of them are looked at.
        host: Interface that `serve` listens on.
        port: Its port.
    """

    workers: int = Field(default=0, ge=0)
    funnel: Literal["prefix", "binary"] = "prefix"
    funnel_dim: int = Field(default=64, ge=8)
    funnel_rotate: bool = True
    shortlist: int = Field(default=3_000, ge=1)
    index_codes: Literal["fp16", "int8"] = "fp16"
    index_probes: int = Field(default=32, ge=1)
    index_min_rows: int = Field(default=5_000, ge=100)
    host: str = "127.0.0.1"
    port: int = Field(default=8765, ge=1, le=65535)
