"""What a pickle of another program holds, as data: tensors, and objects of no class.

=========  =============================================================================
`Stub`     an object of a class that is not loaded: its arguments and its state
`Array`    a tensor: a view into a `Storage`, checked when its numbers are asked for
`Storage`  the numbers of some tensors, filled in by whoever knows where they are
`Kind`     a kind of storage, or a dtype
`shown`    any of these, in a message
=========  =============================================================================

A pickle sets the state of what it has made. Each of these has a ``__setstate__`` of its
own, so that no attribute is ever set.
"""

import pickle
from collections.abc import Hashable, Iterable
from math import prod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["LARGEST", "Array", "Inert", "Kind", "Storage", "Stub", "shown", "whole"]

LARGEST = 2**28
"""Values above which tensors are refused: 2 GB of float64. Those of SchNets have 10^6."""


class Stub:
    """An object of a class that is not loaded: what it was made from, and its state.

    ``origin``: module and name of the class. ``arguments``, ``keywords``: of its
    construction. ``state``: attributes by name. ``items``: what it holds as a list.
    ``entries``: what it holds as a mapping.
    """

    origin: ClassVar[str] = ""
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    state: dict[str, Any]
    items: list[Any]
    entries: dict[Hashable, Any]

    def __new__(cls, *arguments: Any, **keywords: Any) -> "Stub":
        """Keep the arguments."""
        self = object.__new__(cls)
        self.arguments, self.keywords = arguments, keywords
        self.state, self.items, self.entries = {}, [], {}
        return self

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        pass

    def __call__(self, *arguments: Any, **keywords: Any) -> "Stub":
        """What a file would get from calling this: one more stub."""
        return Stub(*arguments, **keywords)

    def __setstate__(self, state: object) -> None:
        parts = state if isinstance(state, tuple) else (state,)
        for part in parts:
            if isinstance(part, dict):
                self.state.update(part)

    def __setitem__(self, key: Hashable, value: object) -> None:
        self.entries[key] = value

    def append(self, value: object) -> None:
        """Keep one item."""
        self.items.append(value)

    def extend(self, values: Iterable[object]) -> None:
        """Keep some items."""
        self.items.extend(values)


class Inert:
    """Base of what a file meets but must not change."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError(f"a state for {type(self).__name__}")


class Kind(Inert):
    """A kind of storage, or a dtype: its code, such as "f4"."""

    __slots__ = ("code",)

    def __init__(self, code: str) -> None:
        self.code = code


class Storage(Inert):
    """The numbers of some tensors, filled in by whoever knows where they are."""

    __slots__ = ("code", "count", "raw")

    def __init__(self, code: str, count: int) -> None:
        self.code, self.count = code, count
        self.raw: bytes | None = None

    @property
    def n_bytes(self) -> int:
        """Bytes that ``raw`` must have."""
        return self.count * int(self.code[-1])

    def values(self, code: str, order: str = "<") -> NDArray[Any]:
        """All numbers, read as a dtype."""
        if self.raw is None:
            raise pickle.UnpicklingError("a tensor without numbers")
        if code == "bf2":  # the upper half of a float32
            halves = np.frombuffer(self.raw, dtype=f"{order}u2").astype("u4")
            return (halves << 16).view("f4")
        return np.frombuffer(self.raw, dtype=f"{order}{code}")


class Array(Inert):
    """A tensor: a view into a `Storage`, checked when its numbers are asked for.

    Args: as torch rebuilds tensors; offset, size and stride count values.

    Raises:
        UnpicklingError: they are no numbers, or do not fit each other.
    """

    __slots__ = ("_code", "_offset", "_size", "_storage", "_stride")

    def __init__(
        self, storage: Any, offset: Any, size: Any, stride: Any, code: str | None = None
    ) -> None:
        if not isinstance(storage, Storage):
            raise pickle.UnpicklingError("a tensor without storage")
        self._storage, self._code = storage, code or storage.code
        self._size, self._stride = whole(size), whole(stride)
        (self._offset,) = whole((offset,))
        if len(self._size) != len(self._stride):
            raise pickle.UnpicklingError("a tensor with sizes and strides that do not fit")

    @property
    def count(self) -> int:
        """How many values it has; of an expanded one more than its storage."""
        return prod(self._size)

    def numbers(self) -> NDArray[Any]:
        """The values, in native byte order and memory of their own.

        Raises:
            UnpicklingError: they reach beyond their storage, or are more than `LARGEST`.
        """
        base = self._storage.values(self._code)
        if prod(n for n in self._size if n) > LARGEST:
            raise pickle.UnpicklingError(f"a tensor of more than {LARGEST} values")
        if not self.count:
            return np.zeros(self._size, dtype=base.dtype)
        steps = zip(self._size, self._stride, strict=True)
        if self._offset + sum((n - 1) * step for n, step in steps) >= len(base):
            raise pickle.UnpicklingError("a tensor that is larger than its storage")
        strides = tuple(step * base.itemsize for step in self._stride)
        view = np.lib.stride_tricks.as_strided(base[self._offset :], self._size, strides)
        return np.array(view, dtype=view.dtype.newbyteorder("="))


def whole(values: Any) -> tuple[int, ...]:
    """Sizes or strides of a tensor, if they are any.

    Raises:
        UnpicklingError: not at most 16 whole numbers from 0 to 2^40.
    """
    found = tuple(values)
    if len(found) > 16 or not all(type(n) is int and 0 <= n < 2**40 for n in found):
        raise pickle.UnpicklingError("a tensor whose sizes are no numbers")
    return found


def shown(value: object) -> str:
    """A few printable characters on a value of a file: never a line break, never its repr.

    The repr of what a file holds may be endless.
    """
    if isinstance(value, Stub):
        return f"a pickled {value.origin}"
    if isinstance(value, str):
        kept = "".join(c if c.isprintable() else "?" for c in value[:80])
        return repr(kept) + "..." * (len(value) > 80)
    if value is None:
        return "None"
    return "a tensor" if isinstance(value, Array) else f"a {type(value).__name__}"
