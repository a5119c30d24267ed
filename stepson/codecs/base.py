"""What a codec is: values of one field in, bytes and a few parameters out, and back.

A codec sees the samples of one field as an array of shape ``(frames, ...)`` and knows
nothing of files, checksums or fields. The parameters it returns are written beside its
bytes, as msgpack, and are all it gets for decoding besides dtype and shape, which the
file's schema knows. They come from a file that may be hostile: each is checked before it is
used, and whatever is wrong with bytes or parameters is a `FormatError`.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from stepson.errors import FormatError

__all__ = ["Array", "Codec", "Encoded", "Parameters", "flat", "integer", "parameter"]

Array = NDArray[Any]
Parameters = Mapping[str, Any]
T = TypeVar("T")


class Encoded(NamedTuple):
    """The bytes of a chunk, and what decoding them needs."""

    data: bytes
    parameters: dict[str, Any]
    error: float | None = None
    """Largest difference between a value and its decoded value; None for a lossless
    codec."""


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
        data: memoryview,
        parameters: Parameters,
        *,
        dtype: np.dtype[Any],
        shape: tuple[int, ...],
    ) -> Array:
        """Turn bytes into values of this dtype and shape.

        Raises:
            FormatError: bytes or parameters are not what `encode` writes.
        """


def parameter(parameters: Parameters, name: str, kind: type[T]) -> T:
    """Return one parameter, which must be of exactly this kind.

    Raises:
        FormatError: it is missing or of another kind.
    """
    value = parameters.get(name)
    if type(value) is not kind:
        raise FormatError(
            f"chunk parameter {name!r} is {value!r}, not of type {kind.__name__}"
        )
    return value


def integer(parameters: Parameters, name: str, low: int, high: int) -> int:
    """Return one integer parameter, which must be in ``[low, high]``.

    Raises:
        FormatError: it is missing, no integer, or out of range.
    """
    value = parameter(parameters, name, int)
    if not low <= value <= high:
        raise FormatError(f"chunk parameter {name!r} is {value}, not in [{low}, {high}]")
    return value


def flat(values: Array) -> Array:
    """View ``(frames, ...)`` as ``(frames, columns)``; both must not be empty."""
    return values.reshape(len(values), -1)
