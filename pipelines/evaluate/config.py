"""Settings of the evaluation."""

from typing import Annotated, Literal

from pydantic import Field

from pipelines.config import Config
from pipelines.evaluate.rank import KINDS, Kind

Gain = Literal["auto", "graded", "binary"]


class EvaluateConfig(Config):
    """What is evaluated, and how.

    Attributes:
        dims: Dimensions to slice to; None is the model's own.
        types: Types to store the vectors in.
        precision: Of the forward pass; `auto` is the model's own, as `embed` runs it. float32 is the default,
            so that a figure is the same on every machine.
        gain: What a judgement's score means. `graded`: the gain itself, none if negative. `binary`: 1 for
            every code but 0. `auto`: graded, unless a score is negative, which no grade is.
        title: Whether a document's title is put before its text.
        rotate: Whether the vectors are rotated to the corpus before slicing.
        shortlist: How many documents binary codes choose for `binary+rerank`.
        bm25_k1: Of the BM25 baseline; with `bm25_b` those of Anserini, and so of BEIR's published baselines.
        bm25_b: The same.
    """

    dims: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(default=None, min_length=1)
    types: tuple[Kind, ...] = Field(default=KINDS, min_length=1)
    precision: Literal["auto", "float32", "bfloat16"] = "float32"
    gain: Gain = "auto"
    title: bool = False
    rotate: bool = False
    shortlist: int = Field(default=100, ge=1)
    bm25_k1: float = Field(default=0.9, ge=0)
    bm25_b: float = Field(default=0.4, ge=0, le=1)
