"""The entropy stage: blosc2 as a coder of one buffer of equal-sized words.

Only `compress2` chunks are written, never a blosc2 frame. blosc2 is imported at the first
call: it takes most of a second, and opening a file or asking what is in it must not pay for
that.

Before a chunk is handed to the C library its header is checked here: sizes against what the
file says, and coder, filters and flags against the few that are written. So no other coder
(some load shared libraries), no lazy chunk (those name a file) and no uninitialised memory
can be asked for by a hostile file.
"""

import struct
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

from stepson.codecs.base import Array
from stepson.errors import FormatError, WriterError

__all__ = ["CODERS", "FILTERS", "compress", "decompress"]

CODERS = ("lz4", "zstd")
FILTERS = ("none", "shuffle", "bitshuffle")
MINIMUM = (3, 3, 2)
"""An earlier c-blosc2 lost partial tails in one of its filters."""

_HEADER = struct.Struct("<BBBBiii6sBB6sBB")
_FORMATS = (1, 4)  # lz4, zstd, in the flags
_LONG = 5  # flags, both: the header has 32 bytes, and filters, coder and flags are in it
_COPIED = 2  # flag: stored as it is
_CODERS = (1, 5)  # lz4, zstd, among the codecs
_SPECIALS = (0, 1 << 4, 3 << 4)  # ordinary, all zeros, one repeated word


@cache
def _blosc2() -> ModuleType:
    import blosc2

    found = tuple(int(part) for part in blosc2.blosclib_version.split()[0].split(".")[:3])
    if found < MINIMUM:
        need = ".".join(map(str, MINIMUM))
        raise WriterError(
            f"c-blosc2 {'.'.join(map(str, found))} is too old, {need} is needed: "
            "pip install --upgrade blosc2"
        )
    module: ModuleType = blosc2
    return module


@cache
def _options(coder: str, filter_name: str, level: int, width: int) -> dict[str, Any]:
    blosc2 = _blosc2()
    filters = {
        "none": blosc2.Filter.NOFILTER,
        "shuffle": blosc2.Filter.SHUFFLE,
        "bitshuffle": blosc2.Filter.BITSHUFFLE,
    }
    return {
        "codec": {"lz4": blosc2.Codec.LZ4, "zstd": blosc2.Codec.ZSTD}[coder],
        "clevel": level,
        "typesize": width,
        "nthreads": 1,
        "filters": [filters[filter_name]],
        "filters_meta": [0],
    }


def compress(
    words: Array, *, coder: str, filter_name: str, level: int, verify: bool
) -> bytes:
    """Compress a C-contiguous array of words.

    Raises:
        WriterError: verification failed: memory or the library is not to be trusted.
    """
    data: bytes = _blosc2().compress2(
        words, **_options(coder, filter_name, level, words.dtype.itemsize)
    )
    if verify and not np.array_equal(
        decompress(memoryview(data), words.size, words.dtype), words.ravel()
    ):
        raise WriterError("a compressed chunk does not decompress to what it was made of")
    return data


def decompress(data: memoryview, count: int, dtype: np.dtype[Any]) -> Array:
    """Return ``count`` words of ``dtype``.

    Raises:
        FormatError: the bytes are no such chunk.
    """
    _check_header(data, count * dtype.itemsize, dtype.itemsize)
    out = np.empty(count, dtype)
    try:
        _blosc2().decompress2(data, dst=out, nthreads=1)
    except (RuntimeError, ValueError) as error:
        raise FormatError(f"a chunk does not decompress: {error}") from error
    return out


def _check_header(data: memoryview, raw: int, width: int) -> None:
    if len(data) < _HEADER.size:
        raise FormatError(
            f"a compressed chunk of {len(data)} bytes is shorter than its header"
        )
    (
        _,
        _,
        flags,
        width_found,
        nbytes,
        _,
        cbytes,
        filters,
        coder,
        meta,
        metas,
        more,
        special,
    ) = _HEADER.unpack_from(data)
    sound = (
        (nbytes, cbytes, width_found) == (raw, len(data), width)
        and flags & _LONG == _LONG
        and (flags >> 5 in _FORMATS or flags & _COPIED)
        and filters[0] < len(FILTERS)
        and not any(filters[1:])
        and coder in _CODERS
        and not (meta or more or any(metas))
        and special in _SPECIALS
    )
    if not sound:
        raise FormatError(
            f"the header of a compressed chunk does not fit its {raw} raw bytes"
        )
