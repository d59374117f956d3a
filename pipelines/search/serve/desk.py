"""Answers questions: keeps a few searchers open, and one model in memory for all of them.

A searcher is used by one thread at a time, and so is a model; questions to different tables only wait for
each other while their queries are encoded.
"""

import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Lock
from time import perf_counter

import numpy as np
import numpy.typing as npt

from pipelines.encoder.conf import ModelConf
from pipelines.errors import InputError, ModelError
from pipelines.lake import Lake
from pipelines.lake.tables import PUBLISHED_PROPERTY
from pipelines.lake.vector_source import EMBEDDINGS, VectorSource
from pipelines.progress import Silent
from pipelines.search.choice import conf_for
from pipelines.search.config import SearchConfig
from pipelines.search.hits import Hit
from pipelines.search.queries import Loader, QueryEncoder, load_encoder
from pipelines.search.search import Searcher
from pipelines.search.serve.question import Question

# A searcher may hold the vectors of a funnel, so not many.
_MOST_OPEN = 4
_NAME = re.compile(r"\w{1,200}")


@dataclass(frozen=True)
class Answer:
    """What a question gives.

    Attributes:
        hits: Chunks, the best first.
        table: That was searched.
        snapshot: Of the table, as text: 64 bits are too many for a number of JavaScript.
        model: The model's key.
        dim: Dimension that was compared in.
        seconds: That it took, waiting for others included.
        notes: What the searcher had to say about it.
    """

    hits: list[Hit]
    table: str
    snapshot: str | None
    model: str
    dim: int
    seconds: float
    notes: list[str]


class _Notes(Silent):
    """Keeps what a searcher says, for the answer; its steps are nobody's."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        """Keeps the line."""
        self.lines.append(line)


@dataclass
class _Place:
    """A searcher, once it is open, and who may use it."""

    lock: Lock = field(default_factory=Lock)
    searcher: Searcher | None = None
    notes: _Notes = field(default_factory=_Notes)


class _SharedEncoder:
    """One model for several searchers."""

    def __init__(self, encoder: QueryEncoder) -> None:
        self._encoder = encoder
        self._lock = Lock()

    def encode_texts(self, texts: Sequence[str], role: str) -> npt.NDArray[np.float32]:
        """As the model does, one caller at a time."""
        with self._lock:
            return self._encoder.encode_texts(texts, role)


class Desk:
    """Answers questions about one lake; may be asked by many threads.

    Attributes:
        lake: The lake.
        conf: The model that its embeddings are searched by.
        config: How they are looked through.
    """

    def __init__(
        self,
        lake: Lake,
        conf: ModelConf,
        config: SearchConfig | None = None,
        loader: Loader = load_encoder,
    ) -> None:
        self.lake, self.conf, self.config = lake, conf, config or SearchConfig()
        self._loader = loader
        self._places: OrderedDict[tuple[str, str | None], _Place] = OrderedDict()
        self._encoders: dict[tuple[str, str], QueryEncoder] = {}
        self._lock = Lock()
        self._loading = Lock()

    def load(self, table: str) -> None:
        """Loads the model that a table is searched by, which its first question does otherwise.

        Raises:
            As `Searcher.open` and `Searcher.load`.
        """
        place = self._place(table, None)
        with place.lock:
            self._opened(place, table, None).load()

    def answer(self, question: Question) -> Answer:
        """Searches.

        Raises:
            InputError: There is no such table, release or snapshot; and as `Searcher.search`.
            ConfigError, ModelError, CatalogError, StorageError: As `Searcher.open` and `Searcher.search`.
        """
        started = perf_counter()
        try:
            return self._answer(question, started)
        except ModelError:
            # The table may hold another model's vectors by now, which only a new searcher can read.
            if not self._forget(question):
                raise
        return self._answer(question, started)

    def _answer(self, question: Question, started: float) -> Answer:
        place = self._place(question.table, question.as_of)
        with place.lock:
            searcher = self._opened(place, question.table, question.as_of)
            place.notes.lines.clear()
            hits = searcher.search(
                question.query, question.k, question.dim, question.source, question.where, question.funnel
            )
            snapshot = searcher.source.snapshot_id
            return Answer(
                hits=hits,
                table=question.table,
                snapshot=None if snapshot is None else str(snapshot),
                model=searcher.source.model,
                dim=question.dim or searcher.source.dim,
                seconds=round(perf_counter() - started, 3),
                notes=list(place.notes.lines),
            )

    def _place(self, table: str, as_of: str | None) -> _Place:
        with self._lock:
            place = self._places.setdefault((table, as_of), _Place())
            self._places.move_to_end((table, as_of))
            while len(self._places) > _MOST_OPEN:
                self._places.popitem(last=False)  # whoever uses it still has it
            return place

    def _forget(self, question: Question) -> bool:
        """Whether there was an open searcher, which may be out of date."""
        with self._lock:
            place = self._places.pop((question.table, question.as_of), None)
            return place is not None and place.searcher is not None

    def _opened(self, place: _Place, table: str, as_of: str | None) -> Searcher:
        if place.searcher is None:
            conf = self.conf
            if table != EMBEDDINGS:
                self._check_table(table)
                conf = conf_for(conf, VectorSource.open(self.lake, table, as_of).model)
            place.searcher = Searcher.open(
                self.lake,
                conf,
                progress=place.notes,
                table=table,
                as_of=as_of,
                config=self.config,
                loader=self._encoder,
            )
        return place.searcher

    def _check_table(self, name: str) -> None:
        """A name that comes from outside must be that of a serving table, before it is opened."""
        is_there = _NAME.fullmatch(name) is not None and self.lake.exists(name)
        if not is_there or PUBLISHED_PROPERTY not in self.lake.table(name).properties:
            raise InputError(
                f"the lake has no table '{name}' that can be searched",
                "Name one that 'embedlake publish' made, or 'embeddings'",
            )

    def _encoder(self, conf: ModelConf, precision: str) -> QueryEncoder:
        key = (conf.name, precision)
        with self._loading:
            if key not in self._encoders:
                self._encoders[key] = _SharedEncoder(self._loader(conf, precision))
            return self._encoders[key]
