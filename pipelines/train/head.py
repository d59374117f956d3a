"""A head fitted before the first step, on vectors that are there already.

MiniLM, 600 steps of 512 pairs of dictionaries and documentation, 50 s on two cores: MRR@10 of titles among
pages of the kernel's documentation at 128 / 64 / 32 dimensions, in percent of the full one's, was 92.5 / 80.6
/ 60.4 before and 95.5 / 88.1 / 68.7 after; the full one's own is kept (0.679, 0.681; 2026-11-28).
"""
# ruff: noqa: N803, N806  (tensor names carry their shape: x_ND)

from collections.abc import Callable, Iterable
from itertools import islice

import torch
from torch import Tensor, nn

from pipelines.train.objective import Known, Objective
from pipelines.train.pairs import PairBatch
from pipelines.train.recipe import HeadRecipe

_MOMENT_BATCHES = 32  # of which the second moment is taken; they are held in memory


def fit_head(
    head: nn.Linear, read: Callable[[], Iterable[PairBatch]], objective: Objective, recipe: HeadRecipe
) -> None:
    """Fits the head alone: first a rotation to the vectors' principal axes, then steps of the objective.

    The guide's vectors are normalised and the model's are not: to a linear map whose result is normalised
    that is the same.

    Args:
        head: Changed in place.
        read: Gives the batches of the run, with the guide's vectors, from the first on; called again where
            there are fewer than `fit_steps`.
        objective: Of the run.
        recipe: How.
    """
    device = head.weight.device
    first = islice(read(), min(_MOMENT_BATCHES, recipe.fit_steps))
    vectors = [_texts(batch, device)[0] for batch in first]
    if not vectors:
        return
    head.weight.data.copy_(principal_axes(torch.cat(vectors)) @ head.weight.data)
    del vectors
    optimiser = torch.optim.Adam(head.parameters(), lr=recipe.fit_peak)
    done = 0
    while done < recipe.fit_steps:
        for batch in islice(read(), recipe.fit_steps - done):
            for group in optimiser.param_groups:
                group["lr"] = recipe.fit_peak * (1 - done / recipe.fit_steps)
            x_TG, known = _texts(batch, device)
            y_TD = head(x_TG)
            n = len(known.query_N)
            found = objective.gradient(y_TD[:n], y_TD[n:], known, slice(0, n))
            optimiser.zero_grad()
            y_TD.backward(torch.cat((found.query_ND, found.candidate_CD)))
            optimiser.step()
            done += 1


def principal_axes(x_ND: Tensor) -> Tensor:
    """Eigenvectors of the second moment as rows, the largest first, x_DD: a rotation. Not centred.

    Centring would change similarities.
    """
    x_ND = x_ND.double()
    _, vectors_DD = torch.linalg.eigh(x_ND.T @ x_ND / len(x_ND))
    axes_DD: Tensor = vectors_DD.flip(1).T.float()
    return axes_DD


def _texts(batch: PairBatch, device: torch.device) -> tuple[Tensor, Known]:
    """The guide's vectors of queries, documents and negatives, and what is known of them."""
    sides = (batch.guide_query_nG, batch.guide_document_nG, batch.guide_negative_mG)
    vectors = []
    for side in sides:
        assert side is not None  # the recipe has a guide
        vectors.append(torch.from_numpy(side).to(device))
    query_hash, *hashes = (
        torch.from_numpy(side).to(device)
        for side in (batch.query_hash_n, batch.document_hash_n, batch.negative_hash_m)
    )
    query_NG, candidate_CG = vectors[0], torch.cat(vectors[1:])
    known = Known(query_hash, torch.cat(hashes), query_NG, candidate_CG)
    return torch.cat((query_NG, candidate_CG)), known
