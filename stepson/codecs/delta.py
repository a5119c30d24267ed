"""`delta`: lossless, the k-th difference in time of order-preserving integers.

Values -> `integers.to_ordered` -> k-th difference -> zigzag -> (shuffle, coder). Trajectories are
smooth, so most high bits of the result are zero.
"""

from typing import Any

import numpy as np

from stepson.codecs.base import Array, Encoded, Parameters, flat, parameter
from stepson.codecs.coder import compress, decompress
from stepson.codecs.integers import (
    accumulate,
    difference,
    from_ordered,
    to_ordered,
    unzigzag,
    word,
    zigzag,
)
from stepson.errors import FormatError

__all__ = ["MAX_ORDER", "Delta", "pack", "unpack"]

MAX_ORDER = 5


def pack(words: Array, parameters: Parameters, *, verify: bool) -> bytes:
    """Difference, fold and compress unsigned integers, shape ``(frames, columns)``."""
    folded = zigzag(difference(words, int(parameters["k"])))
    if parameters.get("order") == "atom":
        folded = np.ascontiguousarray(folded.T)
    return compress(
        folded,
        coder=str(parameters["coder"]),
        filter_name=str(parameters["filter"]),
        level=int(parameters["level"]),
        verify=verify,
    )


def unpack(
    data: bytes | memoryview,
    parameters: Parameters,
    dtype: np.dtype[Any],
    frames: int,
    columns: int,
) -> Array:
    """Undo `pack`: unsigned integers, shape ``(frames, columns)``."""
    k = parameter(parameters, "k", int, 0, MAX_ORDER)
    order = parameter(parameters, "order", str, "atom", "frame")
    words = decompress(data, frames * columns, dtype)
    if order == "atom":
        words = np.ascontiguousarray(words.reshape(columns, frames).T)
    elif order != "frame":
        raise FormatError(f"chunk parameter 'order' is {order!r}, not 'atom' or 'frame'")
    return accumulate(unzigzag(words.reshape(frames, columns)), k)


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
        data = pack(flat(to_ordered(values)), parameters, verify=verify)
        return Encoded(data, {name: parameters[name] for name in ("k", "order")})

    def decode(
        self,
        data: bytes,
        parameters: Parameters,
        *,
        dtype: np.dtype[Any],
        shape: tuple[int, ...],
    ) -> Array:
        """Sum the differences."""
        columns = int(np.prod(shape[1:], dtype=np.int64))
        words = unpack(data, parameters, word(dtype), shape[0], columns)
        return from_ordered(words, dtype).reshape(shape)
