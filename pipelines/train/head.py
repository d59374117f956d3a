"""A head fitted before the first step, on vectors that are there already.

MiniLM, 600 steps of 512 pairs of dictionaries and documentation, 50 s on two cores: MRR@10 of titles among
pages of the kernel's documentation at 128 / 64 / 32 dimensions, in percent of the full one's, was 92.5 / 80.6
/ 60.4 before and 95.5 / 88.1 / 68.7 after; the full one's own is kept (0.679, 0.681; 2026-11-28).
"""
# ruff: noqa: N803, N806  (tensor names carry their shape: x_ND)

from collections.abc import Iterable
from itertools import chain, islice

import torch
from torch import Tensor, nn

from pipelines.train.objective import Known, Objective
from pipelines.train.pairs import PairBatch
from pipelines.train.recipe import HeadRecipe

_MOMENT_BATCHES = 32  # of which the second moment is taken; they are held in memory


def fit_head(head: nn.Linear, batches: Iterable[PairBatch], objective: Objective, recipe: HeadRecipe) -> int:
    """Fits the head alone: first a rotation to the vectors' principal axes, then steps of the objective.

    The guide's vectors are normalised and the model's are not: to a linear map whose result is normalised
    that is the same.

    Args:
        head: Changed in place.
        batches: With the guide's vectors; the first `fit_steps` are used.
        objective: Of the run.
        recipe: How.

    Returns:
        Steps done: fewer than `fit_steps` where there are fewer batches.
    """
    device = head.weight.device
    ahead = iter(batches)
    first = [_texts(batch, device) for batch in islice(ahead, min(_MOMENT_BATCHES, recipe.fit_steps))]
    if not first:
        return 0
    head.weight.data.copy_(principal_axes(torch.cat([x_TG for x_TG, _ in first])) @ head.weight.data)
    optimiser = torch.optim.Adam(head.parameters(), lr=recipe.fit_peak)
    left = islice(ahead, recipe.fit_steps - len(first))
    done = 0
    for x_TG, known in chain(first, (_texts(batch, device) for batch in left)):
        for group in optimiser.param_groups:
            group["lr"] = recipe.fit_peak * (1 - done / recipe.fit_steps)
        y_TD = head(x_TG)
        n = len(known.query_N)
        found = objective.gradient(y_TD[:n], y_TD[n:], known, slice(0, n))
        optimiser.zero_grad()
        y_TD.backward(torch.cat((found.query_ND, found.candidate_CD)))
        optimiser.step()
        done += 1
    return done


def principal_axes(x_ND: Tensor) -> Tensor:
    """Eigenvectors of the second moment as rows, the largest first, x_DD: a rotation. Not centred.

    Centring would change similarities (MiniLM on Cranfield: it loses quality at every dimension).
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
