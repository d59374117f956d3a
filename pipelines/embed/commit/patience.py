"""Waits for an object store or a catalogue that does not answer."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from pipelines.errors import CatalogError, StorageError
from pipelines.lake.faults import is_lasting

T = TypeVar("T")
_PAUSE_SECONDS = 2.0


@dataclass(frozen=True)
class Patience:
    """How long to wait.

    Attributes:
        seconds: From the first failure; 0 does not wait.
        pause: Waits between two tries.
    """

    seconds: float = 0.0
    pause: Callable[[float], None] = time.sleep

    def outlast(self, step: Callable[[], T]) -> T:
        """What `step` gives, repeated while it fails for want of the store or the catalogue.

        What no waiting mends, such as a full disk or a refused credential, is raised at once.

        Raises:
            CatalogError: The catalogue did not answer for so long.
            StorageError: The object store or disk did not.
        """
        since: float | None = None
        while True:
            try:
                return step()
            except (CatalogError, StorageError) as error:
                since = time.monotonic() if since is None else since
                if is_lasting(error) or time.monotonic() - since >= self.seconds:
                    raise
            self.pause(_PAUSE_SECONDS)
