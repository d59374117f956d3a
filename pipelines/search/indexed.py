"""Search by the indexes of a table, where they are of the files that it has; elsewhere at all rows.

So an index is never stale in silence: of a partition that has changed since, or was never indexed, every row
is looked at, and the search says of how many.
"""
# ruff: noqa: N803, N806  (array names carry their shape: x_Qd)

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from uuid import uuid4

import faiss
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyiceberg.expressions import BooleanExpression

from pipelines.errors import ModelError
from pipelines.lake import Lake
from pipelines.lake.filters import all_of, equals
from pipelines.lake.scan import ScanFile
from pipelines.lake.tables import INDEXES
from pipelines.lake.vector_source import KEYS, VectorSource
from pipelines.progress import Progress
from pipelines.search.config import SearchConfig
from pipelines.search.index import Entry, by_partition, files_hash, recorded
from pipelines.search.scan import Ranking, merged, scan_top
from pipelines.search.top_k import Ranked


@dataclass(frozen=True)
class Loaded:
    """An index in memory, or mapped from the cache folder.

    Attributes:
        index: FAISS' own.
        keys: chunk_id, doc_id and source of its rows.
    """

    index: faiss.Index
    keys: pa.Table


class Indexes:
    """The indexes of one table's vectors, each loaded when it is first searched.

    Attributes:
        lake: The lake.
        source: The vectors, as of one snapshot.
        config: How many lists are looked into.
        progress: Told of partitions without an index.
    """

    def __init__(self, lake: Lake, source: VectorSource, config: SearchConfig, progress: Progress) -> None:
        self.lake, self.source, self.config, self.progress = lake, source, config, progress
        self._entries = {entry.partition: entry for entry in recorded(lake, source)}
        self._loaded: dict[str, Loaded] = {}

    def top(
        self,
        files: Sequence[ScanFile],
        where: BooleanExpression | None,
        is_filtered: bool,
        x_Qd: npt.NDArray[np.float32],
        k: int,
    ) -> Ranking:
        """The k nearest rows for each query, about: by indexes, and exactly where there is none.

        Args:
            files: Those that may hold rows of `where`.
            where: Only rows that match it.
            is_filtered: Whether it asks for more than the model and the partition: then no index can answer.
            x_Qd: Queries of length 1, at the dimension of the stored vectors.
            k: Most rows for each.
        """
        parts: list[Ranking] = []
        exact: list[ScanFile] = []
        old = 0
        partitions = by_partition(files)
        for values, own in partitions.items():
            entry = self._entries.get(json.dumps(list(values), default=str))
            if is_filtered or entry is None or entry.files != files_hash(own):
                exact += own
                old += entry is not None
            else:
                parts.append(self._search(entry, x_Qd, k))
        if exact:
            self.progress.say(self._told(len(partitions) - len(parts), len(partitions), old, is_filtered))
            parts.append(scan_top(self.source, exact, where, x_Qd, k))
        return merged(parts, k) if parts else [[] for _ in x_Qd]

    def _told(self, without: int, count: int, old: int, is_filtered: bool) -> str:
        if is_filtered:
            return "the filter is on rows, which an index does not know: all rows are looked at"
        made = sorted({entry.snapshot_id for entry in self._entries.values()})
        reason = f"{old} changed since snapshot {made[-1]}, when it was built" if old else "none was built"
        return (
            f"{without} of {count} partitions have no index of the files that they have ({reason}): all "
            f"their rows are looked at. 'embedlake index --table {self.source.name}' builds it"
        )

    def _search(self, entry: Entry, x_Qd: npt.NDArray[np.float32], k: int) -> Ranking:
        loaded = self._load(entry)
        faiss.ParameterSpace().set_index_parameter(loaded.index, "nprobe", self.config.index_probes)
        score_Qk, row_Qk = loaded.index.search(np.ascontiguousarray(x_Qd), min(k, entry.rows))
        ranking = []
        for scores, rows in zip(score_Qk, row_Qk, strict=True):
            scores, rows = scores[rows >= 0], rows[rows >= 0]
            taken = loaded.keys.take(pa.array(rows))
            columns = (taken.column(name).to_pylist() for name in KEYS)
            ranking.append(
                sorted(Ranked(-float(score), *key) for score, *key in zip(scores, *columns, strict=True))
            )
        return ranking

    def _load(self, entry: Entry) -> Loaded:
        if entry.index_id not in self._loaded:
            folder = index_cache() / entry.index_id
            if not folder.is_dir():
                self._fetch(entry, folder)
            # Mapped, not read: a query touches the lists that it looks into.
            index = faiss.read_index(str(folder / "index.faiss"), faiss.IO_FLAG_MMAP)
            with pa.memory_map(str(folder / "keys.arrow")) as stream:
                keys = pa.ipc.open_file(stream).read_all()
            self._loaded[entry.index_id] = Loaded(index, keys)
        return self._loaded[entry.index_id]

    def _fetch(self, entry: Entry, folder: Path) -> None:
        """Brings an index into the cache folder; its data are checked, since FAISS trusts what it reads."""
        where = all_of(equals("table_name", self.source.name), equals("partition", entry.partition))
        scan = self.lake.table(INDEXES.name).scan(
            row_filter=where, selected_fields=("index_id", "piece", "data")
        )
        rows = [row for row in scan.to_arrow().to_pylist() if row["index_id"] == entry.index_id]
        data = b"".join(row["data"] for row in sorted(rows, key=lambda row: row["piece"]))
        if blake2b(data, digest_size=16).hexdigest() != entry.index_id:
            raise ModelError(
                f"the index of partition {entry.partition} of '{self.source.name}' is not what was written",
                f"Build it again: embedlake index --table {self.source.name} --rebuild",
            )
        length = int.from_bytes(data[:8], "little")
        made = folder.with_name(f"{folder.name}-{uuid4().hex[:8]}")
        made.mkdir(parents=True)
        (made / "index.faiss").write_bytes(data[8 : 8 + length])
        (made / "keys.arrow").write_bytes(data[8 + length :])
        try:
            made.rename(folder)  # whole or not at all, whoever else fetches it
        except OSError:
            if not folder.is_dir():
                raise


def index_cache() -> Path:
    """The folder of fetched indexes, each by its hash; may be removed at any time."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "embedlake" / "indexes"
