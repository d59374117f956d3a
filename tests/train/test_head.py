"""A head fitted before the first step."""
# ruff: noqa: N803  (tensor names carry their shape: x_ND)

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn

from pipelines.encoder.ragged import Ragged
from pipelines.errors import ConfigError
from pipelines.train.head import fit_head, principal_axes
from pipelines.train.objective import Objective
from pipelines.train.pairs import PairBatch
from pipelines.train.recipe import HeadRecipe, ObjectiveConfig
from tests.train.lakes import contrastive

DIMENSION = 32
DISTIL = ObjectiveConfig.model_validate(
    {
        "contrast": 0,
        "dimensions": [DIMENSION, 4],
        "guide": {"model": "minilm", "mask": False, "distil": 1.0, "distil_temperature": 0.1},
    }
)


def batches(count: int) -> list[PairBatch]:
    """Texts whose meaning is in a few directions that are no coordinates."""
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(6, DIMENSION)).astype(np.float32)
    empty = Ragged.of([])
    found = []
    for step in range(count):
        meaning = rng.normal(size=(16, 6))
        sides = []
        for noise in (0.1, 0.1):
            x_ND = (meaning + noise * rng.normal(size=meaning.shape)) @ mixing
            sides.append((x_ND / np.linalg.norm(x_ND, axis=1, keepdims=True)).astype(np.float32))
        hashes = np.arange(16, dtype=np.int64) + 16 * step
        found.append(
            PairBatch(
                step,
                "s",
                empty,
                empty,
                empty,
                hashes,
                hashes + 10_000,
                hashes[:0],
                sides[0],
                sides[1],
                sides[0][:0],
            )
        )
    return found


def test_principal_axes_are_a_rotation_that_orders_the_dimensions() -> None:
    side = batches(1)[0].guide_query_nG
    assert side is not None
    x_ND = torch.from_numpy(side)
    axes_DD = principal_axes(x_ND)
    assert torch.allclose(axes_DD @ axes_DD.T, torch.eye(DIMENSION), atol=1e-5)
    turned_ND = x_ND @ axes_DD.T
    assert torch.allclose(turned_ND @ turned_ND.T, x_ND @ x_ND.T, atol=1e-5)
    power_D = turned_ND.square().sum(0)
    assert (power_D[:-1] >= power_D[1:] - 1e-6).all()


def near(x_ND: torch.Tensor, dim: int) -> torch.Tensor:
    x_Nd = nn.functional.normalize(x_ND[:, :dim], dim=1)
    return x_Nd @ x_Nd.T


def test_a_fitted_head_keeps_similarities_at_the_small_dimension() -> None:
    *seen, unseen = batches(201)
    head = nn.Linear(DIMENSION, DIMENSION, bias=False)
    nn.init.eye_(head.weight)
    objective = Objective(DISTIL, DIMENSION, layer_norm=False)
    fit_head(head, lambda: seen, objective, HeadRecipe(fit_steps=200, fit_peak=3e-3))
    side = unseen.guide_document_nG
    assert side is not None
    x_ND = torch.from_numpy(side)
    wanted = near(x_ND, DIMENSION)
    with torch.no_grad():
        y_ND = head(x_ND)
    error = (near(y_ND, 4) - wanted).square().mean()
    assert error < 0.5 * (near(x_ND, 4) - wanted).square().mean()
    assert (near(y_ND, DIMENSION) - wanted).square().mean() < 0.1 * error + 1e-3


def test_fewer_batches_than_steps_are_gone_through_again() -> None:
    few, seen = batches(5), list[int]()

    def read() -> Iterator[PairBatch]:
        for batch in few:
            seen.append(batch.step)
            yield batch

    head = nn.Linear(DIMENSION, DIMENSION, bias=False)
    fit_head(head, read, Objective(DISTIL, DIMENSION, layer_norm=False), HeadRecipe(fit_steps=13))
    assert seen[5:] == [0, 1, 2, 3, 4] * 2 + [0, 1, 2], "the axes are of the first, and then come the steps"
    untouched = nn.Linear(DIMENSION, DIMENSION, bias=False)
    before = untouched.weight.detach().clone()
    fit_head(untouched, lambda: [], Objective(DISTIL, DIMENSION, layer_norm=False), HeadRecipe(fit_steps=5))
    assert torch.equal(untouched.weight, before)


def test_a_head_is_fitted_to_the_vectors_of_the_model_itself_only() -> None:
    with pytest.raises(ConfigError, match=r"guide\.model to be the model of start"):
        contrastive(head={"fit_steps": 10})
