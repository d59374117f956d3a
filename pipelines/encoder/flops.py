"""How much arithmetic a forward pass is, from a checkpoint's files alone. No torch."""

from dataclasses import dataclass
from math import prod
from pathlib import Path

from pipelines.encoder.checkpoint import read_config, tensor_shapes
from pipelines.encoder.conf import CONFIG_FILE, WEIGHTS_FILE

_NO_MATRIX = ("embed", "pooler", "cls.", "lm_head", "classifier")


@dataclass(frozen=True)
class Flops:
    """Floating-point operations of a forward pass; a multiplication and an addition are two.

    Attributes:
        per_token: Of the matrices that each token goes through.
        per_pair: Of attention, for each token and each token of its row.
    """

    per_token: int
    per_pair: int

    def of(self, tokens: int, squares: int) -> int:
        """Of many rows.

        Args:
            tokens: Sum of the rows' lengths.
            squares: Sum of the squares of the rows' lengths.
        """
        return self.per_token * tokens + self.per_pair * squares


def forward_flops(folder: Path) -> Flops:
    """What the encoder of a checkpoint costs.

    Embeddings are looked up and heads are left out, as `pipelines.encoder.loading` leaves them out.
    """
    matrices = [
        prod(shape)
        for name, shape in tensor_shapes(folder / WEIGHTS_FILE).items()
        if len(shape) == 2 and not any(part in name for part in _NO_MATRIX)
    ]
    config = read_config(folder / CONFIG_FILE)
    layers = int(config.get("num_hidden_layers") or config.get("n_layer") or 0)
    hidden = int(config.get("hidden_size") or config.get("n_embd") or 0)
    # Scores and their weighted sum: 2 x hidden operations each, for a token and a token of its row.
    return Flops(2 * sum(matrices), 4 * layers * hidden)
