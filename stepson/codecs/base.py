"""What a codec is: values of one field in, bytes and a few parameters out, and back.

A codec sees the samples of one field as an array of shape ``(frames, ...)`` and knows nothing of
files, checksums or fields. The parameters it returns are written beside its bytes, as msgpack, and
are all it gets for decoding besides dtype and shape, which the file's schema knows. They come from
a file that may be hostile: `parameter` checks each before it is used, and whatever is wrong with
bytes or parameters is a `FormatError`.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from stepson.errors import FormatError

__all__ = ["Array", "Codec", "Encoded", "Parameters", "flat", "parameter", "storage_dtype"]

Array = NDArray[Any]
Parameters = Mapping[str, Any]
T = TypeVar("T", int, float, str)


class Encoded(NamedTuple):
    """The bytes of a chunk, and what decoding them needs."""

    data: bytes
    parameters: dict[str, Any]
    error: float | None = None
    """Largest difference between a value and its decoded value; None where that is zero."""


class Codec(Protocol):
    """One way to turn the samples of a field into bytes."""

    name: str

    def encode(
        self,
        values: Array,
        parameters: Parameters,
        *,
        precision: float | None,
        verify: bool,
    ) -> Encoded:
        """Turn values, shape ``(frames, ...)``, C-contiguous and not empty, into bytes.

        Args:
            values: little-endian numbers or bools.
            parameters: the plan's choices.
            precision: bound of the absolute error; None for a lossless codec.
            verify: decompress the result and compare it with what was compressed.

        Raises:
            SchemaError: this codec cannot hold values of this dtype.
            WriterError: verification failed.
        """

    def decode(
        self,
        data: bytes,
        parameters: Parameters,
        *,
        dtype: np.dtype[Any],
        shape: tuple[int, ...],
    ) -> Array:
        """Turn bytes into values of this dtype and shape.

        Raises:
            FormatError: bytes or parameters are not what `encode` writes.
        """


def parameter(parameters: Parameters, name: str, kind: type[T], low: T, high: T) -> T:
    """Return one parameter, which must be of this kind and in ``[low, high]``.

    Raises:
        FormatError: it is missing, of another kind or out of range.
    """
    value = parameters.get(name)
    if type(value) is not kind or not low <= value <= high:
        raise FormatError(
            f"chunk parameter {name!r} is {value!r}, not in [{low!r}, {high!r}]"
        )
    return value


def storage_dtype(dtype: np.dtype[Any] | str) -> np.dtype[Any]:
    """Return the little-endian dtype that a field is stored as."""
    return np.dtype(dtype).newbyteorder("<")


def flat(values: Array) -> Array:
    """View ``(frames, ...)`` as ``(frames, columns)``."""
    return values.reshape(len(values), -1)
