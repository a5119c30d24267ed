"""Several files that continue one another as one `Trajectory`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields as fields_of
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np

from stepson.errors import SchemaError
from stepson.frame import Frame
from stepson.index import Column as Place
from stepson.opening import Totals
from stepson.series.borders import find_gaps, find_overlaps, mention
from stepson.series.member import Member, Shelf, SourceOf
from stepson.series.reader import Series
from stepson.trajectory import Trajectory
from stepson.verify import Verification

__all__ = ["Joined", "Parts"]

PIECE = 4096


class Parts(Sequence[Trajectory]):
    """Files as trajectories, opened when they are asked for, closed with the whole."""

    def __init__(self, members: Sequence[Member], shelf: Shelf) -> None:
        self._members = members
        self._shelf = shelf

    def __len__(self) -> int:
        return len(self._members)

    @overload
    def __getitem__(self, key: int) -> Trajectory: ...
    @overload
    def __getitem__(self, key: slice) -> "Parts": ...
    def __getitem__(self, key: int | slice) -> "Trajectory | Parts":
        if isinstance(key, slice):
            return Parts(self._members[key], self._shelf)
        return self._shelf.part(self._members[key])

    def __repr__(self) -> str:
        return f"<stepson.Parts: {', '.join(str(each.where) for each in self._members)}>"


class Joined(Trajectory):
    """Files that continue one another, as of the moment they were opened.

    ``metadata`` and ``parent`` are those of the first file; ``uuid``, ``digest``,
    ``sealed`` and the checkpoints those of the last, which is the one to go on from.
    """

    def __init__(self, members: Sequence[Member], source_of: SourceOf) -> None:
        self.path = None
        self._files = tuple(members)
        self._shelf = Shelf(self._files, source_of)
        self._series = Series(self._files, self._shelf)
        self._parts = Parts(self._files, self._shelf)
        self.gaps = tuple(find_gaps(self._series))
        self.overlaps = tuple(find_overlaps(self._series))

    @property
    def _samples(self) -> Series:
        return self._series

    @property
    def parts(self) -> Parts:
        """Each file as a trajectory, opened when it is asked for; `close` closes them."""
        return self._parts

    @property
    def uuid(self) -> str:
        """Of the last file, 32 hexadecimal digits."""
        return self._files[-1].uuid

    @property
    def digest(self) -> str:
        """Of the last file, which through its parents vouches for all before it."""
        return self._files[-1].digest

    @property
    def parent(self) -> Mapping[str, Any] | None:
        """What the first file continues."""
        return self._files[0].header.parent

    @property
    def size(self) -> int:
        """Bytes of all files when they were opened."""
        return sum(each.size for each in self._files)

    @property
    def sealed(self) -> bool:
        """Whether the last file was closed properly."""
        return self._files[-1].sealed

    @property
    def torn_bytes(self) -> int:
        """Bytes behind the last commits of all files."""
        return sum(each.torn_bytes for each in self._files)

    @property
    def paths(self) -> tuple[Path | str, ...]:
        """Of the files, in the order of their steps."""
        return tuple(each.where for each in self._files)

    @property
    def limits(self) -> tuple[int | None, ...]:
        """Of each file, the step from which on its frames do not count; None: all do."""
        return tuple(self._series.limits)

    @cached_property
    def _metadata(self) -> Mapping[str, Any]:
        """Of the first file."""
        return self.parts[0].metadata

    def frames(self, start: int = 0) -> Iterator[Frame]:
        """The frames in order, from number `start` on."""
        names = tuple(self.fields)
        for number, first, end in self._series.parts(start):
            reader = self._series.reader(number)
            for low in range(first, end, PIECE):
                wanted = range(low, min(low + PIECE, end))
                for step in reader.steps_of(None, np.array(wanted)).tolist():
                    yield Frame(reader, step, self._timestep, names)

    def _frame(self, step: int) -> Frame:
        number = self._series.holder(step)
        if number is None:
            raise SchemaError(f"nothing was recorded at step {step}")
        reader = self._series.reader(number)
        return Frame(reader, step, self._timestep, tuple(self.fields))

    @property
    def checkpoint_steps(self) -> list[int]:
        """Steps of the last checkpoints that count, of the last file that has any."""
        for number in range(len(self._files) - 1, -1, -1):
            found = self._known_checkpoints(number)
            if found:
                return found
        return []

    def _known_checkpoints(self, number: int) -> list[int]:
        """Steps of the last checkpoints of a file, as of opening, that count."""
        limit, steps = self._series.limits[number], self._files[number].checkpoints
        return [step for step in steps if limit is None or step < limit]

    def checkpoint(self, step: int | None = None) -> dict[str, Any]:
        """The state to go on from, with ``"step"`` in it.

        Args:
            step: of the checkpoint, in the file that counts there; default: the last one
                that counts.

        Raises:
            SchemaError: there is none.
            DamagedError: a checksum fails.
        """
        self._check_open()
        which = "" if step is None else f" of step {step}"
        refused = SchemaError(f"there is no checkpoint{which} in these files")
        for number in range(len(self._files) - 1, -1, -1):
            start, limit = self._series.start(number), self._series.limits[number]
            if step is not None and limit is not None and step >= limit:
                continue
            # A file may start with the state that it was started from.
            if step is not None and start is not None and step < start - 1:
                continue
            # A file that grew has states that were not there when it was opened.
            newest = max(self._files[number].checkpoints, default=-1)
            if step is not None and step > newest:
                continue
            wanted = self._last_checkpoint(number, limit) if step is None else step
            try:
                if wanted is not None:
                    return self.parts[number].checkpoint(wanted)
            except SchemaError as error:
                refused = error
        raise refused

    def _last_checkpoint(self, number: int, limit: int | None) -> int | None:
        """The step of the last checkpoint of a file in front of its limit."""
        known = self._known_checkpoints(number)
        if known:
            return known[-1]
        if limit is None or not self._files[number].checkpoints:
            return None
        tree = self.parts[number].opened.tree
        unit = tree.find(Place.END, limit)
        while unit is not None and unit.before[Place.CHECKPOINT_STEP] >= limit:
            unit = tree.find(
                Place.CHECKPOINT_STEP, int(unit.before[Place.CHECKPOINT_STEP]) - 1
            )
        before = -1 if unit is None else int(unit.before[Place.CHECKPOINT_STEP])
        return before if before >= 0 else None

    def verify(
        self, deep: bool = False, on_progress: Callable[[int, int], None] | None = None
    ) -> Verification:
        """Check every checksum of all files; a damage names its file.

        Args:
            deep: also decode every chunk, and check the index and SCALARS.
            on_progress: called with bytes done and bytes to do.
        """
        self._check_open()
        result, done = Verification(), 0
        for part in self.parts:
            base, total = done, self.size

            def tell(now: int, _: int, base: int = base, total: int = total) -> None:
                if on_progress is not None:
                    on_progress(base + now, total)

            _add(result, part.verify(deep, tell), str(part.path))
            done += part.size
        return result

    @property
    def _name(self) -> str:
        first, last = self._files[0].label, self._files[-1].label
        return f"{first} to {last}, {len(self._files)} files"

    @property
    def last_step(self) -> int:
        """Of the last frame; -1 without any."""
        return int(self.steps[-1]) if len(self) else -1

    def _totals(self) -> Totals:
        """Sums over the files; the codec where they used the same."""
        raw, stored, codecs = [], [], []
        for name in self.fields:
            places = [(m.totals, m.schema.places[name]) for m in self._files]
            used = {t.codecs[i] for t, i in places} - {""}
            raw.append(sum(t.raw[i] for t, i in places))
            stored.append(sum(t.stored[i] for t, i in places))
            codecs.append(", ".join(sorted(used)))
        return Totals(tuple(raw), tuple(stored), tuple(codecs))

    def _remarks(self) -> Iterator[str]:
        yield from super()._remarks()
        yield from mention([*self.gaps, *self.overlaps])
        for name, files in self._series.schema.partial.items():
            yield f"{name} is only in {', '.join(files)}; read it from .parts"

    def close(self) -> None:
        """Let go of the files: reading from them is a `ClosedError` from now on."""
        self._shelf.close()

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._shelf.closed


def _add(result: Verification, part: Verification, name: str) -> None:
    """Add what was found in a file."""
    for each in fields_of(Verification):
        mine, theirs = getattr(result, each.name), getattr(part, each.name)
        if each.name != "damages" and isinstance(mine, (int, list)):
            setattr(result, each.name, mine + theirs)
    for damage in part.damages:
        result.damages.append(replace(damage, file=name))
