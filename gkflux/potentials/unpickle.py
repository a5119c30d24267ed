"""Pickles of other programs, read as data: what a file names is not imported or called.

A pickle is a program. It names functions and classes, calls them, and sets the state of
what they return. Here every name stands for something made in this module:

=========================================  =============================================
a name in the file                         becomes
=========================================  =============================================
what rebuilds a tensor or a parameter      an `Array`, which only points into its storage
a kind of storage, a dtype                 its code
OrderedDict, defaultdict, set, Size ...    a plain dict, set, tuple; a frozenset is a set
numpy's scalars and arrays of numbers      the same, from their bytes
**anything else**, os.system as well       a `Stub`: keeps arguments and state, does nothing
=========================================  =============================================

What such names stand for is made anew for every file, so one file cannot change what the
next one meets; and each of them has a ``__setstate__`` of ours, so that a pickle sets no
attribute of anything (`inert`).

Nor can a file of a few bytes take the process down. A key is hashed by a recursion in C
that nothing stops: tuples in tuples count their values (`NESTED`), and there are no other
keys that hold something. No text is made of what is no text: the repr of a list that holds
another one twice, which holds another one twice ... has no end.
"""

import pickle
from collections.abc import Callable, Hashable
from typing import IO, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from gkflux.potentials.inert import Array, Inert, Kind, Stub, whole

__all__ = ["Reader"]

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
NESTED = 10_000
"""Values of tuples in tuples above which a file is refused."""
NAMES = 10_000
"""Names above which a file is refused: each becomes a class."""
LONGEST = 300
"""Characters of a name above which it is refused."""


class _Allowed(Inert):
    """A name that a file may call; one object a name and file."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return self._function(*arguments, **keywords)


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
    return _text(text).encode("latin1")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise pickle.UnpicklingError(f"a {type(value).__name__} in place of a text")
    return value


def _plain_object(kind: Any, *rest: Any) -> Any:
    if not (isinstance(kind, type) and issubclass(kind, Stub)):
        raise pickle.UnpicklingError("an object of a class that is none")
    return kind()


class _NumpyType(Inert):
    """A dtype of numpy, of plain numbers only."""

    __slots__ = ("_code", "_order")

    def __init__(self, code: Any, *rest: Any) -> None:
        self._code, self._order = _text(code), "="

    def __setstate__(self, state: object) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">", "|", "="):
            self._order = state[1]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype itself."""
        if self._code not in ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u1", "b1"):
            raise pickle.UnpicklingError(f"a numpy array of {self._code[:20]}")
        return np.dtype(self._order + self._code)


class _NumpyArray(Inert):
    """An array of numpy, made from the bytes of its state."""

    __slots__ = ("values",)

    def __init__(self, *arguments: Any) -> None:
        self.values: NDArray[Any] = np.zeros(0)

    def __setstate__(self, state: object) -> None:
        if not (isinstance(state, tuple) and len(state) == 5):
            raise pickle.UnpicklingError("a numpy array of an unknown form")
        _, shape, kind, fortran, raw = state
        flat = np.frombuffer(_bytes(raw), dtype=_numpy_type(kind))
        self.values = flat.reshape(whole(shape), order="F" if fortran else "C")


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
    "torch.Size": lambda sizes=(): whole(sizes),
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
        f"{module}.{name}": replacement
        for module in ("builtins", "__builtin__")
        for name, replacement in (("set", set), ("frozenset", set), ("complex", complex))
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

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(
        pickle._Unpickler.dispatch  # noqa: SLF001
    )
    # what it inherits, and typeshed does not tell
    stack: list[Any]
    read: Callable[[int], bytes]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]

    def __init__(self, file: IO[bytes], persistent: Persistent) -> None:
        super().__init__(file, encoding="latin1")
        self._persistent = persistent
        self._met: dict[str, Any] = {}
        # by id; what is weighed is kept, so that no id comes twice
        self._weights: dict[int, tuple[Any, int]] = {}

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a name: never what it names."""
        origin = f"{module}.{name}"
        if origin not in self._met:
            if len(origin) > LONGEST or not origin.isprintable():
                raise pickle.UnpicklingError("a class whose name is none")
            if len(self._met) >= NAMES:
                raise pickle.UnpicklingError(f"more than {NAMES} names")
            self._met[origin] = _stand_in(module, name)
        return self._met[origin]

    def persistent_load(self, reference: Any) -> Any:
        """Ask whoever knows the file."""
        return self._persistent(reference)

    def get_extension(self, code: int) -> None:
        """Refuse numbers that stand for names which this process has registered."""
        raise pickle.UnpicklingError(f"extension {code}")

    def weigh(self) -> None:
        """Refuse a tuple, the newest value, that holds too much in tuples."""
        made = self.stack[-1]
        known = self._weights
        inner = [known.get(id(v), (v, len(v)))[1] for v in made if type(v) is tuple]
        weight = len(made) + sum(inner)
        if inner and weight > NESTED:
            raise pickle.UnpicklingError(f"tuples in tuples of more than {NESTED} values")
        self._weights[id(made)] = made, weight

    def load_bytearray8(self) -> None:
        """Make one as large as what is there, not as large as the file says."""
        size = int.from_bytes(self.read(8), "little")
        self.append(bytearray(self.read(size)))

    def load_frozenset(self) -> None:
        """A set in place of a frozenset, which could be a key and hold another one."""
        self.append(set(self.pop_mark()))


def _weighed(load: Callable[[Any], None]) -> Callable[[Any], None]:
    def loaded(reader: Reader) -> None:
        load(reader)
        reader.weigh()

    return loaded


for _opcode in (pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3):
    Reader.dispatch[_opcode[0]] = _weighed(Reader.dispatch[_opcode[0]])
Reader.dispatch[pickle.BYTEARRAY8[0]] = Reader.load_bytearray8
Reader.dispatch[pickle.FROZENSET[0]] = Reader.load_frozenset


def _stand_in(module: str, name: str) -> Any:
    origin = f"{module}.{name}"
    if origin in ALLOWED:
        return _Allowed(ALLOWED[origin])
    if module == "torch" and name in DTYPES:
        return Kind(DTYPES[name])
    if module in ("torch", "torch.cuda", "torch.storage") and name in STORAGES:
        return Kind(STORAGES[name])
    return type("Stub", (Stub,), {"origin": origin})
