"""The contrastive step on batches of any size (GradCache, arXiv 2101.06983).

Vectors first, without a graph; the loss and its gradient with respect to them; then the forward pass once
more, micro-batch by micro-batch, and backwards from that gradient. Memory is that of a micro-batch. Every
text of the batch, hard negatives too, is a row of one list that is cut by length, so none can be taken for
another's.

What fits is not computed twice: up to `keep_tokens` tokens hold on to their graphs.
"""
# ruff: noqa: N803, N806  (tensor names carry their shape: x_ND)

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipelines.encoder.batches import token_budget_batches
from pipelines.encoder.ragged import Ragged
from pipelines.train.config import Micro
from pipelines.train.objective import Known, Objective
from pipelines.train.pairs import PairBatch
from pipelines.train.workers import Workers


class Tower(Protocol):
    """The model under training; queries and documents go through the same."""

    device: torch.device
    dimension: int

    def pool(self, rows: Ragged, seed: int) -> Tensor:
        """Mean of each row's token vectors, x_BD float32.

        The same rows and seed give the same vectors, dropout included.
        """


def contrastive_step(
    tower: Tower, batch: PairBatch, objective: Objective, workers: Workers, micro: Micro, seed: int
) -> Tensor:
    """Adds this worker's share of the gradient of the batch's loss to the parameters.

    The sum over the workers of what is added is the gradient of the loss of the whole batch, as if one had
    computed it at once: whoever calls this adds them up.

    Args:
        tower: The model.
        batch: This worker's pairs; the others may have more or fewer.
        objective: The loss.
        workers: Who has the rest of the batch.
        micro: How the batch is cut.
        seed: Of dropout in this step.

    Returns:
        loss_K float32, this worker's share at each of the objective's dimensions.
    """
    rows = batch.rows
    pieces = token_budget_batches(rows.lengths_N, micro.batch_tokens)
    kept = _kept(rows, pieces, micro.keep_tokens)
    pooled: list[Tensor] = []
    for number, piece in enumerate(pieces):
        with torch.set_grad_enabled(number in kept):
            pooled.append(tower.pool(rows.take(piece), _mixed(seed, number)))
    pooled_RD = torch.empty((len(rows), tower.dimension), device=tower.device)
    for piece, vectors_BD in zip(pieces, pooled, strict=True):
        pooled_RD[torch.from_numpy(piece).to(tower.device)] = vectors_BD.detach()
    gradient_RD, loss_K = _loss(pooled_RD, batch, objective, workers)
    for number in (*kept, *(number for number in range(len(pieces)) if number not in kept)):
        vectors_BD = pooled[number]
        if number not in kept:
            vectors_BD = tower.pool(rows.take(pieces[number]), _mixed(seed, number))
        vectors_BD.backward(gradient_RD[torch.from_numpy(pieces[number]).to(tower.device)])  # type: ignore[no-untyped-call]  # torch leaves it untyped
        pooled[number] = vectors_BD.detach()  # lets go of its graph
    return loss_K


def _loss(
    pooled_RD: Tensor, batch: PairBatch, objective: Objective, workers: Workers
) -> tuple[Tensor, Tensor]:
    """The gradient with respect to this worker's vectors, and its share of the loss."""
    n, device = len(batch.queries), pooled_RD.device

    def gathered(array: npt.NDArray[np.generic] | None) -> Tensor | None:
        return None if array is None else workers.gathered(torch.from_numpy(array).to(device))[0]

    query_ND, own = workers.gathered(pooled_RD[:n])
    document_ND, _ = workers.gathered(pooled_RD[n : 2 * n])
    negative_MD, own_negatives = workers.gathered(pooled_RD[2 * n :])
    query_hash, document_hash, negative_hash = (
        gathered(array) for array in (batch.query_hash_n, batch.document_hash_n, batch.negative_hash_m)
    )
    guides = [
        gathered(array) for array in (batch.guide_query_nG, batch.guide_document_nG, batch.guide_negative_mG)
    ]
    assert query_hash is not None
    known = Known(query_hash, _joined(document_hash, negative_hash), guides[0], _maybe_joined(*guides[1:]))
    found = objective.gradient(query_ND, torch.cat((document_ND, negative_MD)), known, own)
    # Each worker's anchors pull at everybody's vectors.
    workers.sum_((found.query_ND, found.candidate_CD))
    documents_ND, negatives_MD = torch.split(found.candidate_CD, [len(query_ND), len(negative_MD)])
    return torch.cat((found.query_ND[own], documents_ND[own], negatives_MD[own_negatives])), found.loss_K


def _kept(rows: Ragged, pieces: Sequence[npt.NDArray[np.int64]], keep_tokens: int) -> list[int]:
    """Numbers of the pieces whose graphs are kept: the last ones, which are of the shortest rows."""
    kept: list[int] = []
    for number in reversed(range(len(pieces))):
        lengths = rows.lengths_N[pieces[number]]
        keep_tokens -= int(lengths.max()) * len(lengths)
        if keep_tokens < 0:
            break
        kept.append(number)
    return kept


def _mixed(seed: int, number: int) -> int:
    """A seed of its own for a piece of a step."""
    return int(np.random.SeedSequence((seed, number)).generate_state(1, np.uint64)[0] >> 1)


def _joined(first: Tensor | None, second: Tensor | None) -> Tensor:
    assert first is not None
    assert second is not None
    return torch.cat((first, second))


def _maybe_joined(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    return None if first is None else _joined(first, second)
