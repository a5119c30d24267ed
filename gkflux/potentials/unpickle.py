"""Pickles of other programs, read as data: what a file names is not imported or called.

A pickle is a program. It names functions and classes, calls them, and sets the state of
what they return. Here every name stands for something made in this module:

=========================================  =============================================
a name in the file                         becomes
=========================================  =============================================
what rebuilds a tensor or a parameter      an `Array`, which only points into its storage
a kind of storage, a dtype                 its code
OrderedDict, defaultdict, set, Size ...    a plain dict, set, tuple
numpy's scalars and arrays of numbers      the same, from their bytes
**anything else**, os.system as well       a `Stub`: keeps arguments and state, does nothing
=========================================  =============================================

What such names stand for is made anew for every file, so one file cannot change what the
next one meets; and each of them has a ``__setstate__`` of ours, so that a pickle sets no
attribute of anything.
"""

import pickle
from collections.abc import Callable, Hashable, Iterable
from typing import IO, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "Kind", "Reader", "Storage", "Stub"]

Persistent = Callable[[Any], Any]

DTYPES = {
    "float64": "f8",
    "float32": "f4",
    "float16": "f2",
    "bfloat16": "bf2",
    "int64": "i8",
    "int32": "i4",
    "int16": "i2",
    "int8": "i1",
    "uint8": "u1",
    "bool": "b1",
}
STORAGES = {
    "DoubleStorage": "f8",
    "FloatStorage": "f4",
    "HalfStorage": "f2",
    "BFloat16Storage": "bf2",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "b1",
    "UntypedStorage": "u1",
}
LARGEST = 2**31
"""Values of one tensor above which a file is refused: 8 GB."""


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


class _Inert:
    """Base of what a file meets but must not change."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError(f"a state for {type(self).__name__}")


class Kind(_Inert):
    """A kind of storage, or a dtype: its code, such as "f4"."""

    __slots__ = ("code",)

    def __init__(self, code: str) -> None:
        self.code = code


class _Allowed(_Inert):
    """A name that a file may call; one object a name and file."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return self._function(*arguments, **keywords)


class Storage(_Inert):
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


class Array(_Inert):
    """A tensor: a view into a `Storage`, checked when its numbers are asked for."""

    __slots__ = ("_code", "_offset", "_size", "_storage", "_stride")

    def __init__(
        self, storage: Any, offset: Any, size: Any, stride: Any, code: str | None = None
    ) -> None:
        if not isinstance(storage, Storage):
            raise pickle.UnpicklingError("a tensor without storage")
        self._storage, self._code = storage, code or storage.code
        self._size, self._stride = _whole(size), _whole(stride)
        (self._offset,) = _whole((offset,))
        if len(self._size) != len(self._stride):
            raise pickle.UnpicklingError("a tensor with sizes and strides that do not fit")

    def numbers(self) -> NDArray[Any]:
        """The values, in native byte order and memory of their own."""
        base = self._storage.values(self._code)
        if int(np.prod(self._size, dtype=object)) > LARGEST:
            raise pickle.UnpicklingError("a tensor larger than 8 GB")
        if 0 in self._size:
            return np.zeros(self._size, dtype=base.dtype)
        steps = zip(self._size, self._stride, strict=True)
        if self._offset + sum((n - 1) * step for n, step in steps) >= len(base):
            raise pickle.UnpicklingError("a tensor that is larger than its storage")
        strides = tuple(step * base.itemsize for step in self._stride)
        view = np.lib.stride_tricks.as_strided(base[self._offset :], self._size, strides)
        return np.array(view, dtype=view.dtype.newbyteorder("="))


def _whole(values: Any) -> tuple[int, ...]:
    found = tuple(values)
    if len(found) > 16 or not all(type(n) is int and 0 <= n < 2**40 for n in found):
        raise pickle.UnpicklingError("a tensor whose sizes are no numbers")
    return found


def _rebuild(storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> Array:
    return Array(storage, offset, size, stride)


def _rebuild_typed(
    storage: Any, offset: Any, size: Any, stride: Any, grad: Any, hooks: Any, kind: Any
) -> Array:
    return Array(storage, offset, size, stride, _code(kind))


def _code(kind: Any) -> str:
    if not isinstance(kind, Kind):
        raise pickle.UnpicklingError("a tensor of no known dtype")
    return kind.code


def _first(value: Any, *rest: Any) -> Any:
    """A parameter is its tensor; gradients and hooks are of no use here."""
    return value


def _of_type(function: Any, kind: Any, arguments: Any, state: Any) -> Any:
    if not isinstance(function, _Allowed):
        raise pickle.UnpicklingError("a tensor rebuilt by an unknown function")
    return function(*arguments)


class _Mapping(dict[Hashable, Any]):
    """A dictionary whose attributes no file can set."""

    def __setstate__(self, state: object) -> None:
        pass


def _mapping(*arguments: Any) -> _Mapping:
    pairs = arguments[-1] if arguments and isinstance(arguments[-1], list | dict) else ()
    return _Mapping(pairs)


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    return str(text).encode("latin1")


def _plain_object(kind: Any, *rest: Any) -> Any:
    if not (isinstance(kind, type) and issubclass(kind, Stub)):
        raise pickle.UnpicklingError("an object of a class that is none")
    return kind()


class _NumpyType(_Inert):
    """A dtype of numpy, of plain numbers only."""

    __slots__ = ("_code", "_order")

    def __init__(self, code: Any, *rest: Any) -> None:
        self._code, self._order = str(code), "="

    def __setstate__(self, state: object) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">", "|", "="):
            self._order = state[1]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype itself."""
        if self._code not in ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u1", "b1"):
            raise pickle.UnpicklingError(f"a numpy array of {self._code[:20]}")
        return np.dtype(self._order + self._code)


class _NumpyArray(_Inert):
    """An array of numpy, made from the bytes of its state."""

    __slots__ = ("values",)

    def __init__(self, *arguments: Any) -> None:
        self.values: NDArray[Any] = np.zeros(0)

    def __setstate__(self, state: object) -> None:
        if not (isinstance(state, tuple) and len(state) == 5):
            raise pickle.UnpicklingError("a numpy array of an unknown form")
        _, shape, kind, fortran, raw = state
        flat = np.frombuffer(_bytes(raw), dtype=_numpy_type(kind))
        self.values = flat.reshape(_whole(shape), order="F" if fortran else "C")


def _scalar(kind: Any, raw: Any) -> Any:
    return np.frombuffer(_bytes(raw), dtype=_numpy_type(kind))[0].item()


def _numpy_type(kind: Any) -> np.dtype[Any]:
    if not isinstance(kind, _NumpyType):
        raise pickle.UnpicklingError("a numpy array of no known dtype")
    return kind.dtype


def _bytes(raw: Any) -> bytes:
    return raw if isinstance(raw, bytes) else _encode(raw)


ALLOWED: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _rebuild,
    "torch._utils._rebuild_tensor_v2": _rebuild,
    "torch._utils._rebuild_tensor_v3": _rebuild_typed,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch._tensor._rebuild_from_type_v2": _of_type,
    "torch.Size": lambda *sizes: tuple(*sizes),
    "collections.OrderedDict": _mapping,
    "collections.defaultdict": _mapping,
    "_codecs.encode": _encode,
    "copyreg._reconstructor": _plain_object,
    "copy_reg._reconstructor": _plain_object,
    "numpy.dtype": _NumpyType,
    "numpy.ndarray": _NumpyArray,
    **{
        f"{module}.{name}": replacement
        for module in ("numpy.core.multiarray", "numpy._core.multiarray")
        for name, replacement in (("scalar", _scalar), ("_reconstruct", _NumpyArray))
    },
    **{
        f"{module}.{kind.__name__}": kind
        for module in ("builtins", "__builtin__")
        for kind in (set, frozenset, complex, slice)
    },
}


class Reader(pickle._Unpickler):  # noqa: SLF001
    """An unpickler that meets no name of the file; see the module.

    It is the one that is written in Python: the one in C sets aside as much memory as the
    largest number among the references of a file says, which may be damaged.

    Args:
        file: at the start of a pickle; left behind its end.
        persistent: what a reference to something outside of the pickle stands for.
    """

    def __init__(self, file: IO[bytes], persistent: Persistent) -> None:
        super().__init__(file, encoding="latin1")
        self._persistent = persistent
        self._met: dict[str, Any] = {}

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a name: never what it names."""
        origin = f"{module}.{name}"
        if origin not in self._met:
            self._met[origin] = _stand_in(module, name)
        return self._met[origin]

    def persistent_load(self, reference: Any) -> Any:
        """Ask whoever knows the file."""
        return self._persistent(reference)

    def get_extension(self, code: int) -> None:
        """Refuse numbers that stand for names which this process has registered."""
        raise pickle.UnpicklingError(f"extension {code}")


def _stand_in(module: str, name: str) -> Any:
    origin = f"{module}.{name}"
    if origin in ALLOWED:
        return _Allowed(ALLOWED[origin])
    if module == "torch" and name in DTYPES:
        return Kind(DTYPES[name])
    if module in ("torch", "torch.cuda", "torch.storage") and name in STORAGES:
        return Kind(STORAGES[name])
    return type("Stub", (Stub,), {"origin": origin})
