"""One field of a file as an array that is read when it is asked for.

A `Column` is indexed over its own samples, then atoms; `Steps` and `Times` say where these
samples stand. Only the chunks needed are read.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, overload

import numpy as np
from numpy.typing import NDArray

from stepson.batch import Batch
from stepson.errors import SchemaError
from stepson.schema import Field, Schema

__all__ = ["Column", "Samples", "Steps", "Times", "whole"]

PIECE = 2**16
Array = NDArray[Any]


class Samples(Protocol):
    """Where columns read: a `Reader` of one file, or a `Series` of several."""

    @property
    def schema(self) -> Schema:
        """Fields and number of atoms."""

    @property
    def frames(self) -> int:
        """How many there are."""

    def samples(self, name: str) -> int:
        """How many a field has."""

    def read(
        self, name: str, samples: NDArray[np.int64], atoms: tuple[int, int] | None = None
    ) -> Array:
        """Samples of a field by ascending numbers."""

    def steps_of(
        self, cadence: int | None, samples: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Steps of samples of a cadence (None: of frames) by ascending numbers."""

    def sample_at(self, cadence: int | None, step: int) -> int | None:
        """The number of the sample (None: of the frame) at a step, or None."""

    def stream(
        self, names: tuple[str, ...], frames: int, start: int | None, stop: int | None
    ) -> Iterator[Batch]:
        """Batches of samples in order."""


class Steps:
    """Step numbers of a column (or of all frames), read when they are asked for."""

    def __init__(self, reader: Samples, cadence: int | None, length: int) -> None:
        self._reader = reader
        self._cadence = cadence
        self._length = length

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, key: int) -> int: ...
    @overload
    def __getitem__(self, key: slice | Sequence[int]) -> NDArray[np.int64]: ...
    def __getitem__(self, key: int | slice | Sequence[int]) -> int | NDArray[np.int64]:
        wanted, scalar = _samples(key, self._length)
        found = _in_order(wanted, lambda n: self._reader.steps_of(self._cadence, n))
        return int(found[0]) if scalar else found

    def __iter__(self) -> Iterator[int]:
        for start in range(0, self._length, PIECE):
            yield from self[start : start + PIECE].tolist()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.asarray(self[:], dtype=dtype)

    def __repr__(self) -> str:
        if not self._length:
            return "<stepson.Steps: none>"
        return f"<stepson.Steps: {self._length}, {self[0]} to {self[-1]}>"


class Times:
    """Times of the steps of a column, fs."""

    def __init__(self, steps: Steps, timestep: float) -> None:
        self._steps = steps
        self._timestep = timestep

    def __len__(self) -> int:
        return len(self._steps)

    @overload
    def __getitem__(self, key: int) -> float: ...
    @overload
    def __getitem__(self, key: slice | Sequence[int]) -> NDArray[np.float64]: ...
    def __getitem__(self, key: int | slice | Sequence[int]) -> float | NDArray[np.float64]:
        found = self._steps[key]
        if isinstance(found, int):
            return float(found * self._timestep)
        return np.multiply(found, self._timestep, dtype=np.float64)

    def __iter__(self) -> Iterator[float]:
        return (step * self._timestep for step in self._steps)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.asarray(self[:], dtype=dtype)


class Column:
    """One field over its own samples: ``column[samples]``, ``column[samples, atoms]``."""

    def __init__(
        self, reader: Samples, field: Field, timestep: Callable[[], float]
    ) -> None:
        self._reader = reader
        self._timestep = timestep
        self.field = field

    def __len__(self) -> int:
        return self._reader.samples(self.field.name)

    @property
    def name(self) -> str:
        """Of the field."""
        return self.field.name

    @property
    def unit(self) -> str:
        """Of the field."""
        return self.field.unit

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the samples."""
        return np.dtype(self.field.dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        """``(samples, ...)``."""
        return (len(self), *self.field.sample_shape(self._reader.schema.n_atoms))

    @property
    def steps(self) -> Steps:
        """Of the samples."""
        cadence = self._reader.schema.cadence_of[self.field.name]
        return Steps(self._reader, cadence, len(self))

    @property
    def time(self) -> Times:
        """Of the samples, fs."""
        return Times(self.steps, self._timestep())

    def __getitem__(self, key: Any) -> Array:
        first, *rest = key if isinstance(key, tuple) else (key,)
        if first is Ellipsis:
            first, rest = slice(None), [Ellipsis, *rest] if rest else []
        wanted, scalar = _samples(first, len(self))
        atoms, rest = self._atoms(rest)
        name = self.field.name
        found = _in_order(wanted, lambda n: self._reader.read(name, n, atoms))
        found = found[(slice(None), *rest)] if rest else found
        return found[0] if scalar else found

    def _atoms(self, rest: list[Any]) -> tuple[tuple[int, int] | None, list[Any]]:
        """One atom, or a contiguous slice, is read alone; the rest is left to numpy."""
        count = self._reader.schema.n_atoms
        if not (self.field.per_atom and rest):
            return None, rest
        chosen = rest[0]
        if isinstance(chosen, (int, np.integer)) and not isinstance(chosen, bool):
            if not -count <= chosen < count:
                raise IndexError(f"atom {chosen} of {count}")
            atom = int(chosen) % count
            return (atom, atom + 1), [0, *rest[1:]]
        if isinstance(chosen, slice):
            start, stop, step = chosen.indices(count)
            if step == 1:
                return (start, max(start, stop)), [slice(None), *rest[1:]]
        return None, rest

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.asarray(self[:], dtype=dtype)

    def __iter__(self) -> Iterator[Array]:
        return (self[i] for i in range(len(self)))

    def at_step(self, step: int) -> Array:
        """The sample at a step.

        Raises:
            SchemaError: there is none.
        """
        cadence = self._reader.schema.cadence_of[self.field.name]
        found = self._reader.sample_at(cadence, whole(step, "a step"))
        if found is None:
            raise SchemaError(
                f"field {self.name!r} has no sample at step {step}", field=self.name
            )
        return self[found]

    def __repr__(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        return f"<stepson.Column {self.name!r} {self.shape} {self.field.dtype}{unit}>"


def whole(value: object, what: str) -> int:
    """A whole number; not a truth value, nor a float that happens to be whole.

    Raises:
        SchemaError: it is anything else.
    """
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return int(value)
    raise SchemaError(f"{what} is a whole number, not {value!r}")


def _samples(key: Any, length: int) -> tuple[NDArray[np.int64], bool]:
    """A key over samples as numbers; whether it was a single one."""
    if isinstance(key, (int, np.integer)) and not isinstance(key, bool):
        if not -length <= key < length:
            raise IndexError(f"sample {key} of {length}")
        return np.array([key % length], np.int64), True
    if isinstance(key, slice):
        return _range(*key.indices(length)), False
    found = np.asarray(key)
    if found.dtype == bool and found.ndim:
        found = np.flatnonzero(found) if found.shape == (length,) else np.array([length])
    if found.ndim != 1 or (found.size and found.dtype.kind not in "iu"):
        raise SchemaError(
            f"samples are chosen by a number, a slice, or a list of numbers, not {key!r}"
        )
    if found.size and not (-length <= found.min() and found.max() < length):
        raise IndexError(f"a sample out of {length}")
    return found.astype(np.int64) % max(length, 1), False


def _range(start: int, stop: int, step: int) -> NDArray[np.int64]:
    try:
        return np.arange(start, stop, step, dtype=np.int64)
    except (MemoryError, ValueError) as error:
        raise SchemaError(
            f"{len(range(start, stop, step))} samples at once do not fit into memory; read "
            "fewer at a time, or use stream()"
        ) from error


def _in_order(wanted: NDArray[np.int64], read: Any) -> Array:
    """Call `read` with ascending numbers, return in the order that was asked for."""
    if len(wanted) < 2 or np.all(wanted[1:] > wanted[:-1]):
        return np.asarray(read(wanted))
    unique, back = np.unique(wanted, return_inverse=True)
    return np.asarray(read(unique)[back])
