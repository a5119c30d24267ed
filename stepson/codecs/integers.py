"""Reversible maps between numbers and small unsigned integers.

Three steps turn a smooth trajectory into integers with mostly zero high bits. All
arithmetic is modulo 2^w for words of w bits, so each step has an exact inverse for every
bit pattern:

1. *order*: read the bits of a float as a signed integer and, where that is negative, invert
   all bits but the sign. The result grows with the float, and neighbouring floats become
   neighbouring integers. The map is its own inverse. NaN payloads, -0 and infinities are
   just integers. Integers and bools stay as they are.
2. *difference*: row t becomes the j-th difference in time, with j = min(t, k). Only row 0
   stays large. The inverse sums row by row, the highest difference first.
3. *zigzag*: small differences of either sign become small unsigned integers:
   0, -1, 1, -2 ... -> 0, 1, 2, 3 ...

The functions work in place, on two-dimensional arrays ``(frames, columns)`` of words.
"""

from typing import Any

import numpy as np

from stepson.codecs.base import Array

__all__ = ["accumulate", "difference", "order", "unzigzag", "word", "zigzag"]


def word(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the unsigned integer as wide as a value of this dtype."""
    return np.dtype(f"<u{dtype.itemsize}")


def _signed(words: Array) -> tuple[Array, int]:
    width = words.dtype.itemsize
    return words.view(f"<i{width}"), 8 * width - 1


def order(words: Array, kind: str) -> Array:
    """Map the bits of floats (``kind`` "f") to ordered integers, or back, in place."""
    if kind == "f":
        signed, sign = _signed(words)
        mask = signed >> sign
        mask &= mask.dtype.type((1 << sign) - 1)
        signed ^= mask
    return words


def difference(words: Array, k: int) -> Array:
    """Return the k-th difference along axis 0; ``words`` is used as scratch."""
    source, target = words, np.empty_like(words)
    for done in range(min(k, len(words) - 1)):
        target[: done + 1] = source[: done + 1]
        np.subtract(source[done + 1 :], source[done:-1], out=target[done + 1 :])
        source, target = target, source
    return source


def accumulate(words: Array, k: int, states: list[Array | None], first: int) -> None:
    """Undo `difference` in place, on a group of rows that starts at row ``first``.

    Args:
        words: the group, shape ``(rows, columns)``.
        k: the order of the difference.
        states: k rows carried from group to group, None at the start of a chunk.
        first: number of the first row in its chunk.
    """
    rows = list(words)
    for done in reversed(range(k)):
        before = states[done]
        for t, row in enumerate(rows, first):
            if t > done and before is not None:
                np.add(row, before, row)
            before = row if t >= done else None
        states[done] = None if before is None else before.copy()


def zigzag(words: Array) -> Array:
    """Fold signs into the lowest bit, in place."""
    signed, sign = _signed(words)
    signs = signed >> sign
    signed <<= 1
    signed ^= signs
    return words


def unzigzag(words: Array) -> Array:
    """Undo `zigzag` in place."""
    signs = words & words.dtype.type(1)
    np.negative(signs, out=signs)
    words >>= words.dtype.type(1)
    words ^= signs
    return words
