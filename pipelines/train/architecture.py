"""Sizes of a nomic_bert, and what follows from them: parameters, arithmetic, memory."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from pipelines.config import Config
from pipelines.encoder.flops import Flops

Positive = Annotated[int, Field(ge=1)]


class Architecture(Config):
    """A nomic_bert: post-norm, SwiGLU, rotary positions on all of a head, no biases in matrices.

    Attributes:
        layers: Transformer layers.
        hidden: Dimension of a token's vector, and so of the model's.
        heads: Of attention.
        inner: Dimension inside the SwiGLU.
        vocabulary: Rows of the table of tokens; a multiple of 64 suits GPUs.
        positions: Tokens up to which it is trained.
        rope_theta: Base of the rotary frequencies.
    """

    layers: Positive
    hidden: Positive
    heads: Positive
    inner: Positive
    vocabulary: Positive = 30528
    positions: Positive = 2048
    rope_theta: float = Field(default=1000.0, gt=1)

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.hidden % self.heads or (self.hidden // self.heads) % 2:
            raise ValueError(f"hidden {self.hidden} gives {self.heads} heads no even dimension each")
        return self

    @property
    def parameters(self) -> int:
        """Trained numbers, without heads: tokens, two token types, and layers with two LayerNorms each."""
        norm = 2 * self.hidden
        layer = self._matrices() + 2 * norm
        return (self.vocabulary + 2) * self.hidden + norm + self.layers * layer

    def forward_flops(self) -> Flops:
        """Of a forward pass; backwards it is twice as many again."""
        return Flops(2 * self.layers * self._matrices(), 4 * self.layers * self.hidden)

    def _matrices(self) -> int:
        return 4 * self.hidden**2 + 3 * self.hidden * self.inner
