"""Queries: whether they can be put to a model, and their vectors."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pipelines.encoder.conf import ModelConf
from pipelines.encoder.tokenizer import Tokenizer
from pipelines.errors import InputError
from pipelines.progress import Progress

# Of tokens: English queries have next to none, and Russian ones by a vocabulary of English nearly all.
_UNFAMILIAR = 0.5


class QueryEncoder(Protocol):
    """What makes vectors of queries: an `Encoder`, or one that several searchers share."""

    def encode_texts(self, texts: Sequence[str], role: str) -> npt.NDArray[np.float32]:
        """Vectors of length 1, a row a text, each prefixed as its role asks."""


Loader = Callable[[ModelConf, str], QueryEncoder]


def load_encoder(conf: ModelConf, precision: str) -> QueryEncoder:
    """Loads a model for queries.

    Raises:
        ModelError: Its files cannot be had, or are not those that the configuration names.
    """
    from pipelines.encoder.model import Encoder  # torch: seconds, and no check of a query needs it

    return Encoder.load(conf, precision=precision)


class Queries:
    """Checks queries and makes their vectors; the model is loaded with the first of them.

    Attributes:
        conf: The model.
        progress: Told of the loading, and of queries that the model hardly knows.
    """

    def __init__(self, conf: ModelConf, precision: str, loader: Loader, progress: Progress) -> None:
        self.conf = conf
        self.progress = progress
        self._precision = precision
        self._loader = loader
        self._tokenizer = Tokenizer.load(conf)
        self._encoder: QueryEncoder | None = None

    def check(self, query: str) -> None:
        """Refuses what cannot be put to the model, and says so where it hardly knows the words.

        Raises:
            InputError: The query is empty, or longer than the model reads.
        """
        if not query.strip():
            raise InputError("the query is empty", "Say what to look for")
        length = len(self._tokenizer.model_inputs([query], self.conf.prefix("query"))[0])
        if length > self.conf.max_tokens:
            raise InputError(
                f"the query has {length} tokens with its prefix",
                f"Shorten it: '{self.conf.name}' reads {self.conf.max_tokens}",
            )
        unfamiliar = self._tokenizer.unfamiliar(query)
        if unfamiliar > _UNFAMILIAR:
            self.progress.say(
                f"'{self.conf.name}' hardly knows the query's words ({unfamiliar:.0%} of its tokens are "
                "unknown or single letters): what it finds may have little to do with them"
            )

    def vectors(self, queries: Sequence[str]) -> npt.NDArray[np.float32]:
        """The queries' full vectors, x_QD float32 of length 1."""
        return self.load().encode_texts(list(queries), "query")

    def load(self) -> QueryEncoder:
        """The model, loaded where it is not.

        Raises:
            ModelError: Its files cannot be had, or are not those that the configuration names.
        """
        if self._encoder is None:
            with self.progress.step("loading the model", None, "models"):
                self._encoder = self._loader(self.conf, self._precision)
        return self._encoder
