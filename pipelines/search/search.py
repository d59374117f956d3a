"""Search of a lake's vectors, exactly: the k nearest chunks to queries, with their text."""
# ruff: noqa: N803, N806  (array names carry their shape: x_QD)

from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn, Self

import numpy as np
import numpy.typing as npt
from pyiceberg.expressions import BooleanExpression

from pipelines.encoder.conf import ModelConf
from pipelines.errors import ConfigError, InputError, ModelError
from pipelines.lake import Lake
from pipelines.lake.faults import explained
from pipelines.lake.filters import equals, parsed_filter
from pipelines.lake.models import recorded_dimension, recorded_models
from pipelines.lake.scan import ScanFile
from pipelines.lake.vector_source import EMBEDDINGS, VectorSource
from pipelines.progress import Progress, Silent
from pipelines.search.choice import checked_dimension, choose_model
from pipelines.search.config import SearchConfig
from pipelines.search.hits import Hit, chunk_rows, made_hits
from pipelines.search.memory import Held
from pipelines.search.queries import Loader, Queries, load_encoder
from pipelines.search.scan import Ranking, scan_top, spread_top

if TYPE_CHECKING:
    from pipelines.search.indexed import Indexes


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
        dim: Dimension to compare in; None is the full one.
        source: Only chunks of this source.
        model: A model's key or name, to choose among several that the lake has embeddings of.
        progress: Told of the loading and of the rows looked at.

    Raises:
        As `Searcher.open` and `Searcher.search`.
    """
    return Searcher.open(lake, conf, model, progress).search(query, k, dim, source)


class Searcher:
    """Vectors of a lake and a loaded model, for many queries.

    Attributes:
        lake: Where the vectors are.
        conf: The model.
        source: The vectors, of the embeddings or of a serving table: as of one release or snapshot, or else
            as they are with each search.
        config: How they are looked through.
        progress: Told of the loading and of the rows looked at.
    """

    def __init__(
        self,
        lake: Lake,
        conf: ModelConf,
        source: VectorSource,
        precision: str,
        config: SearchConfig,
        progress: Progress,
        is_pinned: bool = False,
        loader: Loader = load_encoder,
    ) -> None:
        self.lake, self.conf, self.source = lake, conf, source
        self._is_pinned = is_pinned
        self.config, self.progress = config, progress
        self._queries = Queries(conf, precision, loader, progress)
        self._indexes: Indexes | None = None
        self._held: dict[tuple[int | None, int, str | None, str | None], Held] = {}

    @classmethod
    def open(
        cls,
        lake: Lake,
        conf: ModelConf | None = None,
        model: str | None = None,
        progress: Progress | None = None,
        table: str = EMBEDDINGS,
        as_of: str | None = None,
        config: SearchConfig | None = None,
        loader: Loader = load_encoder,
    ) -> Self:
        """Chooses the model and the vectors; torch is loaded with the first query.

        Args:
            lake: With embeddings.
            conf: The model; None takes that of the vectors.
            model: A model's key or name, to choose among several.
            progress: See the attribute.
            table: `embeddings`, or a serving table.
            as_of: A release's name or a snapshot's id; None is now.
            config: See the attribute.
            loader: Loads the model when it is needed; one that several searchers share must lock it.

        Raises:
            ModelError: No embeddings by the model, several that fit, or vectors that contradict their record.
            InputError: There is no such release or snapshot.
            CatalogError: The lake has no such table.
        """
        with explained(lake.config):
            recorded = recorded_models(lake.table(EMBEDDINGS).properties)
            if table != EMBEDDINGS:
                source = VectorSource.open(lake, table, as_of)
                if model not in (None, source.model, source.model.partition("@")[0]):
                    raise ModelError(f"'{table}' holds vectors by '{source.model}', not by '{model}'")
                model = source.model
            chosen, key = choose_model(recorded, conf, model)
            if table == EMBEDDINGS:
                source = VectorSource.open(lake, table, as_of, key)
            if recorded_dimension(lake.table(EMBEDDINGS).properties, key) != chosen.dimension:
                raise ModelError(f"the lake records another dimension for '{key}' than {chosen.dimension}")
        precision = str(recorded[key]["precision"])
        config, progress = config or SearchConfig(), progress or Silent()
        return cls(lake, chosen, source, precision, config, progress, as_of is not None, loader)

    def load(self) -> None:
        """Loads the model now, which the first query does otherwise.

        Raises:
            ModelError: Its files cannot be had, or are not those that the configuration names.
        """
        self._queries.load()

    def search(
        self,
        query: str,
        k: int = 10,
        dim: int | None = None,
        source: str | None = None,
        where: str | None = None,
        funnel: bool = False,
        index: bool = False,
    ) -> list[Hit]:
        """The k nearest chunks, best first; equal scores by chunk_id. Fewer where the lake has fewer.

        Raises:
            As `search_many`.
        """
        return self.search_many([query], k, dim, source, where, funnel, index)[0]

    def search_many(
        self,
        queries: Sequence[str],
        k: int = 10,
        dim: int | None = None,
        source: str | None = None,
        where: str | None = None,
        funnel: bool = False,
        index: bool = False,
    ) -> list[list[Hit]]:
        """The k nearest chunks for each query, the vectors being read once for all.

        Args:
            queries: What to look for; each gets the model's query prefix.
            k: Most hits for each.
            dim: Dimension to compare in; None is that of the stored vectors.
            source: Only chunks of this source.
            where: Only rows that match this filter over the table's columns, such as `lang = 'nl'`; a serving
                table has those that it was published with.
            funnel: Hold the vectors in memory, shortlist by short ones, and compare only those in full.
            index: Use the indexes of the table's partitions, where they are of the files that those have.

        Raises:
            InputError: A query is empty or longer than the model reads, or the lake has no such source.
            ConfigError: k is below 1, the vectors have no such dimension, or a filter's column is not there.
            ModelError: There are no vectors, others than their record says, or a damaged index.
        """
        if k < 1:
            raise ConfigError(f"a search gives at least 1 hit, not {k}")
        dimension = checked_dimension(self.conf, dim, self.source.dim, self.progress)
        if index and (funnel or dimension != self.source.dim):
            raise ConfigError(
                f"an index knows the vectors at {self.source.dim} dimensions", "Leave out --dim and --funnel"
            )
        for query in queries:
            self._queries.check(query)
        with explained(self.lake.config):
            self._refresh()
            rows = self._where(source, where)
            files = self.source.files(rows)
            if not files:
                self._complain(source)
            x_Qd = self.source.query(self._queries.vectors(queries), dimension)
            wanted = k
            while True:
                if index:
                    ranking = self._by_index().top(files, rows, where is not None, x_Qd, wanted)
                else:
                    ranking = self._ranking(files, rows, (source, where), x_Qd, wanted, funnel)
                chunks = chunk_rows(self.lake, [one for top in ranking for one in top], self._moment())
                found = [[one for one in top if one.chunk_id in chunks][:k] for top in ranking]
                # Some of the best may be vectors of chunks that are gone: then look further down.
                if all(len(a) == k or len(b) < wanted for a, b in zip(found, ranking, strict=True)):
                    return [made_hits(top, chunks) for top in found]
                wanted *= 4

    def _refresh(self) -> None:
        """Looks at the table as it is now, unless the search is as of a release."""
        if not self._is_pinned:
            name, model = self.source.name, self.source.model
            self.source = VectorSource.open(self.lake, name, None, model if name == EMBEDDINGS else None)
            if self.source.model != model:
                raise ModelError(
                    f"'{name}' was published again, with vectors by '{self.source.model}'", "Open it anew"
                )

    def _where(self, source: str | None, where: str | None) -> BooleanExpression | None:
        more = [] if source is None else [equals("source", source)]
        if where:
            more.append(parsed_filter(self.source.table(), where))
        return self.source.filter(*more)

    def _ranking(
        self,
        files: Sequence[ScanFile],
        rows: BooleanExpression | None,
        filters: tuple[str | None, str | None],
        x_Qd: npt.NDArray[np.float32],
        k: int,
        funnel: bool,
    ) -> Ranking:
        dimension = x_Qd.shape[1]
        if funnel:
            key = (self.source.snapshot_id, dimension, *filters)
            if key not in self._held:
                self._held = {key: self._hold(files, rows, dimension)}
            held = self._held[key]
            return [held.funnel(x_d, k, self.config.shortlist) for x_d in x_Qd]
        with self.progress.step("searching", sum(file.rows for file in files), "vectors") as step:
            if self.config.workers:
                return spread_top(self.source, files, rows, x_Qd, k, self.config.workers, step)
            return scan_top(self.source, files, rows, x_Qd, k, step)

    def _by_index(self) -> "Indexes":
        from pipelines.search.indexed import Indexes  # FAISS, which other searches need not load

        place = (self.source.metadata_location, self.source.snapshot_id)
        if self._indexes is None or place != (
            self._indexes.source.metadata_location,
            self._indexes.source.snapshot_id,
        ):
            self._indexes = Indexes(self.lake, self.source, self.config, self.progress)
        return self._indexes

    def _hold(self, files: Sequence[ScanFile], rows: BooleanExpression | None, dimension: int) -> Held:
        with self.progress.step("reading vectors", None, "vectors"):
            return Held.read(self.source, files, dimension, self.config, rows)

    def _moment(self) -> int | None:
        """When a snapshot of the past was made, in milliseconds."""
        if self.source.is_current or self.source.snapshot_id is None:
            return None
        snapshot = self.source.table().snapshot_by_id(self.source.snapshot_id)
        return snapshot.timestamp_ms if snapshot else None

    def _complain(self, source: str | None) -> NoReturn:
        files = self.source.files(self.source.filter())
        if not files:
            raise ModelError(
                f"the lake has no embeddings by '{self.source.model}' yet", "Run 'embedlake embed'"
            )
        if source is None:
            raise InputError("no row can match the filter: no file's statistics do", "Loosen it")
        sources = self.source.sources(files)
        told = f"It has those of {', '.join(sources[:10])}" if sources else ""
        raise InputError(f"the lake has no embeddings of a source '{source}'", told)
