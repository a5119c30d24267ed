"""What a file records: fields with unit, dtype, explicit shape, cadence and error bound.

A *field* is one named array of a frame. Its atom axis is written out, ``("atom", 3)``,
never guessed from a shape. A field is due at the steps with ``step % every == offset`` and
at no other step; ``every=None`` is irregular. Fields that are due at the same steps share a
*cadence*, and an irregular field is a cadence by itself, so the samples of a file are
counted per cadence. Implements ``spec/son-1.md`` 2.4.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from stepson.errors import FormatError, SchemaError

__all__ = ["DTYPES", "MAX_SAMPLE_BYTES", "Cadence", "Field", "Schema", "as_fields"]

DTYPES = (
    *("float16", "float32", "float64", "bool"),
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
)
MAX_FIELDS = 64
MAX_CADENCES = 8
MAX_AXES = 8
MAX_ATOMS = 2**31 - 1
SMALL = 256
MAX_SAMPLE_BYTES = 2**26
RESERVED = frozenset({"step", "steps", "time", "index", "fields", "to_ase"})
Attribute = str | int | float | bool


@dataclass(frozen=True)
class Field:
    """One named array of a frame; the positional order is name, dtype, shape, unit."""

    name: str
    """An ASCII identifier."""
    dtype: str
    """One of `DTYPES`; always little-endian on disk."""
    shape: tuple[str | int, ...]
    """Of one sample; ``"atom"`` may stand for its first axis."""
    unit: str
    """For example ``"Å"``; ``""`` where there is none."""
    every: int | None = 1
    """Steps between samples; None is irregular."""
    offset: int = 0
    """Due when ``step % every == offset``."""
    precision: float | None = None
    """Bound of ``|x - x'|``, in the unit of the field; None is lossless."""
    codec: str = "auto"
    """Of the chunks; ``"auto"`` is chosen by trial."""
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    """Anything short that a reader of the field must know."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", _dtype_name(self.name, self.dtype))
        object.__setattr__(self, "shape", _shape(self.name, self.shape))
        object.__setattr__(self, "attributes", MappingProxyType(dict(self.attributes)))
        _check_name(self.name)
        _check_cadence(self)
        _check_precision(self)
        _check_attributes(self)

    @property
    def per_atom(self) -> bool:
        """Whether the first axis of a sample counts atoms."""
        return bool(self.shape) and self.shape[0] == "atom"

    @property
    def small(self) -> bool:
        """No atom axis and at most 256 bytes a sample: stored at the front of a block."""
        return not self.per_atom and self.sample_bytes(0) <= SMALL

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """The dtype on disk: little-endian."""
        return np.dtype(self.dtype).newbyteorder("<")

    def sample_shape(self, n_atoms: int) -> tuple[int, ...]:
        """The shape of one sample in a file of `n_atoms` atoms."""
        return tuple(n_atoms if isinstance(axis, str) else axis for axis in self.shape)

    def sample_bytes(self, n_atoms: int) -> int:
        """Raw bytes of one sample."""
        count = 1
        for axis in self.sample_shape(n_atoms):
            count *= axis
        return count * np.dtype(self.dtype).itemsize

    def due(self, step: int) -> bool:
        """Whether a sample must be given at this step; never for an irregular field."""
        return self.every is not None and step % self.every == self.offset

    def to_map(self) -> dict[str, Any]:
        """What SCHEMA stores."""
        return {
            "name": self.name,
            "dtype": self.dtype,
            "shape": list(self.shape),
            "unit": self.unit,
            "every": self.every,
            "offset": self.offset,
            "precision": self.precision,
            "codec": self.codec,
            "attributes": dict(self.attributes),
        }


class Cadence(NamedTuple):
    """Fields whose samples are taken at the same steps."""

    every: int | None
    offset: int
    fields: tuple[Field, ...]


@dataclass(frozen=True)
class Schema:
    """The fields of a file and its number of atoms."""

    fields: tuple[Field, ...]
    """In the order of the file: a chunk names its field by the place here."""
    n_atoms: int
    """The length of every axis ``"atom"``; it never changes within a file."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "fields", tuple(self.fields))
        names = [each.name for each in self.fields]
        double = next((name for name in names if names.count(name) > 1), None)
        if double is not None:
            raise SchemaError(f"field {double!r} is declared twice", field=double)
        if not names or len(names) > MAX_FIELDS:
            raise SchemaError(f"a file has 1 to {MAX_FIELDS} fields, not {len(names)}")
        if not 0 <= self.n_atoms <= MAX_ATOMS:
            raise SchemaError(f"a file has 0 to {MAX_ATOMS} atoms, not {self.n_atoms}")
        if len(self.cadences) > MAX_CADENCES:
            raise SchemaError(
                f"{len(self.cadences)} different cadences, at most {MAX_CADENCES} fit; "
                "every field with every=None is one by itself"
            )
        for each in self.fields:
            _check_sample(each)

    @cached_property
    def cadences(self) -> tuple[Cadence, ...]:
        """Distinct (every, offset), in order of first use; an irregular field is one."""
        groups: dict[object, list[Field]] = {}
        for each in self.fields:
            key = each.name if each.every is None else (each.every, each.offset)
            groups.setdefault(key, []).append(each)
        return tuple(
            Cadence(group[0].every, group[0].offset, tuple(group))
            for group in groups.values()
        )

    @cached_property
    def cadence_of(self) -> Mapping[str, int]:
        """The number of the cadence of each field, by name."""
        return {
            each.name: i for i, group in enumerate(self.cadences) for each in group.fields
        }

    @cached_property
    def places(self) -> Mapping[str, int]:
        """The number of each field, by name."""
        return {each.name: i for i, each in enumerate(self.fields)}

    @property
    def has_per_atom(self) -> bool:
        """Whether SCALARS are worth writing: otherwise the blocks hold nothing else."""
        return any(not each.small for each in self.fields)

    def field(self, name: str) -> Field:
        """The field of this name.

        Raises:
            SchemaError: there is none.
        """
        if name not in self.places:
            have = ", ".join(self.places)
            raise SchemaError(f"no field {name!r} in this file; it has {have}", field=name)
        return self.fields[self.places[name]]

    def to_map(self) -> dict[str, Any]:
        """What SCHEMA stores."""
        return {"n_atoms": self.n_atoms, "fields": [each.to_map() for each in self.fields]}

    @classmethod
    def from_map(cls, stored: Mapping[str, Any], offset: int) -> "Schema":
        """Read what `to_map` wrote, trusting nothing.

        Raises:
            FormatError: it is no schema; `offset` says where it stands.
        """
        known = set(Field.__dataclass_fields__)
        try:
            maps = [{name: each[name] for name in known} for each in stored["fields"]]
            n_atoms = stored["n_atoms"]
            if type(n_atoms) is not int:
                raise TypeError("n_atoms is no integer")
            if any(each["dtype"] not in DTYPES for each in maps):
                raise TypeError("a dtype is none of those of a file")  # ">f8" is numpy's
            return cls(tuple(Field(**each) for each in maps), n_atoms)
        except (SchemaError, TypeError, KeyError, AttributeError, ValueError) as error:
            raise FormatError(f"SCHEMA is not valid: {error}", offset=offset) from error


def as_fields(fields: Iterable[Field]) -> tuple[Field, ...]:
    """Check that every item is a `Field` that a new file may have.

    Files of other programs may have names that are in the way of attributes here; they are
    read.
    """
    found = tuple(fields)
    for each in found:
        if not isinstance(each, Field):
            raise SchemaError(
                f"fields are stepson.Field objects, not {type(each).__name__}"
            )
        if each.name in RESERVED:
            raise SchemaError(
                f"a field cannot be named {each.name!r}: it means something else",
                field=each.name,
            )
    return found


def _check_name(name: object) -> None:
    if not (isinstance(name, str) and name.isascii() and name.isidentifier()):
        raise SchemaError(f"a field is named with an ASCII identifier, not {name!r}")


def _dtype_name(name: str, dtype: object) -> str:
    try:
        found = np.dtype(dtype).name  # type: ignore[call-overload]
    except TypeError:
        found = str(dtype)
    if found not in DTYPES:
        raise SchemaError(
            f"field {name!r}: dtype {found!r} is not one of {', '.join(DTYPES)}",
            field=str(name),
            expected=DTYPES,
            got=found,
        )
    return str(found)


def _shape(name: str, shape: Iterable[str | int]) -> tuple[str | int, ...]:
    axes = tuple(
        a if isinstance(a, str) else _axis(name, a) for a in _iterable(name, shape)
    )
    if any(a != "atom" for a in axes if isinstance(a, str)) or "atom" in axes[1:]:
        raise SchemaError(
            f"field {name!r}: shape {axes} may name one axis, 'atom', and only the first",
            field=name,
        )
    if len(axes) > MAX_AXES:
        raise SchemaError(f"field {name!r}: at most {MAX_AXES} axes", field=name)
    return axes


def _iterable(name: str, shape: Iterable[str | int]) -> Iterable[str | int]:
    if isinstance(shape, str) or not isinstance(shape, Iterable):
        raise SchemaError(
            f'field {name!r}: a shape is a tuple such as ("atom", 3)', field=name
        )
    return shape


def _axis(name: str, axis: object) -> int:
    if (
        isinstance(axis, (int, np.integer))
        and not isinstance(axis, bool)
        and 1 <= axis < 2**31
    ):
        return int(axis)
    raise SchemaError(
        f"field {name!r}: an axis is 'atom' or at least 1, not {axis!r}", field=name
    )


def _check_cadence(each: Field) -> None:
    every, offset = each.every, each.offset
    if not _is_integer(offset) or not (every is None or _is_integer(every)):
        raise SchemaError(
            f"field {each.name!r}: every and offset are integers", field=each.name
        )
    good = offset == 0 if every is None else 0 < every < 2**62 and 0 <= offset < every
    if not good:
        raise SchemaError(
            f"field {each.name!r}: every={every}, offset={offset}; every is at least 1 and "
            "0 <= offset < every",
            field=each.name,
        )


def _is_integer(value: object) -> bool:
    return type(value) is int


def _check_precision(each: Field) -> None:
    texts: tuple[object, ...] = (each.unit, each.codec)
    if not all(isinstance(text, str) for text in texts):
        raise SchemaError(f"field {each.name!r}: unit and codec are text", field=each.name)
    bound: object = each.precision
    if bound is None:
        return
    if not isinstance(bound, (int, float)) or not 0 < bound < float("inf"):
        raise SchemaError(
            f"field {each.name!r}: precision is a positive number", field=each.name
        )
    if not each.dtype.startswith("float") or not each.per_atom:
        raise SchemaError(
            f"field {each.name!r}: only floating point fields with an atom axis are lossy",
            field=each.name,
        )


def _check_attributes(each: Field) -> None:
    items: Iterable[tuple[object, object]] = each.attributes.items()
    for key, value in items:
        if not isinstance(key, str) or not isinstance(value, (str, int, float, bool)):
            raise SchemaError(
                f"field {each.name!r}: attribute {key!r} is not text, number or bool",
                field=each.name,
            )


def _check_sample(each: Field) -> None:
    if each.sample_bytes(1) > MAX_SAMPLE_BYTES:
        raise SchemaError(
            f"field {each.name!r}: a sample, or the part of one atom, is at most 64 MiB",
            field=each.name,
        )
