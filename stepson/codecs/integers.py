"""Reversible maps between numbers and small unsigned integers.

Three steps turn a smooth trajectory into integers with mostly zero high bits; all arithmetic is
modulo 2^w for words of w bits, so every step has an exact inverse for every bit pattern:

1. *order*: the bits of a float become an unsigned integer that grows with the float, so that
   neighbouring floats are neighbouring integers, across zero too. A negative float has all its bits
   inverted, any other gets its sign bit set. NaN payloads, -0 and infinities are just integers.
   Signed integers get their sign bit inverted; unsigned ones and bools stay.
2. *difference*: row t becomes the j-th difference along time, with j = min(t, k). Only row 0 stays
   large. The inverse sums row by row, the last difference first.
3. *zigzag*: small negative and positive differences become small unsigned integers:
   0, -1, 1, -2 ... -> 0, 1, 2, 3 ...
"""

from typing import Any

import numpy as np

from stepson.codecs.base import Array

__all__ = [
    "accumulate",
    "difference",
    "from_ordered",
    "to_ordered",
    "unzigzag",
    "word",
    "zigzag",
]


def word(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the unsigned integer as wide as a value of this dtype."""
    return np.dtype(f"<u{dtype.itemsize}")


def to_ordered(values: Array) -> Array:
    """Return new unsigned integers in the order of the values."""
    kind, unsigned = values.dtype.kind, word(values.dtype)
    bits = values.view(unsigned)
    top = unsigned.type(1 << (8 * unsigned.itemsize - 1))
    if kind == "i":
        return bits ^ top
    if kind != "f":
        return bits.copy()
    # all ones where negative, only the sign bit elsewhere
    signs = (values.view(f"<i{unsigned.itemsize}") >> (8 * unsigned.itemsize - 1)).view(
        unsigned
    )
    return bits ^ (signs | top)


def from_ordered(words: Array, dtype: np.dtype[Any]) -> Array:
    """Undo `to_ordered`, in place where it can."""
    top = words.dtype.type(1 << (8 * words.dtype.itemsize - 1))
    if dtype.kind == "i":
        np.bitwise_xor(words, top, out=words)
    elif dtype.kind == "f":
        signs = (words.view(f"<i{dtype.itemsize}") >> (8 * dtype.itemsize - 1)).view(
            words.dtype
        )
        words ^= ~signs | top
    return words.view(dtype)


def difference(words: Array, order: int) -> Array:
    """Return the order-th difference along axis 0; may use ``words`` as scratch."""
    source, target = words, np.empty_like(words)
    for done in range(min(order, len(words) - 1)):
        target[: done + 1] = source[: done + 1]
        np.subtract(source[done + 1 :], source[done:-1], out=target[done + 1 :])
        source, target = target, source
    return source


def accumulate(words: Array, order: int) -> Array:
    """Undo `difference` in place."""
    for done in reversed(range(min(order, len(words) - 1))):
        for t in range(done + 1, len(words)):
            np.add(words[t], words[t - 1], out=words[t])
    return words


def zigzag(words: Array) -> Array:
    """Fold signs into the lowest bit, in place."""
    signs = words.view(f"<i{words.dtype.itemsize}") >> (8 * words.dtype.itemsize - 1)
    np.left_shift(words, 1, out=words)
    np.bitwise_xor(words, signs.view(words.dtype), out=words)
    return words


def unzigzag(words: Array) -> Array:
    """Undo `zigzag` in place."""
    signs = np.negative(words & words.dtype.type(1))
    np.right_shift(words, 1, out=words)
    np.bitwise_xor(words, signs, out=words)
    return words
