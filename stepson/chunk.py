"""Arrays <-> chunks: one field x block x range of atoms, compressed and checked.

A chunk is bytes for the payload of a record, and an ``info`` map for its msgpack part:
codec and parameters, raw and encoded length, crc32c of the bytes, smallest and largest
value, number of NaN, and for an error-bounded chunk the largest error.

`decode` trusts nothing: the checksum comes first, then lengths, all before anything is
allocated.
"""

from collections.abc import Mapping
from math import prod
from typing import Any, NamedTuple

import crc32c
import numpy as np

from stepson.codecs import Encoded, codec_named
from stepson.codecs.base import Array
from stepson.codecs.plan import Plan, choose_plan
from stepson.errors import DamagedError, FormatError, SchemaError

__all__ = ["MAX_RAW", "Chunk", "Plan", "choose_plan", "decode", "encode"]

MAX_RAW = 1 << 30
"""No chunk is larger than this when decoded; blosc2 itself ends at 2^31 - 33."""


class Chunk(NamedTuple):
    """An encoded chunk."""

    data: bytes
    info: dict[str, Any]


def encode(
    values: Array, plan: Plan, *, precision: float | None = None, verify: bool = True
) -> Chunk:
    """Encode samples of one field.

    Args:
        values: shape ``(frames, ...)``, any memory layout.
        plan: what `choose_plan` found for the field.
        precision: bound of the absolute error, in the unit of the values; None: lossless.
        verify: decompress and compare.

    Raises:
        SchemaError: too many values for one chunk, or of a dtype the codec cannot hold.
        WriterError: verification failed.
    """
    if values.nbytes > MAX_RAW:
        raise SchemaError(f"{values.nbytes} bytes are too many for a chunk of {MAX_RAW}")
    values = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    plan = plan if values.size else Plan("raw")
    try:
        encoded = _encode(values, plan, precision, verify)
    except SchemaError:
        if plan.codec != "linear":
            raise
        plan = Plan("delta", {**plan.params, "k": 2})
        encoded = _encode(values, plan, precision, verify)
    info = {
        "codec": plan.codec,
        "params": encoded.parameters,
        "raw": values.nbytes,
        "size": len(encoded.data),
        "crc32c": crc32c.crc32c(encoded.data),
        **_summary(values),
    }
    if encoded.error is not None:
        info["error"] = encoded.error
    return Chunk(encoded.data, info)


def _encode(values: Array, plan: Plan, precision: float | None, verify: bool) -> Encoded:
    codec = codec_named(plan.codec)
    return codec.encode(values, plan.params, precision=precision, verify=verify)


def _summary(values: Array) -> dict[str, Any]:
    """Return min, max and number of NaN; no min and max where there is no number."""
    if not values.size:
        return {"nan": 0}
    low, high, nan = values.min(), values.max(), 0
    if low != low:
        kept = values[~np.isnan(values)]
        nan = values.size - kept.size
        if not kept.size:
            return {"nan": nan}
        low, high = kept.min(), kept.max()
    return {"min": low.item(), "max": high.item(), "nan": nan}


def decode(
    data: bytes | memoryview,
    info: Mapping[str, Any],
    *,
    dtype: np.dtype[Any] | str,
    shape: tuple[int, ...],
    offset: int = 0,
    field: str | None = None,
    steps: tuple[int, int] | None = None,
) -> Array:
    """Decode a chunk into a new array of this dtype and shape.

    Args:
        data: the payload of the chunk.
        info: what `encode` returned with it.
        dtype: of the field.
        shape: ``(frames, ...)``.
        offset: of the chunk in its file, for messages.
        field: its name, for messages.
        steps: its first and last step, for messages.

    Raises:
        DamagedError: the checksum fails.
        FormatError: lengths or parameters contradict each other.
        UnknownCodecError: the codec is not known here.
    """
    actual, expected = crc32c.crc32c(data), info.get("crc32c")
    if actual != expected:
        raise DamagedError(
            "a chunk",
            offset=offset,
            field=field,
            steps=steps,
            expected=expected if isinstance(expected, int) else None,
            actual=actual,
        )
    stored = np.dtype(dtype).newbyteorder("<")
    raw = prod(shape) * stored.itemsize
    if info.get("size") != len(data) or info.get("raw") != raw or raw > MAX_RAW:
        raise FormatError(
            f"lengths of a chunk of {field!r} contradict each other", offset=offset
        )
    name, params = info.get("codec"), info.get("params")
    if not isinstance(name, str) or not isinstance(params, Mapping):
        raise FormatError(f"a chunk of {field!r} names no codec", offset=offset)
    if raw == 0:
        return np.empty(shape, stored)
    return codec_named(name).decode(memoryview(data), params, dtype=stored, shape=shape)
