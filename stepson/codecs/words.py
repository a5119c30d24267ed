"""Words of a chunk in memory order: the layout, and the way through the coder.

Codecs compute on ``(frames, columns)``; a column is one number of one atom through time.
The coder sees the words in one of two layouts: ``"frames"``, row after row, or
``"columns"``, each column contiguous in time. The second compresses better where columns
differ (another exponent, another amplitude); the first needs no transposition. Which one is
the plan's choice.

Work is done in tiles that fit into the second-level cache. Encoding walks over tiles of
columns; decoding, which sums from row to row, over wide bands of columns and groups of
rows.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from stepson.codecs.base import Array, Parameters, parameter
from stepson.codecs.coder import compress, decompress
from stepson.errors import FormatError

__all__ = ["GROUP", "LAYOUTS", "Words", "bands", "tiles"]

LAYOUTS = ("frames", "columns")
GROUP = 16
"""Rows that are handled together; also one cache line of 4-byte words."""
_TILE = 1 << 17
_BAND = 4096
"""Columns; so few that a BLAS starts no threads for what is predicted in one step."""


def tiles(shape: tuple[int, ...]) -> Iterator[slice]:
    """Ranges of columns: all frames of one fit into the cache, at 8 bytes a value."""
    frames, columns = shape
    width = min(max(GROUP, _TILE // frames), _BAND)
    return (slice(first, min(first + width, columns)) for first in range(0, columns, width))


def bands(columns: int) -> Iterator[slice]:
    """Ranges of columns so that a few rows of one fit into the cache."""
    return (slice(first, min(first + _BAND, columns)) for first in range(0, columns, _BAND))


class Words:
    """All words of a chunk, shape ``(frames, columns)``, held in its layout."""

    def __init__(self, held: Array, layout: str) -> None:
        self._held = held
        self._layout = layout

    @classmethod
    def empty(cls, shape: tuple[int, ...], dtype: np.dtype[Any], layout: str) -> "Words":
        """Make room for the words of a chunk, shape ``(frames, columns)``."""
        return cls(np.empty(shape if layout == "frames" else shape[::-1], dtype), layout)

    @property
    def rows(self) -> Array:
        """View of all words as ``(frames, columns)``, whatever the layout."""
        return self._held if self._layout == "frames" else self._held.T

    def store(self, columns: slice, tile: Array) -> None:
        """Put a tile of all frames and some columns in its place."""
        if self._layout == "frames":
            self._held[:, columns] = tile
            return
        for first in range(0, len(tile), GROUP):
            self._held[columns, first : first + GROUP] = tile[first : first + GROUP].T

    def group(self, first: int, columns: slice) -> Array:
        """Return a copy of a group of rows, shape ``(rows, columns)``."""
        last = first + GROUP
        if self._layout == "frames":
            return self._held[first:last, columns].copy()
        return np.ascontiguousarray(self._held[columns, first:last].T)

    def narrowed(self) -> "Words":
        """Return the same numbers in the narrowest words that hold them all."""
        largest = int(self._held.max(initial=0))
        width = next(width for width in (1, 2, 4, 8) if largest < 1 << 8 * width)
        return Words(self._held.astype(f"<u{width}", copy=False), self._layout)

    @property
    def width(self) -> int:
        """Bytes of a word."""
        return self._held.dtype.itemsize

    def pack(self, parameters: Parameters, *, verify: bool) -> bytes:
        """Compress; see `stepson.codecs.coder.compress`. No words are no bytes."""
        if not self._held.size:
            return b""
        return compress(
            self._held,
            coder=str(parameters["coder"]),
            filter_name=str(parameters["filter"]),
            level=int(parameters["level"]),
            verify=verify,
        )

    @classmethod
    def unpack(
        cls,
        data: memoryview,
        parameters: Parameters,
        dtype: np.dtype[Any],
        shape: tuple[int, ...],
    ) -> "Words":
        """Decompress words of this dtype, shape ``(frames, columns)``."""
        layout = parameter(parameters, "layout", str)
        if layout not in LAYOUTS:
            raise FormatError(
                f"chunk parameter 'layout' is {layout!r}, not one of {LAYOUTS}"
            )
        count = shape[0] * shape[1]
        held = decompress(data, count, dtype) if count or len(data) else np.empty(0, dtype)
        return cls(held.reshape(shape if layout == "frames" else shape[::-1]), layout)
