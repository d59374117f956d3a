"""Exact top-k over the embeddings table: every vector is looked at, one file in memory at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, Self

import numpy as np
import numpy.typing as npt
from pyiceberg.expressions import BooleanExpression
from pyiceberg.table import Table

from pipelines.encoder.conf import ModelConf
from pipelines.encoder.matryoshka import slice_renormalise
from pipelines.encoder.tokenizer import Tokenizer
from pipelines.errors import ConfigError, InputError, ModelError
from pipelines.lake import Lake
from pipelines.lake.faults import explained
from pipelines.lake.filters import all_of, equals, is_one_of
from pipelines.lake.models import recorded_dimension, recorded_models
from pipelines.lake.scan import ScanFile, read_batches, read_file, scan_files
from pipelines.lake.vectors import as_matrix
from pipelines.progress import Progress, Silent
from pipelines.search.choice import checked_dimension, choose_model
from pipelines.search.top_k import Ranked, TopK

if TYPE_CHECKING:
    from pipelines.encoder.model import Encoder

_KEYS = ["chunk_id", "doc_id", "source"]
_CHUNK = ["chunk_id", "ordinal", "text", "char_start", "char_end", "metadata"]


@dataclass(frozen=True)
class Hit:
    """A chunk that was found.

    Attributes:
        rank: From 1.
        score: Cosine of its vector and the query's, at the dimension asked for.
        chunk_id: The chunk.
        doc_id: Its document.
        source: The document's source.
        ordinal: Its place in the document, from 0.
        text: Its text.
        char_start: First character in the normalised document, in code points.
        char_end: One past the last.
        metadata: The document's further columns.
    """

    rank: int
    score: float
    chunk_id: str
    doc_id: str
    source: str
    ordinal: int
    text: str
    char_start: int
    char_end: int
    metadata: dict[str, str | None]


def search(
    lake: Lake,
    conf: ModelConf | None,
    query: str,
    k: int = 10,
    dim: int | None = None,
    source: str | None = None,
    model: str | None = None,
    progress: Progress | None = None,
) -> list[Hit]:
    """The k chunks whose vectors are nearest to the query's: one `Searcher.search`.

    Args:
        lake: With embeddings.
        conf: The model; None takes the lake's only one.
        query: What to look for; gets the model's query prefix.
        k: How many hits at most.
        dim: Dimension to compare in, one of the model's; None is the full one.
        source: Only chunks of this source.
        model: A model's key or name, to choose among several that the lake has embeddings of.
        progress: Told of the loading and of the rows looked at.

    Raises:
        InputError: The query is empty or longer than the model reads.
        ConfigError: k is below 1, or the model has no such dimension.
        ModelError: No embeddings by the model, several that fit, or vectors that contradict their record.
    """
    return Searcher.open(lake, conf, model, progress).search(query, k, dim, source)


class Searcher:
    """A lake and a loaded model, for many queries.

    Attributes:
        lake: Where the embeddings are.
        conf: The model.
        key: The model's key.
        progress: Told of the loading and of the rows looked at.
    """

    def __init__(self, lake: Lake, conf: ModelConf, key: str, precision: str, progress: Progress) -> None:
        self.lake = lake
        self.conf = conf
        self.key = key
        self.progress = progress
        self._precision = precision
        self._tokenizer = Tokenizer.load(conf)
        self._encoder: Encoder | None = None

    @classmethod
    def open(
        cls,
        lake: Lake,
        conf: ModelConf | None = None,
        model: str | None = None,
        progress: Progress | None = None,
    ) -> Self:
        """Chooses the model; torch is loaded with the first query.

        Raises:
            ModelError: As `search`.
            CatalogError: The lake has no embeddings table.
        """
        recorded = recorded_models(lake.table("embeddings").properties)
        chosen, key = choose_model(recorded, conf, model)
        return cls(lake, chosen, key, str(recorded[key]["precision"]), progress or Silent())

    def search(self, query: str, k: int = 10, dim: int | None = None, source: str | None = None) -> list[Hit]:
        """The k nearest chunks, best first; equal scores by chunk_id. Fewer where the lake has fewer.

        Raises:
            As `search`, the function.
        """
        if k < 1:
            raise ConfigError(f"a search gives at least 1 hit, not {k}")
        dimension = checked_dimension(self.conf, dim)
        self._check_query(query)
        with explained(self.lake.config):
            embeddings = self.lake.table("embeddings")
            if recorded_dimension(embeddings.properties, self.key) != self.conf.dimension:
                raise ModelError(
                    f"the lake records another dimension for '{self.key}' than {self.conf.dimension}"
                )
            of_model = equals("model", self.key)
            where = of_model if source is None else all_of(of_model, equals("source", source))
            files = scan_files(embeddings, where)
            if not files:
                self._complain(scan_files(embeddings, of_model), source)
            query_d = slice_renormalise(self._vector(query)[None, :], dimension)[0]
            wanted = k
            while True:
                ranked = self._ranked(embeddings, files, where, query_d, wanted)
                chunks = self._chunks(ranked)
                found = [rank for rank in ranked if rank.chunk_id in chunks][:k]
                if len(found) == k or len(ranked) < wanted:
                    return [
                        _hit(place, rank, chunks[rank.chunk_id]) for place, rank in enumerate(found, start=1)
                    ]
                # Some of the best are embeddings of chunks that are gone: look further down.
                wanted *= 4

    def _check_query(self, query: str) -> None:
        if not query.strip():
            raise InputError("the query is empty", "Say what to look for")
        length = len(self._tokenizer.model_inputs([query], self.conf.prefix("query"))[0])
        if length > self.conf.max_tokens:
            raise InputError(
                f"the query has {length} tokens with its prefix",
                f"Shorten it: '{self.conf.name}' reads {self.conf.max_tokens}",
            )

    def _vector(self, query: str) -> npt.NDArray[np.float32]:
        """The query's full vector, float32 of length 1."""
        if self._encoder is None:
            with self.progress.step("loading the model", None, "models"):
                from pipelines.encoder.model import Encoder  # torch: seconds, and no check above needs it

                self._encoder = Encoder.load(self.conf, precision=self._precision)
        vector: npt.NDArray[np.float32] = self._encoder.encode_texts([query], "query")[0]
        return vector

    def _ranked(
        self,
        embeddings: Table,
        files: Sequence[ScanFile],
        where: BooleanExpression,
        query_d: npt.NDArray[np.float32],
        k: int,
    ) -> list[Ranked]:
        top = TopK(k, query_d)
        rows = 0
        with self.progress.step("searching", sum(file.rows for file in files), "vectors") as step:
            for file in files:
                for batch in read_batches(embeddings, file, [*_KEYS, "embedding"], where):
                    top.add(as_matrix(batch.column("embedding"), self.conf.dimension), batch.select(_KEYS))
                rows += file.rows
                step.done(rows)
        return top.best

    def _complain(self, files: Sequence[ScanFile], source: str | None) -> NoReturn:
        if not files:
            raise ModelError(f"the lake has no embeddings by '{self.key}' yet", "Run 'embedlake embed'")
        sources = sorted({str(file.partition[1]) for file in files})
        raise InputError(
            f"the lake has no embeddings of a source '{source}'", f"It has those of {', '.join(sources[:10])}"
        )

    def _chunks(self, ranked: Sequence[Ranked]) -> dict[str, dict[str, Any]]:
        """The ranked chunks' rows, by chunk_id; those that are gone are not in it."""
        table = self.lake.table("chunks")
        rows: dict[str, dict[str, Any]] = {}
        for source in sorted({rank.source for rank in ranked}):
            inside = [rank for rank in ranked if rank.source == source]
            wanted = all_of(
                equals("source", source),
                is_one_of("doc_id", (rank.doc_id for rank in inside)),  # prunes buckets
                is_one_of("chunk_id", (rank.chunk_id for rank in inside)),
            )
            for file in scan_files(table, wanted):
                for row in read_file(table, file, _CHUNK, wanted).to_pylist():
                    rows[row["chunk_id"]] = row
        return rows


def _hit(place: int, rank: Ranked, chunk: dict[str, Any]) -> Hit:
    return Hit(
        rank=place,
        score=-rank.distance,
        chunk_id=rank.chunk_id,
        doc_id=rank.doc_id,
        source=rank.source,
        ordinal=chunk["ordinal"],
        text=chunk["text"],
        char_start=chunk["char_start"],
        char_end=chunk["char_end"],
        metadata=dict(chunk["metadata"] or []),
    )
