"""Small models to train, and batches of pairs to train them on."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from transformers import NomicBertConfig, NomicBertModel

from pipelines.encoder.ragged import Ragged
from pipelines.train.pairs import PairBatch
from pipelines.train.tower import TransformerTower

VOCABULARY = 200


def small_tower(seed: int = 0, dropout: float = 0.0) -> TransformerTower:
    """A nomic_bert of two layers and 32 dimensions, float32."""
    torch.manual_seed(seed)
    config = NomicBertConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=64,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        # With the usual 0.02 all texts are alike at first, and gradients are differences of equals.
        initializer_range=0.2,
    )
    return TransformerTower(NomicBertModel(config).train(), torch.device("cpu"), bfloat16=False)


def ragged(count: int, rng: np.random.Generator, longest: int = 24) -> Ragged:
    """Rows of random ids and lengths."""
    return Ragged.of([rng.integers(3, VOCABULARY, rng.integers(3, longest)) for _ in range(count)])


def pair_batch(count: int, negatives_each: int, seed: int = 0, guided: bool = False) -> PairBatch:
    """Pairs of which every fifth has the query of the one before it, and every seventh its document."""
    rng = np.random.default_rng(seed)
    queries, documents = ragged(count, rng), ragged(count, rng)
    same_query = np.arange(count) - (np.arange(count) % 5 == 4)
    same_document = np.arange(count) - (np.arange(count) % 7 == 6)
    negatives = ragged(count * negatives_each, rng)

    def guide(rows: int) -> npt.NDArray[np.float32] | None:
        if not guided:
            return None
        x = rng.normal(size=(rows, 8)).astype(np.float32)
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        return x

    return PairBatch(
        step=0,
        source="s",
        queries=queries.take(same_query),
        documents=documents.take(same_document),
        negatives=negatives,
        query_hash_n=same_query.astype(np.int64),
        document_hash_n=same_document.astype(np.int64),
        negative_hash_m=np.arange(len(negatives), dtype=np.int64) + 1000,
        guide_query_nG=guide(count),
        guide_document_nG=guide(count),
        guide_negative_mG=guide(len(negatives)),
    )


def part(batch: PairBatch, rows: range) -> PairBatch:
    """Some of a batch's pairs, with their hard negatives."""
    pick = np.arange(rows.start, rows.stop)
    each = len(batch.negatives) // len(batch.queries)
    behind = np.arange(rows.start * each, rows.stop * each)

    return PairBatch(
        step=batch.step,
        source=batch.source,
        queries=batch.queries.take(pick),
        documents=batch.documents.take(pick),
        negatives=batch.negatives.take(behind),
        query_hash_n=batch.query_hash_n[pick],
        document_hash_n=batch.document_hash_n[pick],
        negative_hash_m=batch.negative_hash_m[behind],
        guide_query_nG=None if batch.guide_query_nG is None else batch.guide_query_nG[pick],
        guide_document_nG=None if batch.guide_document_nG is None else batch.guide_document_nG[pick],
        guide_negative_mG=None if batch.guide_negative_mG is None else batch.guide_negative_mG[behind],
    )


def gradients(model: nn.Module) -> dict[str, Tensor]:
    """By parameter; zeros where nothing was added up, as for the pooler that nobody uses."""
    return {
        name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
        for name, p in model.named_parameters()
    }
