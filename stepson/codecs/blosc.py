"""`blosc2`: shuffle the bytes or bits of the values, then lz4 or zstd. No prediction."""

from typing import Any

import numpy as np

from stepson.codecs.base import Array, Encoded, Parameters
from stepson.codecs.coder import compress, decompress

__all__ = ["Blosc2"]


class Blosc2:
    """Plain blosc2, for values that are not smooth in time."""

    name = "blosc2"

    def encode(
        self,
        values: Array,
        parameters: Parameters,
        *,
        precision: float | None,
        verify: bool,
    ) -> Encoded:
        """Compress the words of the values."""
        words = values.view(f"<u{values.dtype.itemsize}")
        return Encoded(
            compress(
                words,
                coder=str(parameters.get("coder", "zstd")),
                filter_name=str(parameters.get("filter", "shuffle")),
                level=int(parameters.get("level", 5)),
                verify=verify,
            ),
            {},
        )

    def decode(
        self,
        data: memoryview,
        parameters: Parameters,
        *,
        dtype: np.dtype[Any],
        shape: tuple[int, ...],
    ) -> Array:
        """Decompress; the blosc2 chunk describes itself."""
        count = int(np.prod(shape, dtype=np.int64))
        words = decompress(data, count, np.dtype(f"<u{dtype.itemsize}"))
        return words.view(dtype).reshape(shape)
