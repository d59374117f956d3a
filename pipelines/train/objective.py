"""The contrastive objective on pooled vectors: its loss, and its gradient with respect to them.

A batch's vectors of all workers are here at once; the graph that made them is not (see `cached.py`). Anchors
are taken in blocks, so that the similarities of a large batch never lie in memory together.
"""
# ruff: noqa: N803, N806, N815  (tensor names carry their shape: x_ND)

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from pipelines.train.recipe import ObjectiveConfig

_BLOCK_ELEMENTS = 2**21  # similarities at once: 8 MB in float32
_NEVER = float("-inf")
_ROUNDING = 1e-6  # a text is not nearer than itself, whatever the order of a sum


@dataclass(frozen=True)
class Known:
    """What is known of a global batch's texts beside their vectors.

    Attributes:
        query_N: int64, equal for equal queries.
        candidate_C: int64, equal for equal texts: the N documents in the order of their queries, and then
            the hard negatives.
        guide_NG: float32, the guide's normalised vectors of the queries; None without a guide.
        guide_CG: float32, likewise of the candidates.
    """

    query_N: Tensor
    candidate_C: Tensor
    guide_NG: Tensor | None = None
    guide_CG: Tensor | None = None


@dataclass(frozen=True)
class Gradient:
    """What the anchors of one worker contribute.

    Attributes:
        loss_K: float32, the weighted loss at each dimension; the sum over workers and dimensions is the
            batch's.
        query_ND: Of that sum with respect to the pooled vectors of the queries.
        candidate_CD: Likewise of the candidates.
    """

    loss_K: Tensor
    query_ND: Tensor
    candidate_CD: Tensor


class Objective:
    """The loss, for a model's vectors.

    Attributes:
        config: Of the loss.
        dimensions: The slices that it is taken of.
        layer_norm: Whether the model's vectors are normalised by LayerNorm before they are cut.
    """

    def __init__(self, config: ObjectiveConfig, dimension: int, layer_norm: bool) -> None:
        self.config = config
        self.dimensions = config.dimensions or (dimension,)
        self.weights = config.weights or (1.0,) * len(self.dimensions)
        self.layer_norm = layer_norm

    def gradient(self, query_ND: Tensor, candidate_CD: Tensor, known: Known, own: slice) -> Gradient:
        """The loss of the anchors `own`, a share of the batch's mean over its N pairs, and its gradient.

        Args:
            query_ND: float32, pooled vectors of the batch's queries.
            candidate_CD: float32, of its documents and hard negatives, as in `Known`.
            known: Of the same texts.
            own: The pairs whose query and document are this worker's anchors.
        """
        full = [x.detach().requires_grad_() for x in (query_ND, candidate_CD)]
        # Cut and normalised once, and each slice a leaf: blocks add up their gradients there.
        slices = [[self._cut(x, dim) for x in full] for dim in self.dimensions]
        leaves = [[x.detach().requires_grad_() for x in pair] for pair in slices]
        loss_K = query_ND.new_zeros(len(self.dimensions))
        groups = query_groups(known)
        for rows in _blocks(own, len(query_ND) + len(candidate_CD)):
            block = _Block(self.config, known, groups, rows)
            for k, (query_Nd, candidate_Cd) in enumerate(leaves):
                loss = self.weights[k] * block.loss(query_Nd, candidate_Cd)
                loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
                loss_K[k] += loss.detach()
        torch.autograd.backward(
            [x for pair in slices for x in pair], [_gradient(x) for pair in leaves for x in pair]
        )
        return Gradient(loss_K, _gradient(full[0]), _gradient(full[1]))

    def _cut(self, x_ND: Tensor, dim: int) -> Tensor:
        if self.layer_norm:
            x_ND = functional.layer_norm(x_ND, x_ND.shape[-1:])
        return functional.normalize(x_ND[:, :dim], dim=-1)


class _Block:
    """Some anchors of a batch, and what is the same for them at every dimension."""

    def __init__(
        self, config: ObjectiveConfig, known: Known, groups: tuple[Tensor, Tensor], rows: slice
    ) -> None:
        self._config = config
        self._rows = rows
        self._label_B = torch.arange(rows.start, rows.stop, device=known.query_N.device)
        self._pairs = len(known.query_N)
        self._excluded_BC = excluded(known, groups, rows)
        # Whether a document is a positive of a query is the same seen from either side.
        self._back_BN = self._excluded_BC[:, : self._pairs]
        guide = config.guide
        if guide and guide.mask:
            assert known.guide_NG is not None
            assert known.guide_CG is not None
            self._excluded_BC = self._excluded_BC | nearer(known.guide_NG, known.guide_CG, rows, guide.margin)
            self._back_BN = self._back_BN | nearer(known.guide_CG, known.guide_NG, rows, guide.margin)
        self._teacher = _Teacher(known, rows, guide.distil_temperature) if guide and guide.distil else None

    def loss(self, query_Nd: Tensor, candidate_Cd: Tensor) -> Tensor:
        """Of these anchors, divided by the batch's pairs."""
        config, total = self._config, query_Nd.new_zeros(())
        if config.contrast:
            found = self._infonce(query_Nd[self._rows], candidate_Cd, self._excluded_BC)
            if config.bidirectional:
                found = (found + self._infonce(candidate_Cd[self._rows], query_Nd, self._back_BN)) / 2
            total = total + config.contrast * found
        if self._teacher is not None and config.guide is not None:
            total = total + config.guide.distil * self._teacher.divergence(query_Nd, candidate_Cd)
        return total / self._pairs

    def _infonce(self, anchor_Bd: Tensor, other_Cd: Tensor, excluded_BC: Tensor) -> Tensor:
        logit_BC = (anchor_Bd @ other_Cd.T / self._config.temperature).masked_fill(excluded_BC, _NEVER)
        return functional.cross_entropy(logit_BC, self._label_B, reduction="sum")


def query_groups(known: Known) -> tuple[Tensor, Tensor]:
    """Which rows have one query: group_N int64, and how many rows each has, size_N."""
    _, group_N, size_G = torch.unique(known.query_N, return_inverse=True, return_counts=True)
    return group_N, size_G[group_N]


def excluded(known: Known, groups: tuple[Tensor, Tensor], rows: slice) -> Tensor:
    """Which candidates are no negatives of a query, bool [B, C]: texts equal to one of its positives.

    Positives are the documents of all of the batch's rows with that query. A query's own document, in its own
    place, is never excluded: it is the label.
    """
    document_N = known.candidate_C[: len(known.query_N)]
    excluded_BC = known.candidate_C[None, :] == document_N[rows][:, None]
    group_N, size_N = groups
    for at in torch.nonzero(size_N[rows] > 1).flatten().tolist():
        positives = document_N[group_N == group_N[rows.start + at]]
        excluded_BC[at] = torch.isin(known.candidate_C, positives)
    own_B = torch.arange(rows.stop - rows.start, device=excluded_BC.device)
    excluded_BC[own_B, own_B + rows.start] = False
    return excluded_BC


def nearer(anchor_NG: Tensor, other_CG: Tensor, rows: slice, margin: float) -> Tensor:
    """Which of the others the guide finds nearer to an anchor than what it belongs to, bool [B, C].

    Args:
        anchor_NG: The guide's vectors of the anchors' side.
        other_CG: Of the other side; the first N belong to the anchors.
        rows: The anchors wanted.
        margin: So much nearer they must be.
    """
    near_BC = anchor_NG[rows] @ other_CG.T
    own_B = torch.arange(rows.stop - rows.start, device=near_BC.device)
    return near_BC > near_BC[own_B, own_B + rows.start][:, None] + max(margin, _ROUNDING)


class _Teacher:
    """The guide's distribution over the batch's other texts, for queries and documents of some pairs."""

    def __init__(self, known: Known, rows: slice, temperature: float) -> None:
        assert known.guide_NG is not None
        assert known.guide_CG is not None
        pairs = len(known.query_N)
        label_B = torch.arange(rows.start, rows.stop, device=known.query_N.device)
        self._anchor_A = torch.cat((label_B, label_B + pairs))
        self._temperature = temperature
        self._log_AU = self._log_similarity(torch.cat((known.guide_NG, known.guide_CG)))
        self._share_AU = self._log_AU.exp()

    def divergence(self, query_Nd: Tensor, candidate_Cd: Tensor) -> Tensor:
        """Kullback-Leibler, of the guide's distributions from the vectors'; half for each side of a pair."""
        log_AU = self._log_similarity(torch.cat((query_Nd, candidate_Cd)))
        return (self._share_AU * (self._log_AU - log_AU)).sum() / 2

    def _log_similarity(self, x_Ud: Tensor) -> Tensor:
        near_AU = x_Ud[self._anchor_A] @ x_Ud.T / self._temperature
        itself_A = torch.arange(len(self._anchor_A), device=near_AU.device)
        # A finite stand-in for minus infinity, of which 0 times itself is 0.
        near_AU = near_AU.index_put((itself_A, self._anchor_A), near_AU.new_tensor(-1e4))
        return near_AU.log_softmax(dim=1)


def _blocks(own: slice, width: int) -> Iterator[slice]:
    size = max(1, _BLOCK_ELEMENTS // max(1, width))
    for start in range(own.start, own.stop, size):
        yield slice(start, min(start + size, own.stop))


def _gradient(leaf: Tensor) -> Tensor:
    return torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
