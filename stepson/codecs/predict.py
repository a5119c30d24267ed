r"""Linear prediction in time: each row from the rows before it.

.. math:: \hat x_t = \sum_{j=1}^{p} c_j x_{t-j}, \qquad c_j = C_j / 2^{16}

Motion is oversampled: the fastest vibration of a solid takes 10 to 20 steps. Differences
predict by a polynomial, which is best for slow motion; taps fitted to the motion itself
predict a vibration too, and leave little more than the rounding noise. The taps are
integers ``C_j`` that sum to 2^16, so a constant is predicted exactly; they are found once,
on the first block, and stand in every chunk. Rows t < p are predicted by a polynomial
through at most 3 rows.

The prediction is computed in float64, the products summed from j = 1 upwards, without fused
multiplication. Every reader that follows IEEE 754 gets the same bits.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import numpy as np

from stepson.codecs.base import Array, Parameters
from stepson.codecs.words import GROUP
from stepson.errors import FormatError

__all__ = [
    "MAX_TAPS",
    "SCALE",
    "History",
    "combine",
    "combine_whole",
    "fit_taps",
    "polynomial",
    "predictions",
    "read_taps",
    "taps_of_row",
]

SCALE_BITS = 16
SCALE = 1 << SCALE_BITS
MAX_TAPS = 12
Combine = Callable[[Iterable[Array], Sequence[int], Array, Array], None]
_LARGEST_TAP = 1 << 26
_WEIGHTS = ((), (1,), (2, -1), (3, -3, 1), (4, -6, 4, -1), (5, -10, 10, -5, 1))
_POLYNOMIALS = [tuple(SCALE * weight for weight in weights) for weights in _WEIGHTS]
_START = 3  # order of the polynomial that predicts rows with too few before them


def polynomial(k: int) -> tuple[int, ...]:
    """Return the taps whose residual is the k-th difference, k <= 5."""
    return _POLYNOMIALS[k]


def taps_of_row(t: int, taps: Sequence[int]) -> Sequence[int]:
    """Return the taps that predict row t of a chunk."""
    return taps if t >= len(taps) else _POLYNOMIALS[min(t, _START)]


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


def combine(before: Iterable[Array], taps: Sequence[int], out: Array, spare: Array) -> None:
    """Set float64 ``out`` to the prediction from the rows before it, the newest first."""
    if not taps:
        out[...] = 0.0
    target = out
    for rows, tap in zip(before, taps, strict=False):
        np.multiply(rows, tap / SCALE, target)
        if target is spare:
            np.add(out, spare, out)
        target = spare


def combine_whole(
    before: Iterable[Array], taps: Sequence[int], out: Array, spare: Array
) -> None:
    """Set ``out`` to the prediction rounded to an integer, ties to even.

    In int64, S = sum_j C_j q_j modulo 2^64 and the result is S / 2^16, rounded. float64
    gives the same as long as the sum stays below 2^52.
    """
    if out.dtype.kind == "f":
        combine(before, taps, out, spare)
        np.rint(out, out)
        return
    out[...] = 0
    for rows, tap in zip(before, taps, strict=False):
        np.multiply(rows, tap, spare)
        np.add(out, spare, out)
    np.right_shift(out, SCALE_BITS, spare)
    out += (SCALE // 2 - 1) + (spare & 1)
    out >>= SCALE_BITS


def predictions(rows: Array, taps: Sequence[int], combine: Combine = combine) -> Array:
    """Return the prediction of every row of ``(frames, columns)``, in its dtype."""
    out, spare = np.empty_like(rows), np.empty_like(rows)
    frames = len(rows)
    edges = sorted(
        {0, *(min(t, len(taps), frames) for t in (1, 2, _START, frames)), frames}
    )
    for first, last in pairwise(edges):  # rows that share their taps
        use = taps_of_row(first, taps)
        before = [rows[first - j : last - j] for j in range(1, len(use) + 1)]
        combine(before, use, out[first:last], spare[first:last])
    return out


class History:
    """A window of rows that decoding slides over a chunk, `GROUP` rows at a time.

    ``rows`` starts with the last rows of the group before; `advance` moves it on.
    """

    def __init__(self, taps: Sequence[int], width: int, dtype: type[np.generic]) -> None:
        self._taps = taps
        self._kept = max(len(taps), _START)
        self._window = np.zeros((self._kept + GROUP, width), dtype)
        self._views = list(self._window)
        self._guess, self._spare = np.empty(width, dtype), np.empty(width, dtype)

    def group(self, count: int) -> Array:
        """Return the next rows, to be filled."""
        return self._window[self._kept : self._kept + count]

    def predict(self, t: int, i: int, combine: Combine) -> Array:
        """Return the prediction of row t of the chunk, row i of its group."""
        taps = taps_of_row(t, self._taps)
        before = self._views[self._kept + i - len(taps) : self._kept + i]
        combine(before[::-1], taps, self._guess, self._spare)
        return self._guess

    def advance(self, count: int) -> None:
        """Make room for the next group, after one of ``count`` rows."""
        self._window[: self._kept] = self._window[count : count + self._kept].copy()


def fit_taps(rows: Array, count: int) -> tuple[int, ...]:
    """Fit taps to float64 ``(frames, columns)`` by least squares on its differences.

    The residual is minimised over b in x_t - x_{t-1} = sum_j b_j (x_{t-j} - x_{t-j-1}),
    which keeps the sum of the taps at one.

    Returns:
        ``count`` taps, or none where the motion does not determine them.
    """
    steps = np.diff(rows, axis=0)
    free = count - 1
    if len(steps) < 4 * count:
        return ()
    lagged = [steps[free - j : len(steps) - j].ravel() for j in range(count)]
    # not vdot: the threads of a BLAS, called from a thread for each of many files, wait for
    # one another a hundred times longer than they work
    gram = np.array([[np.einsum("i,i->", a, b) for b in lagged] for a in lagged])
    system = gram[1:, 1:] + 1e-12 * np.trace(gram) * np.eye(free)
    try:
        weights = np.linalg.solve(system, gram[1:, 0])
    except np.linalg.LinAlgError:
        return ()
    if not np.all(np.abs(weights) < _LARGEST_TAP / SCALE / 2):
        return ()
    whole = [SCALE, *(int(weight) for weight in np.rint(weights * SCALE)), 0]
    first = whole[0] + whole[1]
    return (first, *(whole[j] - whole[j - 1] for j in range(2, count + 1)))
