"""What an evaluation found: rows, and the same as JSON and as Markdown."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.evaluate.metrics import Scores
from pipelines.evaluate.rank import Kind

# nomic-embed-text-v1.5's model card: mean score on MTEB by dimension.
NOMIC_CARD: Mapping[int, float] = {768: 62.28, 512: 61.96, 256: 61.04, 128: 59.34, 64: 56.10}


@dataclass(frozen=True)
class Row:
    """The quality of one dimension and type.

    Attributes:
        dim: Dimension of the vectors.
        kind: How documents are stored.
        scores: What was measured.
        bytes: Of a document that a search goes through.
        rotated: Whether the vectors were rotated to the corpus first.
        share: nDCG@10 as a share of the same vectors' at full dimension in float32, of 1.
    """

    dim: int
    kind: Kind
    scores: Scores
    bytes: int
    rotated: bool
    share: float

    def as_json(self) -> dict[str, Any]:
        """The row in the names of the JSON file."""
        return {
            "dim": self.dim,
            "dtype": self.kind,
            **scores_json(self.scores),
            "bytes": self.bytes,
            "rotated": self.rotated,
            "share": self.share,
        }


@dataclass(frozen=True)
class Report:
    """What was measured, and on what.

    Attributes:
        model: The model's key, which tells its precision too.
        precision: Of the forward pass.
        max_tokens: Where rows were cut.
        documents: In the corpus.
        queries: That have judgements, and were ranked.
        left_out: Queries without judgements.
        judgements: Of the queries that were ranked, absent documents included.
        absent_documents: Judged documents that the corpus lacks; they count as not found.
        absent_queries: Judged queries that the queries' file lacks; they are left out.
        gain: How scores were taken.
        shortlist: Of `binary+rerank`.
        rows: By dimension and type.
        bm25: The baseline.
    """

    model: str
    precision: str
    max_tokens: int
    documents: int
    queries: int
    left_out: int
    judgements: int
    absent_documents: int
    absent_queries: int
    gain: str
    shortlist: int
    rows: tuple[Row, ...]
    bm25: Scores

    def as_json(self) -> dict[str, Any]:
        """The whole report as plain data."""
        fields = {name: value for name, value in vars(self).items() if name not in ("rows", "bm25")}
        return {
            **fields,
            "rows": [row.as_json() for row in self.rows],
            "bm25": scores_json(self.bm25),
            "nomic_card": {str(dim): value for dim, value in NOMIC_CARD.items()},
        }

    def as_markdown(self) -> str:
        """Tables for a person, and the nomic card's retention to compare `share` with."""
        lines = [
            f"{self.model}, {self.precision}, rows of at most {self.max_tokens} tokens; "
            f"{self.documents:,} documents, {self.queries:,} queries, {self.judgements:,} judgements; "
            f"{self.gain}.",
            "",
            "| dimension | type | bytes | nDCG@10 | recall@100 | MRR@10 | share of full |",
            "| ---: | --- | ---: | ---: | ---: | ---: | ---: |",
        ]
        for row in self.rows:
            turned = ", rotated" if row.rotated else ""
            lines.append(
                f"| {row.dim} | {row.kind}{turned} | {row.bytes:,} | {_cells(row.scores)} | {row.share:.1%} |"
            )
        full = NOMIC_CARD[max(NOMIC_CARD)]
        return "\n".join(
            [
                *lines,
                f"| | BM25 | | {_cells(self.bm25)} | |",
                "",
                "nomic-embed-text-v1.5 on MTEB, by its model card:",
                "",
                f"| dimension | {' | '.join(str(dim) for dim in NOMIC_CARD)} |",
                f"| --- |{' ---: |' * len(NOMIC_CARD)}",
                f"| score | {' | '.join(f'{score:.2f}' for score in NOMIC_CARD.values())} |",
                f"| share of full | {' | '.join(f'{score / full:.1%}' for score in NOMIC_CARD.values())} |",
                "",
            ]
        )


def scores_json(scores: Scores) -> dict[str, float]:
    """Scores in the names of the JSON file."""
    return {"ndcg@10": scores.ndcg, "recall@100": scores.recall, "mrr@10": scores.mrr}


def _cells(scores: Scores) -> str:
    return f"{scores.ndcg:.3f} | {scores.recall:.3f} | {scores.mrr:.3f}"
