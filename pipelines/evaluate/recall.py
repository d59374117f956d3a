"""How much of the exact answer smaller vectors, quantised ones and funnels find, on a lake's own table.

No judgements are needed: the exact answer is that of the full-dimension float32 vectors. Some of the table's
own vectors are the queries, and are not counted as answers to themselves; or queries are given as text.
"""
# ruff: noqa: N803, N806, N815  (array names carry their shape: x_ND)

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.encoder.quantise import VectorType
from pipelines.encoder.rotation import Moment, Rotation
from pipelines.errors import ConfigError, ModelError
from pipelines.evaluate.rank import Kind, Ranking, mixed, rank, searched_bytes
from pipelines.lake.vector_source import VectorSource
from pipelines.progress import Progress

Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Sample:
    """Vectors to look through, and queries.

    Attributes:
        documents_ND: Full vectors of length 1.
        chunk_ids: Of each.
        queries_QD: Full vectors of length 1.
        own_Q: The document that each query is; -1 where it is none.
    """

    documents_ND: Matrix
    chunk_ids: pa.Array
    queries_QD: Matrix
    own_Q: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Found:
    """One way of looking, and how much of the exact answer it finds.

    Attributes:
        what: `float32`, `int8`, …; `funnel` and its shortlist; or the name of a serving table.
        dim: Dimension that is looked through.
        bytes: Of a vector that is looked through.
        recall: Of the exact k, the share that is among its k, of 1.
    """

    what: str
    dim: int
    bytes: int
    recall: float


@dataclass(frozen=True)
class RecallReport:
    """What was measured, and on what.

    Attributes:
        model: The model's key.
        rows: Vectors that were looked through.
        table_rows: Vectors that the table has.
        queries: How many.
        k: Size of the answers.
        rotated: Whether the vectors were rotated to these rows before slicing.
        found: By way of looking.
    """

    model: str
    rows: int
    table_rows: int
    queries: int
    k: int
    rotated: bool
    found: tuple[Found, ...]

    def as_json(self) -> dict[str, Any]:
        """The report as plain data."""
        return {**vars(self), "found": [vars(one) for one in self.found]}

    def as_markdown(self) -> str:
        """A table for a person."""
        turned = ", rotated" if self.rotated else ""
        lines = [
            f"{self.model}{turned}; {self.rows:,} of {self.table_rows:,} vectors, {self.queries:,} queries; "
            f"share of the exact {self.k} nearest that is found.",
            "",
            f"| looked through | dimension | bytes | recall@{self.k} |",
            "| --- | ---: | ---: | ---: |",
        ]
        lines += [f"| {one.what} | {one.dim} | {one.bytes:,} | {one.recall:.4f} |" for one in self.found]
        return "\n".join([*lines, ""])


def sampled(source: VectorSource, rows: int, queries: int, seed: int, progress: Progress) -> Sample:
    """Some of a table's vectors, whole files in random order, and some of those as queries.

    Args:
        source: The embeddings.
        rows: Most vectors; they are in memory, 3 KiB each at 768 dimensions.
        queries: Most queries.
        seed: Decides which.
        progress: Told of the rows read.

    Raises:
        ModelError: There are no vectors.
    """
    where = source.filter()
    files = source.files(where)
    rng = np.random.default_rng(seed)
    parts: list[Matrix] = []
    ids: list[pa.Array] = []
    count = 0
    with progress.step("reading vectors", min(rows, sum(file.rows for file in files)), "vectors") as step:
        for at in rng.permutation(len(files)):
            for x_ND, keys in source.batches(files[at], source.dim, where, ["chunk_id"]):
                kept = x_ND[: rows - count]
                parts.append(np.array(kept))
                ids.append(keys.column("chunk_id").slice(0, len(kept)).cast(pa.large_string()))
                count += len(kept)
            step.done(count)
            if count >= rows:
                break
    if not count:
        raise ModelError(f"the lake has no embeddings by '{source.model}' yet", "Run 'embedlake embed'")
    documents_ND = np.concatenate(parts)
    own_Q = np.sort(rng.permutation(count)[:queries]).astype(np.int64)
    return Sample(documents_ND, pa.concat_arrays(ids), documents_ND[own_Q], own_Q)


def with_queries(sample: Sample, queries_QD: Matrix) -> Sample:
    """The same vectors, and these queries, which are none of them."""
    return Sample(sample.documents_ND, sample.chunk_ids, queries_QD, np.full(len(queries_QD), -1))


def measure(
    sample: Sample,
    dims: Sequence[int],
    kinds: Sequence[Kind],
    shortlists: Sequence[int],
    short_dim: int,
    k: int,
    rotate: bool,
    progress: Progress,
) -> list[Found]:
    """The recall of each dimension and type, and of funnels.

    Args:
        sample: What is looked through.
        dims: Dimensions.
        kinds: Types. `binary+rerank` is a funnel, and left to `shortlists`.
        shortlists: Of the funnels: by the first `short_dim` dimensions, and by the signs of all.
        short_dim: See there.
        k: Size of the answers.
        rotate: Rotate all vectors to the documents first: exact answers stay as they are.
        progress: Told of the steps.

    Raises:
        ConfigError: There are not more vectors than k.
    """
    full = sample.documents_ND.shape[1]
    if len(sample.documents_ND) <= k:
        raise ConfigError(
            f"there are {len(sample.documents_ND)} vectors, no {k} beside a query", "Ask for fewer"
        )
    documents_ND, queries_QD = sample.documents_ND, sample.queries_QD
    if rotate:
        rotation = Rotation.fit(Moment.of(documents_ND))
        documents_ND, queries_QD = rotation.apply(documents_ND), rotation.apply(queries_QD)
    ways = [(kind, dim) for dim in dims for kind in kinds if kind != "binary+rerank"]
    exact = answers(rank(documents_ND, queries_QD, "float32", full, k + 1), sample.own_Q, k)
    found = []
    with progress.step("measuring recall", len(ways) + 2, "ways") as step:
        for number, (kind, dim) in enumerate(ways):
            both = (documents_ND, queries_QD)
            if rotate and kind == "binary":
                both = mixed(*both, dim)
            own = answers(rank(*both, kind, dim, k + 1), sample.own_Q, k)
            found.append(Found(kind, dim, searched_bytes(kind, dim), recall(exact, own)))
            step.done(number + 1)
        most = min(max(shortlists, default=0), len(documents_ND) - 1)
        funnels: tuple[tuple[str, VectorType, int], ...] = (
            ("prefix", "float32", min(short_dim, full)),
            ("signs", "binary", full - full % 8),
        )
        for name, short_kind, dim in funnels if most else ():
            both = (documents_ND, queries_QD)
            if short_kind == "binary":
                both = mixed(*both, dim)  # as the funnel in memory does
            ranked = rank(*both, short_kind, dim, most + 1)
            short = answers(ranked, sample.own_Q, most)
            for size in shortlists:
                # What is in the shortlist is ranked in full: of the exact answer, all that is there is found.
                share = recall(exact, [row[:size] for row in short])
                width = searched_bytes(short_kind, dim)
                found.append(Found(f"funnel by {name}, {size:,}", dim, width, share))
        step.done(len(ways) + 2)
    return found


def measure_table(sample: Sample, table: VectorSource, name: str, k: int) -> Found:
    """The recall of a serving table as it is, its rotation applied to the queries, among the sample's chunks.

    Raises:
        ModelError: It lacks most of the sample's chunks: it is of another state of the lake.
    """
    where = table.filter()
    order: list[pa.Array] = []
    parts: list[Matrix] = []
    for file in table.files(where):
        for x_Nd, keys in table.batches(file, table.dim, where, ["chunk_id"]):
            at = pc.index_in(keys.column("chunk_id").cast(pa.large_string()), value_set=sample.chunk_ids)
            parts.append(x_Nd[np.asarray(at.is_valid())])
            order.append(at.drop_null())
    rows_n = np.concatenate([np.asarray(one, dtype=np.int64) for one in order]) if order else np.empty(0, int)
    if 2 * len(rows_n) < len(sample.documents_ND):
        raise ModelError(
            f"'{name}' has {len(rows_n):,} of the {len(sample.documents_ND):,} chunks that were looked at",
            "Publish it again",
        )
    arranged = np.argsort(rows_n)
    documents_nd, rows_n = np.concatenate(parts)[arranged], rows_n[arranged]
    queries_Qd = table.query(sample.queries_QD, table.dim)
    exact = answers(
        rank(sample.documents_ND, sample.queries_QD, "float32", sample.documents_ND.shape[1], k + 1),
        sample.own_Q,
        k,
    )
    ranked = rank(documents_nd, queries_Qd, "float32", table.dim, k + 1)
    own = answers(Ranking(rows_n[ranked.rows_QK], ranked.scores_QK), sample.own_Q, k)
    return Found(name, table.dim, searched_bytes(table.type, table.dim), recall(exact, own))


def answers(ranking: Ranking, own_Q: npt.NDArray[np.int64], k: int) -> list[list[int]]:
    """The best k rows of each query, itself left out."""
    pairs = zip(ranking.rows_QK.tolist(), own_Q.tolist(), strict=True)
    return [[row for row in rows if row != own][:k] for rows, own in pairs]


def recall(exact: Sequence[Sequence[int]], found: Sequence[Sequence[int]]) -> float:
    """The share of all exact answers that were found."""
    hits = sum(len(set(a) & set(b)) for a, b in zip(exact, found, strict=True))
    return hits / max(1, sum(len(a) for a in exact))
