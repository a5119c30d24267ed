"""`raw`: the little-endian bytes of the values, as they are."""

from typing import Any

import numpy as np

from stepson.codecs.base import Array, Encoded, Parameters
from stepson.errors import FormatError

__all__ = ["Raw"]


class Raw:
    """Store values uncompressed: for empty arrays and for a handful of bytes."""

    name = "raw"

    def encode(
        self,
        values: Array,
        parameters: Parameters,
        *,
        precision: float | None,
        verify: bool,
    ) -> Encoded:
        """Return the bytes of the values."""
        return Encoded(values.tobytes(), {})

    def decode(
        self,
        data: memoryview,
        parameters: Parameters,
        *,
        dtype: np.dtype[Any],
        shape: tuple[int, ...],
    ) -> Array:
        """Return a copy of the bytes as values."""
        out = np.empty(shape, dtype)
        if len(data) != out.nbytes:
            raise FormatError(f"a raw chunk has {len(data)} bytes instead of {out.nbytes}")
        out.reshape(-1).view(np.uint8)[:] = np.frombuffer(data, np.uint8)
        return out
