"""Floats to integers on a grid anchored at zero, with a bound of the absolute error.

The grid's step is 2 bound x 31/32; q = rint(x inverse) with inverse = 1 / step, and x' =
dtype(q step), all in float64. The missing 32nd leaves room for the rounding of x' to the
dtype: without it one value in 500 of a float32 field misses its bound.
"""

from typing import Any, NamedTuple

import numpy as np

from stepson.codecs.base import Array

__all__ = ["LARGEST", "Quantised", "grid_step", "proven", "quantise"]

LARGEST = 1 << 52
"""Beyond, float64 has no room left for a fraction of a step."""


class Quantised(NamedTuple):
    """Grid points of some values."""

    grid: Array
    """q, float64, in the shape of the values; zero where there is none."""
    outside: Array | None
    """True where x' misses its bound and the value must be kept; None where none does."""
    error: float
    """Largest |x' - x| of the others, to within the rounding of the dtype."""


def grid_step(bound: float) -> float:
    """Return the distance of grid points for a bound of the absolute error."""
    return 2.0 * bound * (31.0 / 32.0)


def quantise(values: Array, bound: float, safe: bool) -> Quantised:
    """Put floats on the grid, and check each against the bound.

    The check subtracts in the dtype of the values, with a margin for its rounding; only
    where that cannot prove the bound does each value get its exact check.

    Args:
        values: floats of any shape.
        bound: of the absolute error, above zero.
        safe: no value is known to be too large, infinite or NaN.
    """
    step = grid_step(bound)
    with np.errstate(all="ignore"):
        grid = np.multiply(values, 1.0 / step, dtype=np.float64)
        np.rint(grid, out=grid)
        error = np.empty_like(values, order="C")
        np.multiply(grid, step, out=error, casting="same_kind")
        np.subtract(error, values, out=error)
        low, high = float(error.min()), float(error.max())
        largest = proven(max(-low, high), bound, values.dtype) if low <= high else None
        if safe and largest is not None:
            return Quantised(grid, None, largest)
        return _quantise_each(values, grid, bound)


def proven(error: float, bound: float, dtype: np.dtype[Any]) -> float | None:
    """Return a limit of |x' - x| if it is within the bound, whatever the rounding.

    Args:
        error: the largest |x' - x|, as subtracted in the dtype.
        bound: of the absolute error.
        dtype: of the values.
    """
    margin = 4.0 * float(np.finfo(dtype).eps)
    return error * (1.0 + margin / 4.0) if error <= bound * (1.0 - margin) else None


def _quantise_each(values: Array, grid: Array, bound: float) -> Quantised:
    usable = np.abs(grid) <= LARGEST
    grid[~usable] = 0.0
    exact = values.astype(np.float64)
    decoded = (grid * grid_step(bound)).astype(values.dtype)
    error = np.abs(decoded.astype(np.float64) - exact)
    inside = usable & (error <= bound)
    return Quantised(grid, ~inside, float(error[inside].max(initial=0.0)))
