"""Settings of the consistency filter and of hard negatives."""

from typing import Literal, Self

from pydantic import Field, model_validator

from pipelines.config import Config


class NegativesConfig(Config):
    """Which documents are hard negatives of a query.

    Attributes:
        k: Most of them.
        depth: So many of the nearest documents that are no positives are looked at; None is k.
        margin: Those with more than this share of the positive's score are left out as likely positives
            themselves (arXiv 2407.15831); None keeps them.
    """

    k: int = Field(default=20, ge=1)
    depth: int | None = Field(default=None, ge=1)
    margin: float | None = Field(default=0.95, gt=0)

    @model_validator(mode="after")
    def _deep_enough(self) -> Self:
        if self.depth is not None and self.depth < self.k:
            raise ValueError(f"depth is {self.depth}, less than k, {self.k}")
        return self


class MineConfig(Config):
    """What a teacher is asked of pairs.

    Attributes:
        teacher: Name of a file in `conf/models`, or the path of one.
        max_tokens: Where texts are cut for it, specials and prefix included.
        window: Pairs of a source that are ranked against each other, about.
        order: Windows are `sampled` from a source, all pairs of a query in one; or come as they were `read`.
        seed: Of the sample.
        top: A pair is kept if its document is among so many first for its query.
        negatives: Of `embedlake mine`.
    """

    teacher: str = "minilm"
    max_tokens: int = Field(default=512, ge=8)
    window: int = Field(default=1_000_000, ge=2)
    order: Literal["sampled", "read"] = "sampled"
    seed: int = Field(default=0, ge=0)
    top: int = Field(default=2, ge=1)
    negatives: NegativesConfig = NegativesConfig()
