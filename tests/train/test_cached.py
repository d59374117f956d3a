"""The cached step against the loss written out, pair by pair, with one graph for the whole batch."""

import math
import multiprocessing
import socket
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional

from pipelines.train.cached import contrastive_step
from pipelines.train.config import Micro
from pipelines.train.objective import Objective
from pipelines.train.pairs import PairBatch
from pipelines.train.recipe import GuideConfig, ObjectiveConfig
from pipelines.train.workers import Workers
from tests.train.towers import gradients, pair_batch, part, small_tower

DIMS = (32, 16, 8)


def direct_loss(
    config: ObjectiveConfig, batch: PairBatch, layer_norm: bool
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss at each dimension and the gradients, at once and in the plainest way, in float64.

    In float32 the sum over rows without a batch would be as far from the truth as what is tested.
    """
    model = small_tower().model.double()
    n, m = len(batch.queries), len(batch.negatives)
    rows = batch.rows
    # Row by row: no padding either.
    pooled = torch.cat(
        [model(input_ids=torch.from_numpy(row)[None]).last_hidden_state.mean(dim=1) for row in rows]
    )
    texts = [*batch.document_hash_n.tolist(), *batch.negative_hash_m.tolist()]
    queries = batch.query_hash_n.tolist()
    positives = {q: {texts[i] for i in range(n) if queries[i] == q} for q in queries}
    guide = None
    if batch.guide_query_nG is not None:
        assert batch.guide_document_nG is not None
        assert batch.guide_negative_mG is not None
        guide = torch.from_numpy(
            np.concatenate((batch.guide_query_nG, batch.guide_document_nG, batch.guide_negative_mG))
        ).double()
    dims = config.dimensions or (32,)
    weights = config.weights or (1.0,) * len(dims)
    losses = []
    for dim, weight in zip(dims, weights, strict=True):
        x = functional.layer_norm(pooled, (32,)) if layer_norm else pooled
        x = x[:, :dim] / x[:, :dim].norm(dim=1, keepdim=True)
        total = torch.zeros((), dtype=torch.float64)
        for i in range(n):
            others = [j for j in range(n + m) if j == i or texts[j] not in positives[queries[i]]]
            if guide is not None and config.guide and config.guide.mask:
                own = float(guide[i] @ guide[n + i]) + max(config.guide.margin, 1e-6)
                others = [j for j in others if j == i or float(guide[i] @ guide[n + j]) <= own]
            scores = {j: x[i] @ x[n + j] / config.temperature for j in others}
            forward = torch.logsumexp(torch.stack(list(scores.values())), 0) - scores[i]
            if config.bidirectional:
                back = [j for j in range(n) if j == i or texts[i] not in positives[queries[j]]]
                if guide is not None and config.guide and config.guide.mask:
                    back = [j for j in back if j == i or float(guide[n + i] @ guide[j]) <= own]
                scores = {j: x[n + i] @ x[j] / config.temperature for j in back}
                backward = torch.logsumexp(torch.stack(list(scores.values())), 0) - scores[i]
                forward = (forward + backward) / 2
            total = total + config.contrast * forward
        if guide is not None and config.guide and config.guide.distil:
            for i in range(2 * n):
                others = [j for j in range(2 * n + m) if j != i]
                teacher = (guide[others] @ guide[i] / config.guide.distil_temperature).log_softmax(0)
                student = (x[others] @ x[i] / config.guide.distil_temperature).log_softmax(0)
                total = total + config.guide.distil * (teacher.exp() * (teacher - student)).sum() / 2
        losses.append(weight * total / n)
    loss = torch.stack(losses)
    loss.sum().backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return loss.detach(), gradients(model)


def cached_loss(
    config: ObjectiveConfig, batch: PairBatch, layer_norm: bool, workers: Workers, micro: Micro
) -> tuple[Tensor, dict[str, Tensor]]:
    tower = small_tower()
    objective = Objective(config, 32, layer_norm)
    loss_K = contrastive_step(tower, batch, objective, workers, micro, seed=0)
    found = gradients(tower.model)
    workers.sum_((loss_K, *found.values()))
    return loss_K, found


def assert_same(found: tuple[Tensor, dict[str, Tensor]], wanted: tuple[Tensor, dict[str, Tensor]]) -> None:
    torch.testing.assert_close(found[0].double(), wanted[0].double(), rtol=1e-5, atol=0)
    assert found[1].keys() == wanted[1].keys()
    for name, gradient in wanted[1].items():
        error = float((found[1][name] - gradient).norm())
        assert error <= 1e-5 * float(gradient.norm()), f"{name}: {error:.1e}"


def configured(matryoshka: bool, guided: bool = False, **others: Any) -> ObjectiveConfig:
    return ObjectiveConfig(
        dimensions=DIMS if matryoshka else None,
        weights=(1.0, 0.5, 2.0) if matryoshka else None,
        guide=GuideConfig(model="minilm", margin=0.1, distil=0.7) if guided else None,
        **{"temperature": 0.1, **others},
    )


@pytest.mark.parametrize("negatives", [0, 7])
@pytest.mark.parametrize("matryoshka", [False, True])
@pytest.mark.parametrize("keep_tokens", [0, 150, 10**6])
def test_loss_and_gradients_are_those_of_the_whole_batch_at_once(
    negatives: int, matryoshka: bool, keep_tokens: int
) -> None:
    batch = pair_batch(13, negatives)
    config = configured(matryoshka)
    found = cached_loss(config, batch, matryoshka, Workers(), Micro(64, keep_tokens))
    assert_same(found, direct_loss(config, batch, matryoshka))


@pytest.mark.parametrize("guided", [False, True])
def test_both_directions_and_a_guide(guided: bool) -> None:
    batch = pair_batch(11, 2, guided=guided)
    config = configured(True, guided, bidirectional=True)
    assert_same(cached_loss(config, batch, True, Workers(), Micro(50)), direct_loss(config, batch, True))


def test_distillation_alone() -> None:
    batch = pair_batch(9, 0, guided=True)
    config = configured(True, guided=True, contrast=0.0)
    assert_same(cached_loss(config, batch, False, Workers(), Micro(64)), direct_loss(config, batch, False))


def test_blocks_of_anchors_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = pair_batch(17, 3, guided=True)
    config = configured(True, guided=True, bidirectional=True)
    whole = cached_loss(config, batch, True, Workers(), Micro(64))
    monkeypatch.setattr("pipelines.train.objective._BLOCK_ELEMENTS", 200)
    assert_same(cached_loss(config, batch, True, Workers(), Micro(64)), whole)


def test_a_copy_of_the_query_as_its_document_costs_almost_nothing() -> None:
    """Hard negatives that went with the wrong query would cost 1 / temperature each."""
    batch = pair_batch(8, 7)
    batch = PairBatch(**{**vars(batch), "documents": batch.queries, "document_hash_n": batch.query_hash_n})
    loss_K, _ = cached_loss(configured(False, temperature=0.005), batch, False, Workers(), Micro(32))
    assert float(loss_K.sum()) < 0.05


def test_dropout_is_the_same_in_both_passes() -> None:
    """With the graphs kept there is one pass, without there are two: equal only if both drop the same."""
    batch, config = pair_batch(8, 2), configured(True)
    results = []
    for keep_tokens in (0, 10**6):
        tower = small_tower(dropout=0.3)
        loss_K = contrastive_step(
            tower, batch, Objective(config, 32, True), Workers(), Micro(64, keep_tokens), seed=5
        )
        results.append((loss_K, gradients(tower.model)))
    assert_same(results[0], results[1])
    other = small_tower(dropout=0.3)
    loss_K = contrastive_step(other, batch, Objective(config, 32, True), Workers(), Micro(64), seed=6)
    assert not math.isclose(float(loss_K.sum()), float(results[0][0].sum()), rel_tol=1e-3)


def _worker(rank: int, size: int, port: int, cases: list[Any], results: Any) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=size)
    for config, batch, cut in cases:
        own = range(cut) if rank == 0 else range(cut, len(batch.queries))
        found = cached_loss(config, part(batch, own), True, Workers(rank, size), Micro(64))
        if rank == 0:
            results.put(([float(x) for x in found[0]], {name: x.numpy() for name, x in found[1].items()}))
    dist.barrier()
    dist.destroy_process_group()


def test_two_workers_with_uneven_shares_are_one() -> None:
    cases = [
        (configured(matryoshka), pair_batch(count, negatives), cut)
        for matryoshka in (False, True)
        for count, negatives, cut in ((12, 7, 6), (12, 0, 6), (11, 7, 6), (7, 2, 7))
    ]
    cases.append((configured(True, guided=True, bidirectional=True), pair_batch(11, 3, guided=True), 6))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    workers = [context.Process(target=_worker, args=(rank, 2, port, cases, results)) for rank in range(2)]
    for worker in workers:
        worker.start()
    for config, batch, _ in cases:
        loss, found = results.get(timeout=120)
        wanted = direct_loss(config, batch, True)
        assert_same((torch.tensor(loss), {name: torch.from_numpy(x) for name, x in found.items()}), wanted)
    for worker in workers:
        worker.join(timeout=60)
        assert worker.exitcode == 0
