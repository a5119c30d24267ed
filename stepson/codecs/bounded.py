"""`bounded`: floats on a grid, each within its bound, then the residuals of a prediction.

The decoded value x' = dtype(q step) is a function of x, the bound and the dtype alone
(`quantise`): it does not depend on the block that x happens to be in, on its neighbours or
on the plan. A value that is not finite, whose |q| passes 2^52, or whose x' is outside the
bound after all is an exception: it is stored exactly.

The residual of row t is q - round(sum_j C_j q_(t-j) / 2^16), the sum in integers modulo
2^64, ties to even, with the taps of `predict`. As long as the sum stays below 2^52, float64
computes the same, faster.

Payload: the words of rows 1 and up, in as many bytes as the largest needs, and those of row
0, of 8 bytes, each a compressed chunk; then the flat index (u64) of each exception in
order; then their values.
"""

from math import inf
from typing import Any, NamedTuple

import numpy as np

from stepson.codecs.base import Array, Encoded, Parameters, flat, integer, parameter
from stepson.codecs.integers import unzigzag, zigzag
from stepson.codecs.kernels import kernels
from stepson.codecs.predict import (
    SCALE,
    History,
    is_exact,
    predictions,
    read_taps,
    weight,
    whole_predictions,
)
from stepson.codecs.quantise import LARGEST, grid_step, proven, quantise
from stepson.codecs.words import Words, bands, tiles
from stepson.errors import FormatError, SchemaError

__all__ = ["Bounded"]

_FIRST = {"coder": "zstd", "filter": "bitshuffle", "level": 1, "layout": "frames"}
_U8 = np.dtype("<u8")


class _Grid(NamedTuple):
    """What all rows of a chunk share."""

    taps: tuple[int, ...]
    largest: int
    step: float

    @property
    def exact(self) -> bool:
        """Whether float64 predicts exactly; else int64 does it, modulo 2^64."""
        return is_exact(self.largest, self.taps)

    def residual_dtype(self) -> str:
        """Return the narrowest dtype that surely holds every residual."""
        return "<i4" if self.largest * (2 + weight(self.taps) // SCALE) < 1 << 31 else "<i8"


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
        """Quantise, check the bound, compress the residuals."""
        if precision is None or not precision > 0.0 or values.dtype.kind != "f":
            raise SchemaError("the codec 'bounded' needs floats and a precision above zero")
        rows, layout = flat(values), str(parameters["layout"])
        grid = _Grid(
            read_taps(parameters), _largest(values, precision), grid_step(precision)
        )
        found = _encode_fast(rows, precision, grid, layout)
        found = found or _encode(rows, precision, grid, layout)
        words, indices = found.words.narrowed(), found.outside
        tail = words.pack(parameters, verify=verify)
        head = Words(found.start, "frames").pack(_FIRST, verify=verify)
        kept = {
            "taps": list(grid.taps),
            "layout": layout,
            "step": grid.step,
            "largest": grid.largest,
            "width": words.width,
            "first": len(head),
            "exceptions": len(indices),
        }
        extra = indices.tobytes() + values.reshape(-1)[indices].tobytes()
        return Encoded(tail + head + extra, kept, found.error)

    def decode(
        self,
        data: memoryview,
        parameters: Parameters,
        *,
        dtype: np.dtype[Any],
        shape: tuple[int, ...],
    ) -> Array:
        """Put the values back on the grid, and the exceptions in their places."""
        if dtype.kind != "f":
            raise FormatError(f"a chunk of {dtype} cannot be of the codec 'bounded'")
        out = np.empty(shape, dtype)
        exceptions = integer(parameters, "exceptions", 0, out.size)
        head = integer(parameters, "first", 0, len(data))
        split = len(data) - exceptions * (8 + dtype.itemsize)
        if split < head:
            raise FormatError(f"a bounded chunk is too short for {exceptions} exceptions")
        _restore(data[: split - head], data[split - head : split], parameters, flat(out))
        indices = np.frombuffer(data, "<u8", exceptions, split)
        if exceptions and int(indices[-1]) >= out.size:
            raise FormatError("an exception of a bounded chunk lies outside of it")
        if np.any(indices[1:] <= indices[:-1]):
            raise FormatError("the exceptions of a bounded chunk are not in order")
        values = np.frombuffer(data, dtype, exceptions, split + 8 * exceptions)
        out.reshape(-1)[indices] = values
        return out


def _largest(values: Array, bound: float) -> int:
    """Return a limit of |q| for all values of a chunk."""
    low, high = float(values.min()), float(values.max())
    with np.errstate(all="ignore"):
        largest = max(-low, high) * np.float64(1.0 / grid_step(bound))
    return int(largest) + 1 if largest < LARGEST else LARGEST


class _Residuals(NamedTuple):
    """All rows of a chunk as words, and what has no words."""

    start: Array
    """Of row 0, u64 of shape ``(1, columns)``."""
    words: Words
    """Of the others."""
    outside: Array
    """Flat indices of the exceptions, ascending, u64."""
    error: float
    """As of `quantise`."""


def _room(rows: Array, grid: _Grid, layout: str) -> tuple[Array, Words]:
    frames, columns = rows.shape
    words = Words.empty((frames - 1, columns), np.dtype(grid.residual_dtype()), layout)
    return np.empty((1, columns), _U8), words


def _encode_fast(rows: Array, bound: float, grid: _Grid, layout: str) -> _Residuals | None:
    """Do what `_encode` does, where every value is surely within the bound."""
    fast = kernels(rows) if grid.exact and grid.largest < LARGEST else None
    if fast is None:
        return None
    start, words = _room(rows, grid, layout)
    largest = fast.encode_bounded(rows, grid.step, grid.taps, start, words.rows)
    error = proven(largest, bound, rows.dtype)
    return None if error is None else _Residuals(start, words, np.empty(0, _U8), error)


def _encode(rows: Array, bound: float, grid: _Grid, layout: str) -> _Residuals:
    start, words = _room(rows, grid, layout)
    outside, error = [np.empty(0, np.int64)], 0.0
    for span in tiles(rows.shape):
        found = quantise(rows[:, span], bound, grid.largest < LARGEST)
        error = max(error, found.error)
        if found.outside is not None:
            t, column = np.nonzero(found.outside)
            outside.append(t * rows.shape[1] + column + span.start)
        residuals = _residuals(found.grid, grid)
        start[0, span] = residuals[0]
        words.store(span, residuals[1:])
    return _Residuals(start, words, np.sort(np.concatenate(outside)).astype(_U8), error)


def _residuals(q: Array, grid: _Grid) -> Array:
    """Return zigzag words of one tile."""
    out = np.empty(q.shape, grid.residual_dtype())
    if grid.exact:
        guess = predictions(q, grid.taps)
        np.rint(guess, guess)
    else:
        q = q.astype(np.int64)
        guess = whole_predictions(q, grid.taps)
    np.subtract(q, guess, out=out, casting="unsafe")
    return zigzag(out.view(f"<u{out.itemsize}"))


def _restore(
    tail: memoryview, head: memoryview, parameters: Parameters, out: Array
) -> None:
    """Decode rows of a chunk, exceptions apart, into ``out``."""
    step = parameter(parameters, "step", float)
    if not 0.0 < step < inf:
        raise FormatError(f"chunk parameter 'step' is {step}, not a distance")
    grid = _Grid(read_taps(parameters), integer(parameters, "largest", 0, LARGEST), step)
    width = integer(parameters, "width", 1, 8)
    if width not in (1, 2, 4, 8):
        raise FormatError(f"words of {width} bytes do not exist")
    frames, columns = out.shape
    words = Words.unpack(tail, parameters, np.dtype(f"<u{width}"), (frames - 1, columns))
    start = Words.unpack(head, _FIRST, _U8, (1, columns))
    fast = kernels(out) if grid.exact else None
    if fast:
        fast.decode_bounded(start.rows, words.rows, grid.step, grid.taps, out)
        return
    with np.errstate(all="ignore"):
        for span in bands(columns):
            _restore_band(words, start, span, grid, out[:, span])


def _restore_band(words: Words, start: Words, span: slice, grid: _Grid, out: Array) -> None:
    """Decode a band of columns into ``out``."""
    exact = grid.exact
    history = History(grid.taps, out.shape[1], np.float64 if exact else np.int64)
    residuals = unzigzag(start.group(0, span)).view("<i8")
    first = 0
    while first < len(out):
        q = history.group(len(residuals))
        q[:] = residuals
        for i, row in enumerate(q):
            if exact:
                guess = history.predict(first + i, i)
                np.rint(guess, guess)
            else:
                guess = history.predict_whole(first + i, i)
            np.add(row, guess, row)
        last = first + len(q)
        np.multiply(q, grid.step, out=out[first:last], casting="same_kind")
        history.advance(len(q))
        group = unzigzag(words.group(last - 1, span))
        residuals, first = group.view(f"<i{group.itemsize}"), last
