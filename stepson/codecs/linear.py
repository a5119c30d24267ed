"""`linear`: lossless, what a linear prediction in time gets wrong.

Each row is predicted from the decoded rows before it (`predict`), the prediction is rounded
to the dtype, and the difference of the two as ordered integers (`integers.order`) is kept.
So the prediction works on the numbers themselves, and a coordinate that crosses zero or a
power of two costs little.

Only for float32 and float64, and only where every value of the chunk is zero or between
`SMALLEST` and `LARGEST` in size. So no prediction is NaN, whose bits depend on the machine;
and none is subnormal, which some programs flush to zero: a sum of multiples of 2^-16 x
SMALLEST x 2^-23 is zero or above the smallest normal float32. Other chunks of the field are
written with `delta`.
"""

from typing import Any

import numpy as np

from stepson.codecs.base import Array, Encoded, Parameters, flat
from stepson.codecs.integers import order, unzigzag, word, zigzag
from stepson.codecs.predict import History, combine, predictions, read_taps
from stepson.codecs.words import GROUP, Words, bands, tiles
from stepson.errors import FormatError, SchemaError

__all__ = ["LARGEST", "SMALLEST", "Linear", "fits"]

LARGEST = 2.0**100
SMALLEST = 2.0**-83


def fits(values: Array) -> bool:
    """Tell whether these values can be predicted."""
    if values.dtype.kind != "f" or values.dtype.itemsize == 2:
        return False
    size = np.abs(values)
    low, high = size.min(), size.max()
    if low < SMALLEST:
        low = size[size != 0.0].min(initial=np.inf)
    return bool(high < LARGEST and low >= SMALLEST)


class Linear:
    """Lossless compression of oscillating floats."""

    name = "linear"

    def encode(
        self,
        values: Array,
        parameters: Parameters,
        *,
        precision: float | None,
        verify: bool,
    ) -> Encoded:
        """Compress the residuals of the prediction."""
        if not fits(values):
            raise SchemaError(
                "the codec 'linear' needs float32 or float64 values of ordinary size"
            )
        taps, layout = read_taps(parameters), str(parameters["layout"])
        rows = flat(values)
        words = Words.empty(rows.shape, word(values.dtype), layout)
        for columns in tiles(rows.shape):
            words.store(columns, _residuals(rows[:, columns], taps))
        kept = {"taps": list(taps), "layout": layout}
        return Encoded(words.pack(parameters, verify=verify), kept)

    def decode(
        self,
        data: memoryview,
        parameters: Parameters,
        *,
        dtype: np.dtype[Any],
        shape: tuple[int, ...],
    ) -> Array:
        """Predict, and add the residuals."""
        if dtype.kind != "f" or dtype.itemsize == 2:
            raise FormatError(f"a chunk of {dtype} cannot be of the codec 'linear'")
        taps = read_taps(parameters)
        out = np.empty(shape, dtype)
        rows = flat(out)
        words = Words.unpack(data, parameters, word(dtype), rows.shape)
        with np.errstate(all="ignore"):
            for columns in bands(rows.shape[1]):
                _restore(words, columns, taps, rows[:, columns])
        return out


def _residuals(rows: Array, taps: tuple[int, ...]) -> Array:
    unsigned = word(rows.dtype)
    with np.errstate(over="ignore"):
        guess = predictions(rows.astype(np.float64), taps).astype(rows.dtype, copy=False)
    found = order(rows.copy().view(unsigned), "f")
    found -= order(guess.view(unsigned), "f")
    return zigzag(found)


def _restore(words: Words, span: slice, taps: tuple[int, ...], out: Array) -> None:
    """Decode a band of columns into ``out``."""
    history = History(taps, out.shape[1], np.float64)
    rounded = np.empty(out.shape[1], out.dtype)
    bits = rounded.view(word(out.dtype))
    for first in range(0, len(out), GROUP):
        group = unzigzag(words.group(first, span))
        exact = history.group(len(group))
        for i, row in enumerate(group):
            rounded[:] = history.predict(first + i, i, combine)
            row += order(bits, "f")
            order(row, "f")
            exact[i] = row.view(out.dtype)
        out[first : first + GROUP] = group.view(out.dtype)
        history.advance(len(group))
