"""Vectors held in memory, for many queries: an exact look at all of them, and the funnel.

The funnel shortlists by short vectors, which are read in a fraction of the time, and compares only the
shortlist in full (Matryoshka retrieval, arXiv 2205.13147, section 4.3).
"""
# ruff: noqa: N803, N806, N815  (array names carry their shape: x_ND)

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.expressions import BooleanExpression

from pipelines.encoder.matryoshka import slice_renormalise
from pipelines.encoder.quantise import encode, hamming
from pipelines.encoder.rotation import Moment, Rotation, mixing
from pipelines.lake.scan import ScanFile
from pipelines.lake.vector_source import KEYS, VectorSource
from pipelines.search.config import SearchConfig
from pipelines.search.top_k import Ranked, exact_scores

# More than a float32 dot product of up to 4,096 coordinates is off.
_SLACK = 1e-4
# The best of every 64th score bound the best of all from below, and take 1/64 of the time to find.
_SAMPLE = 64
_BLOCK = 16_384  # vectors turned at a time
_FIT_ROWS = 50_000  # a choice, not measured: many times the dimension, and fitted in a moment

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Held:
    """N vectors in memory.

    Attributes:
        x_Nd: float32, contiguous, rows of length 1 or 0.
        keys: chunk_id, doc_id, source, and the columns that were asked for.
        short_Ns: Vectors of the shortlist, float32 of length 1; None where it is by signs.
        codes_NB: Signs, packed; None where it is by short vectors.
        rotation: Applied to queries before they are cut to short ones.
    """

    x_Nd: npt.NDArray[np.float32]
    keys: pa.Table
    short_Ns: npt.NDArray[np.float32] | None
    codes_NB: npt.NDArray[np.uint8] | None
    rotation: Rotation | None

    @classmethod
    def read(
        cls,
        source: VectorSource,
        files: Sequence[ScanFile],
        dim: int,
        config: SearchConfig,
        where: BooleanExpression | None = None,
        columns: Sequence[str] = (),
    ) -> "Held":
        """Reads files' vectors at a dimension, and makes their short ones."""
        most = sum(file.rows for file in files)
        x_Nd = np.empty((most, dim), dtype=np.float32)
        keys = []
        rows = 0
        for file in files:
            for x_nd, batch in source.batches(file, dim, where, [*KEYS, *columns]):
                x_Nd[rows : rows + len(x_nd)] = slice_renormalise(x_nd, dim)
                rows += len(x_nd)
                keys.append(batch)
        held = pa.table({name: pa.array([], pa.large_string()) for name in KEYS})
        if keys:  # in one piece: of a million rows in 64 pieces, a take of ten costs 10 ms
            held = pa.Table.from_batches(keys).combine_chunks()
        # Of binary codes the coordinates were mixed: the first hold no more than the others.
        rotated = None if source.type == "binary" else source.rotation
        return cls.of(x_Nd[:rows], held, config, rotated)

    @classmethod
    def of(
        cls,
        x_Nd: npt.NDArray[np.float32],
        keys: pa.Table,
        config: SearchConfig,
        rotated: Rotation | None = None,
    ) -> "Held":
        """Holds vectors of length 1.

        Args:
            x_Nd: They.
            keys: Of each.
            config: Says what the funnel's shortlist is made by.
            rotated: The rotation that they were published with.
        """
        dim = min(config.funnel_dim, x_Nd.shape[1])
        if config.funnel == "binary":
            turn = mixing(x_Nd.shape[1], x_Nd.shape[1] - x_Nd.shape[1] % 8)
            return cls(x_Nd, keys, None, _signs(x_Nd, turn), turn)
        if not config.funnel_rotate or rotated is not None or len(x_Nd) == 0:
            return cls(x_Nd, keys, slice_renormalise(x_Nd, dim), None, None)
        sample_nd = x_Nd[:: max(1, len(x_Nd) // _FIT_ROWS)]
        rotation = Rotation.fit(Moment.of(sample_nd))
        # Not of length 1: what is missing of a vector's energy is part of its score.
        short_Ns: npt.NDArray[np.float32] = x_Nd @ rotation.matrix_DD[:dim].T
        return cls(x_Nd, keys, short_Ns, None, rotation)

    @property
    def bytes(self) -> int:
        """Of all arrays."""
        arrays = (self.x_Nd, self.short_Ns, self.codes_NB)
        return sum(array.nbytes for array in arrays if array is not None) + int(self.keys.nbytes)

    def exact(self, x_d: npt.NDArray[np.float32], k: int, mask_N: Mask | None = None) -> list[Ranked]:
        """The k nearest of all rows, or of those of a mask; best first, equal scores by chunk_id."""
        scores_N = self.x_Nd @ x_d
        if mask_N is not None:
            scores_N[~mask_N] = -np.inf
        return self._best(_at_least(scores_N, k), x_d, k)

    def funnel(
        self, x_d: npt.NDArray[np.float32], k: int, shortlist: int, mask_N: Mask | None = None
    ) -> list[Ranked]:
        """The k nearest of the rows that the short vectors put first."""
        if self.short_Ns is not None:
            short_s = self._short(x_d)
            scores_N = self.short_Ns @ short_s
        else:
            assert self.codes_NB is not None
            assert self.rotation is not None
            asked_B = _signs(x_d[None, :], self.rotation)[0]
            scores_N = -hamming(self.codes_NB, asked_B).astype(np.float32)
        if mask_N is not None:
            scores_N[~mask_N] = -np.inf
        wanted = max(k, shortlist)
        rows_n = _at_least(scores_N, wanted, slack=0.0)
        if len(rows_n) > wanted:
            order = np.argpartition(-scores_N[rows_n], wanted - 1)[:wanted]
            rows_n = rows_n[order]
        return self._best(rows_n, x_d, k)

    def _short(self, x_d: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        assert self.short_Ns is not None
        dim = self.short_Ns.shape[1]
        short_1s = slice_renormalise(x_d[None, :], dim)
        if self.rotation is not None:
            short_1s = x_d[None, :] @ self.rotation.matrix_DD[:dim].T
        short_s: npt.NDArray[np.float32] = short_1s[0]
        return short_s

    def _best(self, rows_n: npt.NDArray[np.int64], x_d: npt.NDArray[np.float32], k: int) -> list[Ranked]:
        """The k best of some rows, their scores computed anew, each by itself in float64."""
        rows_n = rows_n[_at_least(self.x_Nd[rows_n] @ x_d, k)]
        scores_n = exact_scores(self.x_Nd[rows_n], x_d)
        taken = self.keys.select(KEYS).take(pa.array(rows_n))
        columns = (taken.column(name).to_pylist() for name in KEYS)
        return sorted(Ranked(-score, *key) for score, *key in zip(scores_n.tolist(), *columns, strict=True))[
            :k
        ]


def _at_least(scores_N: npt.NDArray[np.float32], k: int, slack: float = _SLACK) -> npt.NDArray[np.int64]:
    """Rows that hold the k best scores, and more; rows without a score never."""
    bar = -np.inf
    sample_n = scores_N[::_SAMPLE]
    sample_n = sample_n[np.isfinite(sample_n)]
    if len(sample_n) > k:
        bar = float(np.partition(sample_n, -k)[-k])
        rows_n = np.flatnonzero(scores_N >= bar - slack)
        if len(rows_n) > 4 * k:  # 64 times as many, as the sample has it
            bar = float(np.partition(scores_N[rows_n], -k)[-k])
            rows_n = rows_n[scores_N[rows_n] >= bar - slack]
        return rows_n
    finite_n = np.flatnonzero(np.isfinite(scores_N))
    if len(finite_n) > k:
        bar = float(np.partition(scores_N[finite_n], -k)[-k])
        finite_n = finite_n[scores_N[finite_n] >= bar - slack]
    return finite_n


def _signs(x_Nd: npt.NDArray[np.float32], turn: Rotation) -> npt.NDArray[np.uint8]:
    usable = x_Nd.shape[1] - x_Nd.shape[1] % 8
    codes = [np.empty((0, usable // 8), dtype=np.uint8)]
    for start in range(0, len(x_Nd), _BLOCK):
        codes.append(encode(turn.apply(x_Nd[start : start + _BLOCK])[:, :usable], "binary")[0])
    return np.concatenate(codes)


def mask_of(keys: pa.Table, column: str, value: str) -> Mask:
    """The rows whose column has a value."""
    mask: Mask = np.asarray(pc.equal(keys[column], value).fill_null(False))
    return mask
