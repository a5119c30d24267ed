"""`bounded`: floats on a grid, every one within its bound, then the differences of `delta`.

The decoded value x' is a function of x, the bound and the dtype alone: it does not depend on the
block that x happens to be in, on its neighbours or on the plan. The grid is anchored at zero, its
step is 2 bound x 31/32, and x' = dtype(q step) with q = rint(x / step), all computed in float64. The
missing 32nd leaves room for the rounding to the dtype. A value that is not finite, whose |q| passes
2^52, or whose x' is still outside the bound is an exception: it is stored exactly.

Payload: the blosc2 chunk of the differences of q, then, for each exception in the order of
``(frame, column)``, its flat index (u64), then their values.
"""

from typing import Any

import numpy as np

from stepson.codecs.base import Array, Encoded, Parameters, flat, parameter
from stepson.codecs.delta import pack, unpack
from stepson.errors import FormatError, SchemaError

__all__ = ["Bounded", "grid_step"]

_LARGEST = 2.0**52


def grid_step(bound: float) -> float:
    """Return the distance of grid points for a bound of the absolute error."""
    return 2.0 * bound * (31.0 / 32.0)


class Bounded:
    """Compression of floats with a guaranteed absolute error."""

    name = "bounded"

    def encode(
        self,
        values: Array,
        parameters: Parameters,
        *,
        precision: float | None,
        verify: bool,
    ) -> Encoded:
        """Quantise, check the bound, compress the differences."""
        if precision is None or values.dtype.kind != "f":
            raise SchemaError("the codec 'bounded' needs floats and a precision")
        step = grid_step(precision)
        exact = flat(values).astype(np.float64)
        with np.errstate(all="ignore"):
            grid = np.rint(exact / step)
            usable = np.abs(grid) <= _LARGEST
            grid[~usable] = 0.0
            error = np.abs((grid * step).astype(values.dtype).astype(np.float64) - exact)
            inside = usable & (error <= precision)
        words = grid.astype(np.int64).view(np.uint64)
        data = pack(words, parameters, verify=verify)
        indices = np.flatnonzero(~inside).astype("<u8")
        extra = indices.tobytes() + flat(values).reshape(-1)[indices].tobytes()
        found = {name: parameters[name] for name in ("k", "order")}
        found |= {"step": step, "exceptions": len(indices)}
        return Encoded(data + extra, found, float(error[inside].max(initial=0.0)))

    def decode(
        self,
        data: bytes,
        parameters: Parameters,
        *,
        dtype: np.dtype[Any],
        shape: tuple[int, ...],
    ) -> Array:
        """Put the values back on the grid, and the exceptions in their places."""
        count = int(np.prod(shape, dtype=np.int64))
        step = parameter(parameters, "step", float, 5e-324, 1e308)
        exceptions = parameter(parameters, "exceptions", int, 0, count)
        split = len(data) - exceptions * (8 + dtype.itemsize)
        if split < 0 or dtype.kind != "f":
            raise FormatError(f"a bounded chunk cannot hold {exceptions} exceptions")
        words = unpack(
            data[:split], parameters, np.dtype("<u8"), shape[0], count // shape[0]
        )
        with np.errstate(over="ignore"):
            out = (words.view(np.int64) * step).astype(dtype).reshape(-1)
        indices = np.frombuffer(data, "<u8", exceptions, split)
        if exceptions and int(indices.max()) >= count:
            raise FormatError("an exception of a bounded chunk lies outside of it")
        out[indices] = np.frombuffer(data, dtype, exceptions, split + 8 * exceptions)
        return out.reshape(shape)
