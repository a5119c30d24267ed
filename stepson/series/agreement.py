"""What files that continue one another have in common: system, timestep, fields.

Atoms, masses, boundaries, cell and timestep must be the same: otherwise steps and columns
would change their meaning on the way, and the metadata of the first file would be wrong for
the others. A field of the whole is one that every file has; its unit, dtype, shape and
attributes (a gauge, a formulation) must be the same. Cadence and precision may change,
since samples are found by their steps: where they do, ``every`` is None, and the precision
is the widest bound. A field that only some files have is no column of the whole; it is
still in ``traj.parts``.
"""

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from stepson.errors import SchemaError
from stepson.picture import composition
from stepson.schema import Cadence, Field, Schema
from stepson.series.member import Member

__all__ = ["Agreed", "agree", "differences", "split"]

RECOVERED = "every_before_recovery"
"""The one attribute that changes no meaning: of a field that lost samples."""


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


def split(chain: Sequence[Member]) -> tuple[list[list[Member]], list[str]]:
    """Cut a chain in front of each file that does not agree with those before it.

    Returns:
        the pieces, and for each cut a line that says why.
    """
    pieces, notes = [[chain[0]]], []
    names = set(chain[0].schema.places)
    for each in chain[1:]:
        why = _disagreement(pieces[-1][0], names, each)
        if why is None:
            pieces[-1].append(each)
            names &= set(each.schema.places)
        else:
            pieces.append([each])
            names = set(each.schema.places)
            notes.append(f"{why}: it starts a run of its own, though it names its parent")
    return pieces, notes


def _disagreement(first: Member, names: Set[str], other: Member) -> str | None:
    """Why a file cannot be read together with others; None: it can."""
    for what, mine, theirs in differences(first, other):
        return f"{other.where} has {what} {theirs}, {first.where} has {mine}"
    if names.isdisjoint(other.schema.places):
        return f"{other.where} has no field in common with what it continues"
    return None


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
    found += _of_system(first, other)
    for name in first.schema.places:
        if first.schema is not other.schema and name in other.schema.places:
            a, b = first.schema.field(name), other.schema.field(name)
            for key in ("unit", "dtype", "shape"):
                if getattr(a, key) != getattr(b, key):
                    words = f"field {name!r} with {key}"
                    found.append((words, getattr(a, key), getattr(b, key)))
            for key in sorted({*a.attributes, *b.attributes} - {RECOVERED}):
                mine_told, theirs_told = a.attributes.get(key), b.attributes.get(key)
                if mine_told != theirs_told:
                    found.append((f"field {name!r} with {key}", mine_told, theirs_told))
    return found


def _of_system(first: Member, other: Member) -> Iterator[tuple[str, Any, Any]]:
    """Differences of masses, boundaries and cell, where both files can be read."""
    if first.system is None or other.system is None:
        return
    for key, words in (("masses", "masses (amu)"), ("pbc", "pbc")):
        mine, theirs = first.system.get(key), other.system.get(key)
        if mine is not None and theirs is not None and not _same(mine, theirs):
            yield words, *_apart(mine, theirs)
    cells = _cell(first), _cell(other)
    if not _same(*cells):
        yield "the cell (Å)", _words(cells[0]), _words(cells[1])


def _cell(member: Member) -> Any:
    """Of the metadata; the name of the field where it is one; None for a cluster."""
    if "cell" in member.schema.places:
        return "recorded as a field"
    return None if member.system is None else member.system.get("cell")


def _same(mine: Any, theirs: Any) -> bool:
    return mine is theirs or bool(np.array_equal(mine, theirs))


def _apart(mine: Any, theirs: Any) -> tuple[str, str]:
    """Two values; of long arrays the first place where they differ."""
    a, b = np.asarray(mine), np.asarray(theirs)
    if a.shape != b.shape or a.ndim != 1 or len(a) <= 3:
        return _words(mine), _words(theirs)
    place = int(np.flatnonzero(a != b)[0])
    return f"{a[place]} of atom {place}", f"{b[place]} of atom {place}"


def _words(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return str(value.tolist()) if value.size <= 9 else f"an array {value.shape}"
    return "none" if value is None else str(value)


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
