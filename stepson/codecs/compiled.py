"""The loops of `linear` and `bounded`, compiled by numba; see `kernels`.

Each function does what its module does with numpy, in one pass, `WIDTH` columns at a time,
so that all that it needs stays in the first-level cache. Predictions are exact in float64
(`predict`), so the order of their sums is free, and the results are those of numpy bit for
bit. Nothing here may be compiled with ``fastmath``.

The last rows stand in a ring: row t in ``ring[t % RING]``. Words are arrays ``(frames,
columns)``, C-contiguous or, of the layout ``"columns"``, Fortran-contiguous.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit

from stepson.codecs.base import Array
from stepson.codecs.predict import MAX_TAPS, SCALE, START, polynomial

__all__ = ["decode_bounded", "decode_linear", "encode_bounded", "encode_linear"]

WIDTH = 128
RING = 16
MASK = RING - 1
assert RING > MAX_TAPS


def encode_bounded(
    rows: Array, step: float, taps: Sequence[int], start: Array, words: Array
) -> float:
    """Write zigzag words of the residuals of values on the grid.

    Args:
        rows: ``(frames, columns)``, float32 or float64, each within the grid.
        step: of the grid.
        taps: as `predict.read_taps`; exact for all grid points (`predict.is_exact`).
        start: ``(1, columns)`` u64, gets the words of row 0.
        words: ``(frames - 1, columns)`` u32 or u64, gets the others.

    Returns:
        Largest |x' - x|, to within the rounding of the dtype.
    """
    error = np.zeros(WIDTH, rows.dtype)
    bits = error.view(f"<i{error.itemsize}")
    worst = np.zeros_like(bits)
    _encode_bounded(
        rows,
        step,
        *_weights(taps),
        *_room(),
        error,
        bits,
        worst,
        np.iinfo(bits.dtype).max,
        np.empty(WIDTH, f"<i{words.itemsize}"),
        start,
        words,
    )
    return float(worst.max(keepdims=True).view(rows.dtype)[0])


def decode_bounded(
    start: Array, words: Array, step: float, taps: Sequence[int], out: Array
) -> None:
    """Undo `encode_bounded`; words may be of any width."""
    signed = np.empty(WIDTH, "<i8" if words.itemsize == 8 else "<i4")
    _decode_bounded(start, words, step, *_weights(taps), *_room(), signed, out)


def encode_linear(rows: Array, scale: int, taps: Sequence[int], words: Array) -> None:
    """Write zigzag words of bit patterns less those of their predictions.

    Args:
        rows: ``(frames, columns)``, float32 or float64, finite.
        scale: of the integers that are predicted from, see `linear`.
        taps: as `predict.read_taps`.
        words: ``(frames, columns)``, as wide as the values.
    """
    rounded = np.empty(WIDTH, rows.dtype)
    bits = np.dtype(f"<i{rows.itemsize}")
    _encode_linear(
        rows,
        rows.view(bits),
        2.0**scale,
        2.0**-scale,
        *_weights(taps),
        *_room(),
        rounded,
        rounded.view(bits),
        np.empty(WIDTH, bits),
        words,
    )


def decode_linear(words: Array, scale: int, taps: Sequence[int], out: Array) -> None:
    """Undo `encode_linear`."""
    rounded = np.empty(WIDTH, out.dtype)
    bits = np.dtype(f"<i{out.itemsize}")
    _decode_linear(
        words,
        2.0**scale,
        2.0**-scale,
        *_weights(taps),
        *_room(),
        rounded,
        rounded.view(bits),
        out,
        out.view(bits),
    )


def _weights(taps: Sequence[int]) -> tuple[Array, Array]:
    """Taps, newest row first; and in row t those of rows that have only t before them."""
    starts = np.zeros((START + 1, START))
    for k in range(START + 1):
        starts[k, :k] = polynomial(k)
    return np.array(taps, np.float64) / SCALE, starts / SCALE


def _room() -> tuple[Array, Array]:
    """Return the ring, and room for a guess."""
    return np.zeros((RING, WIDTH)), np.empty(WIDTH)


def _loops(function: Any) -> Any:
    return njit(cache=True, nogil=True, error_model="numpy")(function)


@_loops
def _predict(ring, t, taps, starts, guess):  # type: ignore[no-untyped-def]
    """Set ``guess`` to the prediction of row t, four taps in one pass.

    A sum that starts from +0 is never -0, which integers do not have either.
    """
    use = taps if t >= taps.size else starts[min(t, START)][: min(t, START)]
    fours = use.size - use.size % 4
    guess[:] = 0.0
    for j in range(0, fours, 4):
        a, b = ring[(t - j - 1) & MASK], ring[(t - j - 2) & MASK]
        c, d = ring[(t - j - 3) & MASK], ring[(t - j - 4) & MASK]
        p, q, r, s = use[j], use[j + 1], use[j + 2], use[j + 3]
        for i in range(guess.size):
            guess[i] += (p * a[i] + q * b[i]) + (r * c[i] + s * d[i])
    for j in range(fours, use.size):
        a, p = ring[(t - j - 1) & MASK], use[j]
        for i in range(guess.size):
            guess[i] += p * a[i]


@_loops
def _zigzag(signed, words):  # type: ignore[no-untyped-def]
    top = 8 * signed.itemsize - 1
    for i in range(words.size):
        words[i] = (signed[i] << 1) ^ (signed[i] >> top)


@_loops
def _unzigzag(words, signed):  # type: ignore[no-untyped-def]
    for i in range(words.size):
        u = np.uint64(words[i])
        signed[i] = np.int64(u >> np.uint64(1)) ^ -np.int64(u & np.uint64(1))


@_loops
def _encode_bounded(  # type: ignore[no-untyped-def]
    rows,
    step,
    taps,
    starts,
    ring,
    guess,
    error,
    bits,
    worst,
    mask,
    signed,
    start,
    words,
):
    frames, columns = rows.shape
    inverse = 1.0 / step
    for first in range(0, columns, WIDTH):
        last = min(first + WIDTH, columns)
        n = last - first
        for t in range(frames):
            x, q = rows[t, first:last], ring[t & MASK]
            for i in range(n):
                whole = np.rint(x[i] * inverse)
                q[i] = whole
                error[i] = whole * step
            for i in range(n):
                error[i] -= x[i]
            for i in range(n):  # of the bits of |error|, which grow with it
                worst[i] = max(worst[i], bits[i] & mask)
            if t == 0:
                for i in range(n):
                    s = np.int64(q[i])
                    start[0, first + i] = (s << 1) ^ (s >> 63)
                continue
            _predict(ring, t, taps, starts, guess)
            for i in range(n):
                signed[i] = q[i] - np.rint(guess[i])
            _zigzag(signed, words[t - 1, first:last])


@_loops
def _decode_bounded(  # type: ignore[no-untyped-def]
    start, words, step, taps, starts, ring, guess, signed, out
):
    frames, columns = out.shape
    for first in range(0, columns, WIDTH):
        last = min(first + WIDTH, columns)
        n = last - first
        for t in range(frames):
            q, x = ring[t & MASK], out[t, first:last]
            if t == 0:
                for i in range(n):
                    u = start[0, first + i]
                    q[i] = np.int64(u >> np.uint64(1)) ^ -np.int64(u & np.uint64(1))
            else:
                _predict(ring, t, taps, starts, guess)
                _unzigzag(words[t - 1, first:last], signed)
                for i in range(n):
                    q[i] = np.rint(guess[i]) + signed[i]
            for i in range(n):
                x[i] = q[i] * step


@_loops
def _encode_linear(  # type: ignore[no-untyped-def]
    rows, row_bits, up, down, taps, starts, ring, guess, rounded, bits, signed, words
):
    frames, columns = rows.shape
    for first in range(0, columns, WIDTH):
        last = min(first + WIDTH, columns)
        n = last - first
        for t in range(frames):
            x, b, whole = rows[t, first:last], row_bits[t, first:last], ring[t & MASK]
            _predict(ring, t, taps, starts, guess)
            for i in range(n):
                whole[i] = np.rint(x[i] * up)
                rounded[i] = guess[i] * down
            for i in range(n):
                signed[i] = b[i] - bits[i]
            _zigzag(signed, words[t, first:last])


@_loops
def _decode_linear(  # type: ignore[no-untyped-def]
    words, up, down, taps, starts, ring, guess, rounded, bits, out, out_bits
):
    frames, columns = out.shape
    signed = np.empty_like(bits)
    for first in range(0, columns, WIDTH):
        last = min(first + WIDTH, columns)
        n = last - first
        for t in range(frames):
            x, b, whole = out[t, first:last], out_bits[t, first:last], ring[t & MASK]
            _predict(ring, t, taps, starts, guess)
            for i in range(n):
                rounded[i] = guess[i] * down
            _unzigzag(words[t, first:last], signed)
            for i in range(n):
                b[i] = bits[i] + signed[i]
            for i in range(n):
                whole[i] = np.rint(x[i] * up)
