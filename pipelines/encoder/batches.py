"""Rows to batches of bounded size: sorted by length, so that a batch pads little."""
# ruff: noqa: N806  (array names carry their shape: ids_BL)

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pipelines.encoder.ragged import Ragged
from pipelines.errors import ConfigError

IntArray = npt.NDArray[np.integer]


def usual_batch_tokens(device: str) -> int:
    """Tokens of a forward pass where nobody has set them, by torch's name of a device.

    On CPUs so few that a unit of some hundred rows of mixed lengths has 3 % of padding or less: MiniLM, 375
    docstrings, 2 cores with AVX2 (2026-11-27): OpenVINO 5,956 tokens/s at 1,024 (padding 1.9 %), 5,437 at
    4,096 (7.2 %); torch 4,471 and 4,478. On GPUs enough to fill a large one, which was not measured.
    """
    return 1024 if device == "cpu" else 16_384


def token_budget_batches(
    lengths: Sequence[int] | IntArray, budget: int, *, same_length_above: int | None = None
) -> list[npt.NDArray[np.int64]]:
    """Splits rows into batches whose padded size stays within a budget.

    Args:
        lengths: Tokens of each row, none negative.
        budget: Most tokens of a batch, padding counted: rows x its longest row.
        same_length_above: Rows longer than this share a batch only with rows of exactly their length. None
            places no such limit.

    Returns:
        Row indices, batch by batch, longest rows first (too little memory then shows at once, not at the
        end); rows of one length keep their order. Every index is in exactly one batch. A row longer than the
        budget is alone in its batch.

    Raises:
        ConfigError: The budget is below 1.
    """
    if budget < 1:
        raise ConfigError(f"a batch must hold at least 1 token, not {budget}", "Raise batch_tokens")
    lengths_N = np.asarray(lengths, dtype=np.int64)
    order_N = np.argsort(-lengths_N, kind="stable")
    sorted_N = lengths_N[order_N]
    batches = []
    start = 0
    while start < len(order_N):
        longest = int(sorted_N[start])
        stop = start + max(1, budget // max(1, longest))
        if same_length_above is not None and longest > same_length_above:
            # The lengths descend, so negated they ascend, as searchsorted wants them.
            stop = min(stop, int(np.searchsorted(-sorted_N, -longest, side="right")))
        batches.append(order_N[start:stop])
        start = stop
    return batches


def pad(
    rows: Sequence[IntArray] | Ragged, pad_id: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Stacks rows of token ids, padded on the right.

    Args:
        rows: Ids of each row; at least one row.
        pad_id: Fills the places after a row's end.

    Returns:
        ids_BL int64 and mask_BL bool, True where a token is the row's own.
    """
    joined = Ragged.of(rows)
    lengths_B = joined.lengths_N
    mask_BL = np.arange(lengths_B.max()) < lengths_B[:, None]
    ids_BL = np.full(mask_BL.shape, pad_id, dtype=np.int64)
    ids_BL[mask_BL] = joined.values_T
    return ids_BL, mask_BL
