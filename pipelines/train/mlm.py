"""The masked-language-model step on packed sequences (BERT, arXiv 1810.04805; 30 %: arXiv 2402.01613)."""
# ruff: noqa: N806, N815  (tensor names carry their shape: ids_BL)

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from pipelines.errors import ModelError
from pipelines.train.tower import TransformerTower
from pipelines.train.workers import Workers

_MASKED, _REPLACED = 0.8, 0.1  # the rest is left as it is


@dataclass(frozen=True)
class SequenceBatch:
    """A worker's share of a batch of packed sequences.

    Attributes:
        step: Of the run, from 0.
        slots_B: int64, the sequences' places in the whole batch.
        ids_BL: int64, all of one length.
    """

    step: int
    slots_B: npt.NDArray[np.int64]
    ids_BL: npt.NDArray[np.int64]

    @property
    def tokens(self) -> int:
        """Of all sequences."""
        return int(self.ids_BL.size)


@dataclass(frozen=True)
class Vocabulary:
    """What masking needs of a tokenizer.

    Attributes:
        mask_id: Of the token that stands for a masked one.
        special_ids: Never masked.
        size: Tokens are replaced by ids below it.
    """

    mask_id: int
    special_ids: tuple[int, ...]
    size: int


def read_vocabulary(tokenizer_json: Path) -> Vocabulary:
    """From a tokenizer's file.

    Raises:
        ModelError: It has no token to mask with.
    """
    spec = json.loads(tokenizer_json.read_text(encoding="utf-8"))
    special = {token["content"]: int(token["id"]) for token in spec["added_tokens"] if token["special"]}
    masks = [special[name] for name in ("[MASK]", "<mask>") if name in special]
    if not masks:
        raise ModelError(f"the tokenizer in {tokenizer_json} has no token to mask with", "Use a BERT's")
    size = len(spec["model"]["vocab"])
    return Vocabulary(masks[0], tuple(sorted(special.values())), size)


def masked(
    batch: SequenceBatch, share: float, vocabulary: Vocabulary, seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Sequences with some tokens hidden, and which: the same for a slot of a step whoever has it.

    Args:
        batch: The sequences.
        share: Of the tokens that are to be told.
        vocabulary: Of the tokenizer.
        seed: Of the run.

    Returns:
        ids_BL int64 and told_BL bool.
    """
    ids_BL = batch.ids_BL.copy()
    told = []
    for ids_L, slot in zip(ids_BL, batch.slots_B.tolist(), strict=True):
        rng = np.random.default_rng((seed, batch.step, slot))
        draw_L, how_L = rng.random(len(ids_L)), rng.random(len(ids_L))
        other_L = rng.integers(0, vocabulary.size, len(ids_L))
        told_L = (draw_L < share) & ~np.isin(ids_L, vocabulary.special_ids)
        ids_L[told_L & (how_L < _MASKED)] = vocabulary.mask_id
        replaced_L = told_L & (how_L >= _MASKED) & (how_L < _MASKED + _REPLACED)
        ids_L[replaced_L] = other_L[replaced_L]
        told.append(told_L)
    return ids_BL, np.array(told, dtype=np.bool_).reshape(ids_BL.shape)


def masked_lm_step(
    model: Any,
    tower: TransformerTower,
    batch: SequenceBatch,
    share: float,
    vocabulary: Vocabulary,
    workers: Workers,
    batch_tokens: int,
    seed: int,
) -> Tensor:
    """This worker's share of the batch's mean loss; its gradient is added to the parameters.

    Under `torch.no_grad` it is the loss alone.

    Args:
        model: A transformers model with `nomic_bert` and `cls`.
        tower: Of its encoder: device, precision, dropout.
        batch: This worker's sequences.
        share: Of the tokens that are to be told.
        vocabulary: Of the tokenizer.
        workers: Who has the rest of the batch; the mean is over the tokens of all.
        batch_tokens: Most tokens of a forward pass.
        seed: Of the run.

    Returns:
        loss_1 float32, this worker's share of the mean cross-entropy.
    """
    ids_BL, told_BL = masked(batch, share, vocabulary, seed)
    count = torch.tensor([float(told_BL.sum())], device=tower.device)
    workers.sum_([count])
    total = torch.zeros(1)
    rows = max(1, batch_tokens // ids_BL.shape[1])
    for start in range(0, len(ids_BL), rows):
        piece = slice(start, start + rows)
        own = told_BL[piece]
        if not own.any():
            continue
        ids = torch.from_numpy(ids_BL[piece]).to(tower.device)
        told = torch.from_numpy(own).to(tower.device)
        wanted = torch.from_numpy(batch.ids_BL[piece]).to(tower.device)[told]
        with tower.computing(int(np.random.SeedSequence((seed, batch.step, start)).generate_state(1)[0])):
            # The head sees only the tokens that are to be told: it costs as much as several layers.
            hidden_TD = model.nomic_bert(input_ids=ids).last_hidden_state[told]
            logits_TV = model.cls(hidden_TD)
        loss = functional.cross_entropy(logits_TV.float(), wanted, reduction="sum") / count
        if torch.is_grad_enabled():
            loss.sum().backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        total += loss.detach().cpu()
    return total
