"""`linear`: lossless, what a linear prediction in time gets wrong.

Rows are predicted from the decoded rows before them (`predict`), seen as integers X =
rint(x 2^scale), with the largest `scale` for which the prediction is exact in float64. So
every machine predicts the same bits, whatever the order of its sums, and has more than the
precision of a float32 to do it. The prediction, rounded to the dtype, and the value are
compared as bit patterns: where they are close the difference of these is small.

Only for float32 and float64, and only where every value of the chunk is finite and smaller
than `LARGEST`. Other chunks of the field are written with `delta`.
"""

from math import frexp
from typing import Any

import numpy as np

from stepson.codecs.base import Array, Encoded, Parameters, flat, integer
from stepson.codecs.integers import unzigzag, word, zigzag
from stepson.codecs.kernels import kernels
from stepson.codecs.predict import History, predictions, read_taps, weight
from stepson.codecs.words import GROUP, Words, bands, tiles
from stepson.errors import FormatError, SchemaError

__all__ = ["LARGEST", "Linear", "fits"]

LARGEST = 2.0**100
MAX_SCALE = 100
"""Bounds the scale, so that no prediction is subnormal."""


def fits(values: Array) -> bool:
    """Tell whether these values can be predicted."""
    if values.dtype.kind != "f" or values.dtype.itemsize == 2:
        return False
    return bool(values.min() > -LARGEST and values.max() < LARGEST)  # False for NaN


def _scale(values: Array, taps: tuple[int, ...]) -> int:
    """Return the largest scale for which predictions are exact."""
    largest = max(-float(values.min()), float(values.max()))
    bits = 52 - weight(taps).bit_length()
    return min(bits - frexp(largest)[1], MAX_SCALE) if largest else 0


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
        rows, scale = flat(values), _scale(values, taps)
        words = Words.empty(rows.shape, word(values.dtype), layout)
        if fast := kernels(rows):
            fast.encode_linear(rows, scale, taps, words.rows)
        else:
            for columns in tiles(rows.shape):
                words.store(columns, _residuals(rows[:, columns], taps, scale))
        kept = {"taps": list(taps), "layout": layout, "scale": scale}
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
        scale = integer(parameters, "scale", -MAX_SCALE, MAX_SCALE)
        out = np.empty(shape, dtype)
        rows = flat(out)
        words = Words.unpack(data, parameters, word(dtype), rows.shape)
        if fast := kernels(rows):
            fast.decode_linear(words.rows, scale, taps, rows)
            return out
        with np.errstate(all="ignore"):
            for columns in bands(rows.shape[1]):
                _restore(words, columns, taps, scale, rows[:, columns])
        return out


def _residuals(rows: Array, taps: tuple[int, ...], scale: int) -> Array:
    whole = np.multiply(rows, 2.0**scale, dtype=np.float64)
    guess = predictions(np.rint(whole, whole), taps)
    guess += 0.0  # integers have no -0; a matrix product may
    rounded = np.empty_like(guess, rows.dtype)
    with np.errstate(over="ignore"):
        np.multiply(guess, 2.0**-scale, out=rounded, casting="same_kind")
    bits = word(rows.dtype)
    return zigzag(rows.view(bits) - rounded.view(bits))


def _restore(
    words: Words, span: slice, taps: tuple[int, ...], scale: int, out: Array
) -> None:
    """Decode a band of columns into ``out``."""
    history = History(taps, out.shape[1], np.float64)
    up, down = 2.0**scale, 2.0**-scale
    rounded = np.empty(out.shape[1], out.dtype)
    bits = rounded.view(word(out.dtype))
    for first in range(0, len(out), GROUP):
        group = unzigzag(words.group(first, span))
        whole, values = history.group(len(group)), group.view(out.dtype)
        for i in range(len(group)):
            guess = history.predict(first + i, i)
            guess += 0.0  # as in `_residuals`
            np.multiply(guess, down, rounded, casting="same_kind")
            np.add(group[i], bits, group[i])
            np.multiply(values[i], up, whole[i])
            np.rint(whole[i], whole[i])
        out[first : first + GROUP] = values
        history.advance(len(group))
