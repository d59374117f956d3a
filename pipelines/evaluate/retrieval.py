"""Retrieval quality of a model on a data set: encode once, then every dimension and type."""
# ruff: noqa: N806, N815  (array names carry their shape: x_ND)

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipelines.encoder.model import Encoder
from pipelines.encoder.rotation import Moment, Rotation
from pipelines.evaluate.beir import Dataset
from pipelines.evaluate.bm25 import bm25_rankings
from pipelines.evaluate.config import EvaluateConfig
from pipelines.evaluate.judgements import gains
from pipelines.evaluate.metrics import DEPTH, Judgements, Scores, score
from pipelines.evaluate.rank import Kind, check_kinds, mixed, rank, searched_bytes
from pipelines.evaluate.report import Report, Row
from pipelines.evaluate.vectors import encode_texts
from pipelines.progress import Progress


@dataclass(frozen=True)
class Vectors:
    """Full vectors of a data set.

    Attributes:
        model: Key of the model.
        precision: Of the forward pass.
        max_tokens: Where rows were cut.
        documents_ND: float32, in the order of the data set's documents.
        queries_QD: float32, in the order of its queries.
    """

    model: str
    precision: str
    max_tokens: int
    documents_ND: npt.NDArray[np.float32]
    queries_QD: npt.NDArray[np.float32]


def document_texts(dataset: Dataset, title: bool) -> list[str]:
    """What is encoded of each document: its text, after its title and a space if `title`."""
    return [
        f"{document.title} {document.text}".strip() if title else document.text
        for document in dataset.documents.values()
    ]


def encode_dataset(encoder: Encoder, dataset: Dataset, config: EvaluateConfig, progress: Progress) -> Vectors:
    """Encodes a data set, documents and queries each with the model's prefix of that role.

    Args:
        encoder: The model, loaded in the precision that is to be evaluated.
        dataset: The data set.
        config: Whether titles count.
        progress: Told of the encoding.

    Raises:
        ModelError: The encoder refuses a text.
    """
    documents = document_texts(dataset, config.title)
    asked = list(dataset.queries.values())
    conf = encoder.conf
    return Vectors(
        model=encoder.key,
        precision=encoder.precision,
        max_tokens=conf.evaluation_tokens or conf.max_tokens,
        documents_ND=encode_texts(
            encoder, documents, conf.prefix("document"), progress, "encoding documents"
        ),
        queries_QD=encode_texts(encoder, asked, conf.prefix("query"), progress, "encoding queries"),
    )


def evaluate(
    dataset: Dataset, vectors: Vectors, dims: Sequence[int], config: EvaluateConfig, progress: Progress
) -> Report:
    """Scores every dimension and type, and BM25.

    Args:
        dataset: The data set.
        vectors: Of its documents and queries.
        dims: To slice to.
        config: Types, rotation, shortlist and gains.
        progress: Told of the steps, of how gains were taken, and of what the judgements name in vain.

    Raises:
        ConfigError: Binary codes of one of the dimensions would not be whole bytes.
    """
    check_kinds(config.types, tuple(dims))
    judged, said = gains(dataset.codes, config.gain)
    progress.say(said)
    asked = {query: grades for query, grades in judged.items() if query in dataset.queries}
    absent = {document for grades in asked.values() for document in grades} - dataset.documents.keys()
    if absent or len(asked) < len(judged):
        progress.say(
            f"the judgements name {len(absent):,} documents that the corpus lacks, which count as not found, "
            f"and {len(judged) - len(asked):,} queries that are absent and left out"
        )
    left_out = len(dataset.queries) - len(asked)
    if left_out:
        progress.say(f"{left_out:,} queries have no judgements and are left out")
    ranked = _Ranked(dataset, asked, vectors, config)
    full = vectors.documents_ND.shape[1]
    wanted = [(dim, kind) for dim in dims for kind in config.types]
    rows = []
    with progress.step("ranking", len(wanted) + 2, "rankings") as step:
        best = ranked.scores(full, "float32").ndcg
        for done, (dim, kind) in enumerate(wanted, start=1):
            scores = ranked.scores(dim, kind)
            share = scores.ndcg / best if best else 0.0
            rows.append(Row(dim, kind, scores, searched_bytes(kind, dim), config.rotate, share))
            step.done(done + 1)
        bm25 = ranked.bm25()
        step.done(len(wanted) + 2)
    return Report(
        model=vectors.model,
        precision=vectors.precision,
        max_tokens=vectors.max_tokens,
        documents=len(dataset.documents),
        queries=len(asked),
        left_out=left_out,
        judgements=sum(len(grades) for grades in asked.values()),
        absent_documents=len(absent),
        absent_queries=len(judged) - len(asked),
        gain=said,
        shortlist=config.shortlist,
        rows=tuple(rows),
        bm25=bm25,
    )


class _Ranked:
    """A data set's queries with judgements, and how good a ranking of its documents for them is."""

    def __init__(
        self, dataset: Dataset, judgements: Judgements, vectors: Vectors, config: EvaluateConfig
    ) -> None:
        self._config = config
        self._judgements = judgements
        self._names = list(dataset.documents)
        self._queries = [query for query in dataset.queries if query in judgements]
        self._texts = document_texts(dataset, config.title)
        self._asked = [dataset.queries[query] for query in self._queries]
        places = [place for place, query in enumerate(dataset.queries) if query in judgements]
        self._documents_ND, self._queries_QD = vectors.documents_ND, vectors.queries_QD[places]
        if config.rotate:
            rotation = Rotation.fit(Moment.of(self._documents_ND))
            self._documents_ND = rotation.apply(self._documents_ND)
            self._queries_QD = rotation.apply(self._queries_QD)

    def scores(self, dim: int, kind: Kind) -> Scores:
        """Of vectors at this dimension, stored in this type."""
        documents_ND, queries_QD = self._documents_ND, self._queries_QD
        if self._config.rotate and kind in ("binary", "binary+rerank"):
            documents_ND, queries_QD = mixed(documents_ND, queries_QD, dim)
        ranking = rank(documents_ND, queries_QD, kind, dim, DEPTH, shortlist=self._config.shortlist)
        return self._scored(ranking.rows_QK.tolist())

    def bm25(self) -> Scores:
        """Of the texts themselves."""
        config = self._config
        return self._scored(
            bm25_rankings(self._texts, self._asked, DEPTH, k1=config.bm25_k1, b=config.bm25_b)
        )

    def _scored(self, rankings: list[list[int]]) -> Scores:
        run = {
            query: [self._names[row] for row in rows]
            for query, rows in zip(self._queries, rankings, strict=True)
        }
        return score(self._judgements, run)
