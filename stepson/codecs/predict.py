r"""Linear prediction in time: each row from the rows before it.

.. math:: \hat x_t = \sum_{j=1}^{p} c_j x_{t-j}, \qquad c_j = C_j / 2^{16}

Motion is oversampled: the fastest vibration of a solid takes 10 to 20 steps. Differences
predict by a polynomial, which is best for slow motion; taps fitted to the motion itself
predict a vibration too, and leave little more than the rounding noise. The taps are
integers ``C_j`` that sum to 2^16, so a constant is predicted exactly; they are found once,
on the first block, and stand in every chunk. Rows t < p are predicted by a polynomial
through at most 3 rows.

What is predicted from are integers, held in float64. As long as the largest of them times
the sum of |C_j| is below 2^52, every product and every sum is exact: the result does not
depend on the order of the sum, nor on whether a multiplication is fused with an addition.
So it is left to BLAS, which is several times as fast as numpy row by row. The matrices are
small enough that no BLAS starts threads for them.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from stepson.codecs.base import Array, Parameters
from stepson.codecs.words import GROUP
from stepson.errors import FormatError

__all__ = [
    "MAX_TAPS",
    "SCALE",
    "START",
    "History",
    "fit_taps",
    "is_exact",
    "polynomial",
    "predictions",
    "read_taps",
    "round_whole",
    "taps_of_row",
    "weight",
    "whole_predictions",
]

SCALE_BITS = 16
SCALE = 1 << SCALE_BITS
MAX_TAPS = 12
_LARGEST_TAP = 1 << 26
_WEIGHTS = ((), (1,), (2, -1), (3, -3, 1), (4, -6, 4, -1), (5, -10, 10, -5, 1))
_POLYNOMIALS = [tuple(SCALE * weight for weight in weights) for weights in _WEIGHTS]
START = 3
"""Order of the polynomial that predicts rows with too few before them."""
_ROWS = 4  # of one matrix product; more cost products with zeros, fewer calls of Python


def polynomial(k: int) -> tuple[int, ...]:
    """Return the taps whose residual is the k-th difference, k <= 5."""
    return _POLYNOMIALS[k]


def taps_of_row(t: int, taps: Sequence[int]) -> tuple[int, ...]:
    """Return the taps that predict row t of a chunk."""
    return tuple(taps) if t >= len(taps) else _POLYNOMIALS[min(t, START)]


def read_taps(parameters: Parameters) -> tuple[int, ...]:
    """Return the taps of a chunk.

    Raises:
        FormatError: they are no list of at most `MAX_TAPS` integers.
    """
    taps = parameters.get("taps")
    if not isinstance(taps, (list, tuple)) or len(taps) > MAX_TAPS:
        raise FormatError(
            f"chunk parameter 'taps' is no list of at most {MAX_TAPS} integers"
        )
    if not all(type(tap) is int and abs(tap) <= _LARGEST_TAP for tap in taps):
        raise FormatError("chunk parameter 'taps' holds something else than small integers")
    return tuple(taps)


def is_exact(largest: int, taps: Sequence[int]) -> bool:
    """Whether predictions from integers of at most this size are exact in float64."""
    return largest * weight(taps) < 1 << 52


def weight(taps: Sequence[int]) -> int:
    """Return a limit of the sum of |C_j|, of the taps and of the polynomials."""
    return max(sum(map(abs, taps)), 8 * SCALE)


def predictions(rows: Array, taps: Sequence[int]) -> Array:
    """Return the prediction of every row of float64 ``(frames, columns)``, not rounded."""
    out = np.empty(rows.shape)
    frames, order = len(rows), len(taps)
    for t in range(min(order, frames)):
        _dot(rows[:t], _coefficients(taps_of_row(t, taps)), out[t])
    if not order:
        out[...] = 0.0
        return out
    band = _band(tuple(taps))
    for t in range(order, frames, _ROWS):
        last = min(t + _ROWS, frames)
        np.matmul(
            band[: last - t, : last - t + order - 1],
            rows[t - order : last - 1],
            out=out[t:last],
        )
    return out


def whole_predictions(rows: Array, taps: Sequence[int]) -> Array:
    """Return the prediction of every row of int64 modulo 2^64, rounded, ties to even."""
    out = np.zeros_like(rows)
    for t in range(len(rows)):
        use = taps_of_row(t, taps)
        for j, tap in enumerate(use, 1):
            out[t] += rows[t - j] * tap
    return round_whole(out)


def round_whole(sums: Array) -> Array:
    """Divide int64 sums by 2^16 in place, to the nearest integer, ties to even."""
    sums += (SCALE // 2 - 1) + (sums >> SCALE_BITS & 1)
    sums >>= SCALE_BITS
    return sums


@lru_cache(64)
def _coefficients(taps: tuple[int, ...]) -> Array:
    """Return c_j with the oldest row first, as the rows stand in memory."""
    return np.array(taps[::-1]) / SCALE


@lru_cache(16)
def _band(taps: tuple[int, ...]) -> Array:
    """Return the matrix that predicts `_ROWS` rows from those before and among them."""
    found = np.zeros((_ROWS, _ROWS + len(taps) - 1))
    for i, row in enumerate(found):
        row[i : i + len(taps)] = _coefficients(taps)
    return found


def _dot(rows: Array, coefficients: Array, out: Array) -> None:
    """Set ``out`` to the weighted sum of the last rows."""
    count = len(coefficients)
    if count:
        np.dot(coefficients, rows[len(rows) - count :], out)
    else:
        out[...] = 0.0


class History:
    """A window of rows that decoding slides over a chunk, `GROUP` rows at a time.

    The window starts with the last rows of the group before; `advance` moves it on.
    """

    def __init__(self, taps: Sequence[int], width: int, dtype: type[np.generic]) -> None:
        self._taps = tuple(taps)
        self._kept = max(len(taps), START)
        self._window = np.zeros((self._kept + GROUP, width), dtype)
        self._guess = np.empty(width, dtype)

    def group(self, count: int) -> Array:
        """Return the next rows, to be filled."""
        return self._window[self._kept : self._kept + count]

    def predict(self, t: int, i: int) -> Array:
        """Return the prediction of row t of the chunk, row i of its group, not rounded."""
        use = self._taps if t >= len(self._taps) else taps_of_row(t, self._taps)
        end = self._kept + i
        if use:
            np.dot(_coefficients(use), self._window[end - len(use) : end], self._guess)
        else:
            self._guess[...] = 0.0
        return self._guess

    def predict_whole(self, t: int, i: int) -> Array:
        """Return the same of an int64 window, modulo 2^64 and rounded."""
        self._guess[...] = 0
        for j, tap in enumerate(taps_of_row(t, self._taps), 1):
            self._guess += self._window[self._kept + i - j] * tap
        return round_whole(self._guess)

    def advance(self, count: int) -> None:
        """Make room for the next group, after one of ``count`` rows."""
        self._window[: self._kept] = self._window[count : count + self._kept].copy()


def fit_taps(rows: Array, counts: Sequence[int]) -> list[tuple[int, ...]]:
    """Fit taps to float64 ``(frames, columns)`` by least squares on its differences.

    The residual is minimised over b in x_t - x_{t-1} = sum_j b_j (x_{t-j} - x_{t-j-1}),
    which keeps the sum of the taps at one. All counts share one matrix of products.

    Args:
        rows: the motion.
        counts: numbers of taps, ascending.

    Returns:
        Taps for each of the counts for which the motion determines them.
    """
    steps = np.diff(rows, axis=0)
    counts = [count for count in counts if len(steps) >= 4 * count]
    if not counts:
        return []
    free = counts[-1] - 1
    lagged = [steps[free - j : len(steps) - j].ravel() for j in range(free + 1)]
    gram = np.empty((free + 1, free + 1))
    for i, a in enumerate(lagged):
        for j, b in enumerate(lagged[: i + 1]):
            # not vdot: the threads of a BLAS, called from a thread for each of many files,
            # wait for one another a hundred times longer than they work
            gram[i, j] = gram[j, i] = np.einsum("i,i->", a, b)
    found = (_solve(gram[:count, :count]) for count in counts)
    return [taps for taps in found if taps]


def _solve(gram: Array) -> tuple[int, ...]:
    """Return the taps that minimise the residual, or none."""
    free = len(gram) - 1
    system = gram[1:, 1:] + 1e-12 * np.trace(gram) * np.eye(free)
    try:
        weights = np.linalg.solve(system, gram[1:, 0])
    except np.linalg.LinAlgError:
        return ()
    if not np.all(np.abs(weights) < _LARGEST_TAP / SCALE / 2):
        return ()
    whole = [SCALE, *(int(each) for each in np.rint(weights * SCALE)), 0]
    first = whole[0] + whole[1]
    return (first, *(whole[j] - whole[j - 1] for j in range(2, free + 2)))
