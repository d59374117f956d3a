"""transformers' own forward pass over padded rows: for every architecture, device and precision."""
# ruff: noqa: N806  (tensor names carry their shape: x_BLD)

from typing import Any

from torch import Tensor

from pipelines.encoder.backends.base import Batch, collate_padded, mean_pool
from pipelines.encoder.ragged import Ragged


class PaddedBackend:
    """A transformers model."""

    name = "torch"
    pads = True

    def __init__(self, model: Any) -> None:
        """Takes a model in evaluation mode, on the device that it shall run on."""
        self._model = model
        self._pad_id = int(getattr(model.config, "pad_token_id", None) or 0)

    def collate(self, rows: Ragged) -> Batch:
        """See `Backend`."""
        return collate_padded(rows, self._pad_id)

    def pool(self, batch: Batch) -> Tensor:
        """See `Backend`."""
        # Unmasked attention is faster, and rows of one length are common.
        mask = None if batch.even else batch.mask_BL.long()
        hidden_BLD = self._model(input_ids=batch.ids, attention_mask=mask).last_hidden_state
        return mean_pool(hidden_BLD, batch)
