"""How long a file's rows are, from its statistics: enough to cut it evenly without opening it. Pure."""
# ruff: noqa: N806  (array names carry their shape: x_N)

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Lengths:
    """Rows sorted by length, of which the shortest, the longest and the sum are known.

    Row i of n is taken to have `shortest + (longest - shortest) * (i / n) ** power` tokens, with the power
    that gives the sum: the simplest ascending curve with these three.

    Attributes:
        rows: How many.
        shortest: Tokens of the first.
        longest: Tokens of the last.
        tokens: Of all.
    """

    rows: int
    shortest: int
    longest: int
    tokens: int

    @property
    def power(self) -> float:
        """Of the curve; 1 is a straight line, more is many short rows and a few long ones."""
        span, mean = self.longest - self.shortest, self.tokens / max(1, self.rows)
        if span <= 0 or mean <= self.shortest:
            return 1.0
        return min(50.0, max(0.02, span / (mean - self.shortest) - 1))

    def at(self, x_N: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:  # noqa: N803
        """Tokens of rows at these shares (0 to 1) of the file."""
        lengths: npt.NDArray[np.float64] = self.shortest + (self.longest - self.shortest) * x_N**self.power
        return lengths

    def before(self, x_N: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:  # noqa: N803
        """Share (0 to 1) of the tokens that lie before these shares of the rows."""
        power = self.power
        sums = self.shortest * x_N + (self.longest - self.shortest) * x_N ** (power + 1) / (power + 1)
        whole = self.shortest + (self.longest - self.shortest) / (power + 1)
        shares: npt.NDArray[np.float64] = sums / whole if whole > 0 else x_N
        return shares

    def cuts(self, start: int, stop: int, pieces: int) -> list[int]:
        """Rows at which to cut the rows from `start` to `stop` into pieces of about equal tokens.

        Returns:
            `start`, the cuts, and `stop`: strictly ascending, at most `pieces` + 1 of them.
        """
        x_N = np.linspace(start, stop, 64 * pieces + 1) / max(1, self.rows)
        share_N = self.before(x_N)
        wanted = np.linspace(share_N[0], share_N[-1], pieces + 1)[1:-1]
        inner = np.round(np.interp(wanted, share_N, x_N) * self.rows).astype(np.int64)
        return [start, *sorted({int(row) for row in inner if start < row < stop}), stop]

    def share(self, start: int, stop: int) -> float:
        """Of the tokens, those of the rows from `start` to `stop`."""
        if start == 0 and stop == self.rows:
            return 1.0
        ends = self.before(np.array([start, stop], dtype=np.float64) / max(1, self.rows))
        return float(ends[1] - ends[0])
