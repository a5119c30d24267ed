"""What files that continue one another have in common: atoms, timestep, fields.

Atoms and timestep must be the same: otherwise steps and columns would change their meaning
on the way. A field of the whole is one that every file has; its unit, dtype and shape must
be the same. Cadence and precision may change, since samples are found by their steps:
where they do, ``every`` is None, and the precision is the widest bound. A field that only
some files have is no column of the whole; it is still in ``traj.parts``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from stepson.errors import SchemaError
from stepson.picture import composition
from stepson.schema import Cadence, Field, Schema
from stepson.series.member import Member

__all__ = ["Agreed", "agree", "differences"]


@dataclass(frozen=True)
class Agreed(Schema):
    """The schema of several files; the limits of one file are not its own."""

    files: tuple[tuple[str, Schema], ...] = ()
    """Those that differ, with the label of the first file that has it."""

    def __post_init__(self) -> None:
        """What the files hold was checked when they were opened."""

    @cached_property
    def cadences(self) -> tuple[Cadence, ...]:
        """Fields that have the same samples in every file."""
        groups: dict[tuple[int, ...], list[Field]] = {}
        for each in self.fields:
            key = tuple(schema.cadence_of[each.name] for _, schema in self.files)
            groups.setdefault(key, []).append(each)
        return tuple(Cadence(g[0].every, g[0].offset, tuple(g)) for g in groups.values())

    @cached_property
    def partial(self) -> dict[str, tuple[str, ...]]:
        """Fields that not all files have, with labels of files that do."""
        names = dict.fromkeys(name for _, schema in self.files for name in schema.places)
        return {
            name: tuple(label for label, schema in self.files if name in schema.places)
            for name in names
            if name not in self.places
        }

    def field(self, name: str) -> Field:
        """The field of this name.

        Raises:
            SchemaError: there is none, or not in every file.
        """
        if name in self.partial:
            raise SchemaError(
                f"field {name!r} is not in all files, only in "
                f"{', '.join(self.partial[name])}; read it from .parts",
                field=name,
            )
        return super().field(name)


def agree(members: Sequence[Member]) -> Agreed:
    """The fields that all have.

    Raises:
        SchemaError: something that must be the same differs.
    """
    first = members[0]
    for each in members[1:]:
        for what, mine, theirs in differences(first, each):
            raise SchemaError(
                f"{each.where} has {what} {theirs}, {first.where} has {mine}: they cannot "
                "be read as one trajectory; join=False opens them one by one"
            )
    distinct: dict[int, tuple[str, Schema]] = {}
    for each in members:
        distinct.setdefault(id(each.schema), (each.label, each.schema))
    schemas = [schema for _, schema in distinct.values()]
    fields = tuple(
        _merged([schema.field(each.name) for schema in schemas])
        for each in first.schema.fields
        if all(each.name in schema.places for schema in schemas)
    )
    if not fields:
        raise SchemaError(
            f"{first.where} and the files that continue it have no field in common; "
            "join=False opens them one by one"
        )
    return Agreed(fields, first.schema.n_atoms, tuple(distinct.values()))


def differences(first: Member, other: Member) -> list[tuple[str, Any, Any]]:
    """What must be the same and is not: name, of the first, of the other."""
    found: list[tuple[str, Any, Any]] = []
    mine, theirs = first.numbers, other.numbers
    if first.schema.n_atoms != other.schema.n_atoms:
        found.append(("atoms:", first.schema.n_atoms, other.schema.n_atoms))
    elif mine is not None and theirs is not None and not np.array_equal(mine, theirs):
        found.append(("the atoms", *_atoms(mine, theirs)))
    if None not in (first.timestep, other.timestep) and first.timestep != other.timestep:
        found.append(("the timestep (fs)", first.timestep, other.timestep))
    for name in first.schema.places:
        if first.schema is not other.schema and name in other.schema.places:
            a, b = first.schema.field(name), other.schema.field(name)
            for key in ("unit", "dtype", "shape"):
                if getattr(a, key) != getattr(b, key):
                    words = f"field {name!r} with {key}"
                    found.append((words, getattr(a, key), getattr(b, key)))
    return found


def _atoms(mine: Any, theirs: Any) -> tuple[str, str]:
    """Formulas; where they are the same, the first atom that is another."""
    a, b = composition(mine.tolist()), composition(theirs.tolist())
    if a != b:
        return a, b
    place = int(np.flatnonzero(mine != theirs)[0])
    return tuple(f"{a} with number {n[place]} at {place}" for n in (mine, theirs))  # type: ignore[return-value]


def _merged(fields: Sequence[Field]) -> Field:
    """What holds of a field in all files."""
    first = fields[0]
    if all(each == first for each in fields):
        return first
    bounds = [each.precision for each in fields if each.precision is not None]
    same = len({(each.every, each.offset) for each in fields}) == 1
    shared = {
        key: value
        for key, value in first.attributes.items()
        if all(each.attributes.get(key) == value for each in fields)
    }
    return replace(
        first,
        every=first.every if same else None,
        offset=first.offset if same else 0,
        precision=max(bounds, default=None),
        codec=first.codec if len({each.codec for each in fields}) == 1 else "auto",
        attributes=shared,
    )
