"""`delta`: lossless, the k-th difference in time of order-preserving integers.

Values -> `integers.order` -> k-th difference -> zigzag -> layout -> (shuffle, coder). For
every dtype and every bit pattern.
"""

from typing import Any

import numpy as np

from stepson.codecs.base import Array, Encoded, Parameters, flat, integer
from stepson.codecs.integers import accumulate, difference, order, unzigzag, word, zigzag
from stepson.codecs.words import GROUP, Words, bands, tiles

__all__ = ["MAX_K", "Delta"]

MAX_K = 5


class Delta:
    """Lossless compression of anything that changes little from frame to frame."""

    name = "delta"

    def encode(
        self,
        values: Array,
        parameters: Parameters,
        *,
        precision: float | None,
        verify: bool,
    ) -> Encoded:
        """Compress the differences of the values."""
        k, layout, kind = int(parameters["k"]), str(parameters["layout"]), values.dtype.kind
        bits = flat(values).view(word(values.dtype))
        words = Words.empty(bits.shape, bits.dtype, layout)
        for columns in tiles(bits.shape):
            words.store(
                columns, zigzag(difference(order(bits[:, columns].copy(), kind), k))
            )
        return Encoded(words.pack(parameters, verify=verify), {"k": k, "layout": layout})

    def decode(
        self,
        data: memoryview,
        parameters: Parameters,
        *,
        dtype: np.dtype[Any],
        shape: tuple[int, ...],
    ) -> Array:
        """Sum the differences."""
        k = integer(parameters, "k", 0, MAX_K)
        out = np.empty(shape, word(dtype))
        rows = flat(out)
        words = Words.unpack(data, parameters, out.dtype, rows.shape)
        for columns in bands(rows.shape[1]):
            states: list[Array | None] = [None] * k
            for first in range(0, len(rows), GROUP):
                group = unzigzag(words.group(first, columns))
                accumulate(group, k, states, first)
                rows[first : first + GROUP, columns] = order(group, dtype.kind)
        return out.view(dtype)
