"""One of many files: what is kept of it while it is not held open.

Opening a thousand files costs a thousand short looks, not a thousand descriptors: of each a
`Member` stays, and a `Shelf` opens again what is asked for, keeping the last few. A file
that has grown meanwhile is read as far as it went at the first look; one that was replaced
is an error.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from stepson.errors import UNREADABLE, ClosedError, FormatError
from stepson.index import Column
from stepson.opening import Header, Opened, Totals, open_named
from stepson.reader import Reader
from stepson.schema import Schema
from stepson.series.names import Name, Named
from stepson.source import Source
from stepson.trajectory import Trajectory
from stepson.tree import Lazy

__all__ = ["Known", "Member", "Shelf", "SourceOf"]

KEPT_OPEN = 2
"""Each may hold a block column decoded; a pass is in one, or between two."""
KEPT_FAR = 8
"""Of files behind URLs, where opening again costs round trips."""
SYSTEM = ("masses", "pbc", "cell")
SourceOf = Callable[[Name], Source]
Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Member:
    """A file as of the first look at it."""

    where: Name
    label: str
    header: Header
    digest: str
    schema: Schema
    frames: int
    samples: tuple[int, ...]
    """Of each cadence of its schema."""
    first: int | None
    """Step of the first frame; None without frames."""
    last: int | None
    """Step of the last frame."""
    numbers: Array | None
    """Atomic numbers; None where they cannot be read."""
    timestep: float | None
    """fs; None where it is not told."""
    totals: Totals
    size: int
    sealed: bool
    torn_bytes: int
    valid_until: int
    checkpoints: tuple[int, ...] = ()
    """Steps of the last two."""
    system: Mapping[str, Any] | None = None
    """``masses``, ``pbc`` and ``cell`` where they are told; None: cannot be read."""

    @property
    def uuid(self) -> str:
        """32 hexadecimal digits."""
        return self.header.uuid.hex()

    @property
    def parent(self) -> str | None:
        """The uuid of the file that this one continues."""
        found = (self.header.parent or {}).get("uuid")
        if isinstance(found, bytes):
            return found.hex()
        return found.lower() if isinstance(found, str) else None

    @property
    def parent_step(self) -> int | None:
        """The last step of the parent that counts; None where it is not told."""
        found = (self.header.parent or {}).get("step")
        # An empty parent ends at step -1, which tells nothing.
        return found if type(found) is int and found >= 0 else None

    @property
    def parent_digest(self) -> str | None:
        """Digest of the COMMIT of the parent that was continued."""
        found = (self.header.parent or {}).get("digest")
        return found.lower() if isinstance(found, str) else None


class Known:
    """What many files have in common is kept once."""

    def __init__(self) -> None:
        self._schemas: list[Schema] = []
        self._arrays: dict[bytes, Array] = {}

    def member(self, named: Named, opened: Opened) -> Member:
        """Keep what is needed of a file.

        Raises:
            FormatError: its index is damaged.
        """
        reader, commit = Reader(opened), opened.tail.commit
        unit = opened.tree.find(Column.FRAMES, 0) if commit.frames else None
        numbers, timestep, system = self._metadata(opened)
        schema = self._schema(opened.schema)
        return Member(
            where=named.where,
            label=named.label,
            header=opened.header,
            digest=commit.digest.hex(),
            schema=schema,
            frames=commit.frames,
            samples=tuple(reader.samples(c.fields[0].name) for c in schema.cadences),
            first=None if unit is None else int(unit.row[Column.FIRST]),
            last=commit.end_step - 1 if commit.frames else None,
            numbers=numbers,
            timestep=timestep,
            totals=opened.table.totals,
            size=opened.size,
            sealed=opened.tail.sealed,
            torn_bytes=opened.torn_bytes,
            valid_until=opened.tail.valid_until,
            checkpoints=tuple(step for step, _ in opened.table.checkpoints),
            system=system,
        )

    def _schema(self, schema: Schema) -> Schema:
        for each in self._schemas:
            if each == schema:
                return each
        self._schemas.append(schema)
        return schema

    def _metadata(
        self, opened: Opened
    ) -> tuple[Array | None, float | None, Mapping[str, Any] | None]:
        """Numbers, timestep and system; a damaged METADATA hides no frames."""
        try:
            tree = Lazy(opened.source, opened.metadata)
            numbers, timestep = tree.get("numbers"), tree.get("timestep")
            system = {key: self._once(tree[key]) for key in SYSTEM if key in tree}
        except UNREADABLE:
            return None, None, None
        if _are_numbers(numbers, opened.schema.n_atoms):
            numbers = self._once(numbers)
        else:
            numbers = None
        known = float(timestep) if isinstance(timestep, (int, float)) else None
        return numbers, known, system

    def _once(self, value: Any) -> Any:
        """The value, the same object where an array has the same bytes."""
        if not isinstance(value, np.ndarray):
            return value
        found = self._arrays.setdefault(value.tobytes(), value)
        same = found.dtype == value.dtype and found.shape == value.shape
        return found if same else value


def _are_numbers(value: Any, n_atoms: int) -> bool:
    """Whether it can be atomic numbers, one for each atom."""
    listed = isinstance(value, np.ndarray) and value.shape == (n_atoms,)
    return listed and value.dtype.kind in "iu"


class Shelf:
    """Members, opened when they are asked for; the last few stay open.

    What falls off is closed when its last user lets go of it.
    """

    def __init__(self, members: Sequence[Member], source_of: SourceOf) -> None:
        self._members = members
        self._source_of = source_of
        self._open: OrderedDict[int, Reader] = OrderedDict()
        self._lent: WeakSet[Reader] = WeakSet()
        self._lock = Lock()
        far = any(isinstance(each.where, str) for each in members)
        self._most = KEPT_FAR if far else KEPT_OPEN
        self.closed = False

    def __getitem__(self, number: int) -> Reader:
        with self._lock:
            if self.closed:
                raise ClosedError
            reader = self._open.pop(number, None)
            if reader is None:
                reader = self._again(self._members[number])
            self._open[number] = reader
            while len(self._open) > self._most:
                self._open.popitem(last=False)
        return reader

    def _again(self, member: Member) -> Reader:
        opened = open_named(self._source_of(member.where), member.where)
        _check_same(member, opened)
        return Reader(opened)

    def part(self, member: Member) -> Trajectory:
        """A file by itself, opened anew; it is closed with the others.

        Raises:
            ClosedError: they were.
            FormatError: it is not what was opened.
        """
        if self.closed:
            raise ClosedError
        found = Trajectory(self._source_of(member.where), member.where)
        try:
            _check_same(member, found.opened)
            with self._lock:
                if self.closed:
                    raise ClosedError
                self._lent.add(found.reader)
        except BaseException:
            found.close()
            raise
        return found

    def close(self) -> None:
        """Let go of all; none is opened again."""
        with self._lock:
            self.closed = True
            for reader in (*self._open.values(), *self._lent):
                reader.close()
            self._open.clear()


def _check_same(member: Member, opened: Opened) -> None:
    """Refuse what is no longer the file that was looked at first."""
    commit = opened.tail.commit
    ends = commit.end_step - 1 if member.last is None else member.last
    if opened.header.uuid != member.header.uuid:
        raise FormatError(f"{member.where} was replaced by another file; open it again")
    if commit.frames < member.frames or commit.end_step - 1 < ends:
        raise FormatError(
            f"{member.where} has fewer frames than when it was opened; open it again"
        )
