"""Arrays as large as a file asks for; a request that no memory holds is one clear line."""

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepson.errors import SchemaError

__all__ = ["room"]


def room(shape: tuple[int, ...], dtype: Any, what: str) -> NDArray[Any]:
    """A new array, not filled.

    Raises:
        SchemaError: it does not fit into memory.
    """
    try:
        return np.empty(shape, dtype)
    except (MemoryError, ValueError) as error:
        size = prod(shape) * np.dtype(dtype).itemsize / 2**30
        raise SchemaError(
            f"{what} at once take {size:.3g} GiB, which do not fit into memory; read fewer "
            "samples or atoms at a time, or use stream()"
        ) from error
