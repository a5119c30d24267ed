"""Reading files that continue one another as if they were one.

Theory of operation. A `Series` offers what a `Reader` offers, over several files in the
order of their steps. File i counts from its first frame to the step in front of its
*limit*: where the first file behind it takes over that has frames. A file takes over at its
first frame, or behind the step of its parent that it continues, whichever comes first; so
what an interrupted run had written behind the state that it was restarted from is not read.
The numbers of frames and samples that count are summed up to the borders: any number is
found by bisection over the files, then by the index of one file. Files are opened when they
are asked for. Implements ``spec/son-1.md`` 6.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepson.batch import Batch, Waiting
from stepson.errors import FormatError
from stepson.index import Column
from stepson.opening import named
from stepson.reader import Reader
from stepson.room import room
from stepson.schema import Schema
from stepson.series.agreement import Agreed, agree
from stepson.series.member import Member, Shelf

__all__ = ["Series"]

Array = NDArray[Any]
Steps = NDArray[np.int64]


class Series:
    """Random access to the samples of several files.

    Args:
        members: in the order of their steps.
        shelf: opens them.

    Raises:
        SchemaError: atoms, timestep or a field differ.
    """

    def __init__(self, members: Sequence[Member], shelf: Shelf) -> None:
        self.members = tuple(members)
        self.schema: Agreed = agree(members)
        self._shelf = shelf
        self._maps = {id(s): _cadences(self.schema, s) for _, s in self.schema.files}
        self._starts = [
            _starts_at(a, b) for a, b in zip((None, *members[:-1]), members, strict=True)
        ]
        self.limits = _limits(self._starts)
        """Of each file, the step from which on its frames do not count; None: all do."""
        self._counts = self._count()
        spans = ((m.first, self.end(i), i) for i, m in enumerate(members))
        self._spans = [(a, b, i) for a, b, i in spans if a is not None and b and a < b]

    def reader(self, number: int) -> Reader:
        """The reader of a file."""
        return self._shelf[number]

    def _count(self) -> Array:
        """Totals up to each border, shape ``(files + 1, 1 + cadences)``, frames first."""
        counts = np.zeros((len(self.members) + 1, 1 + len(self.schema.cadences)), np.int64)
        for i, member in enumerate(self.members):
            places = self._maps[id(member.schema)]
            if self.end(i) is None:
                counts[i + 1] = 0
            elif not self.cut(i):
                counts[i + 1] = [member.frames, *(member.samples[c] for c in places)]
            else:
                reader, limit = self.reader(i), self.limits[i] or 0
                with named(member.where):
                    counts[i + 1] = [_before(reader, c, limit) for c in (None, *places)]
        return np.cumsum(counts, axis=0)

    def _cadence(self, number: int, cadence: int | None) -> int | None:
        """The cadence of a file that is one of the whole."""
        known = self._maps[id(self.members[number].schema)]
        return None if cadence is None else known[cadence]

    def cut(self, number: int) -> bool:
        """Whether some frames of a file do not count."""
        limit, last = self.limits[number], self.members[number].last
        return limit is not None and last is not None and last >= limit

    def end(self, number: int) -> int | None:
        """The step behind the last frame of a file that may count; None without frames."""
        last, limit = self.members[number].last, self.limits[number]
        if last is None:
            return None
        return last + 1 if limit is None else min(limit, last + 1)

    def start(self, number: int) -> int | None:
        """The step from which on a file counts; None where it is not told."""
        return self._starts[number]

    def told(self, number: int) -> int | None:
        """The step up to which the file before was continued, where that is told."""
        before = self.members[number - 1] if number else None
        return _told(before, self.members[number])

    def frames_of(self, number: int) -> int:
        """Frames of a file that count."""
        return int(self._counts[number + 1, 0] - self._counts[number, 0])

    @property
    def frames(self) -> int:
        """Frames that count, of all files."""
        return int(self._counts[-1, 0])

    def samples(self, name: str) -> int:
        """Samples of a field that count."""
        return int(self._counts[-1, 1 + self.schema.cadence_of[name]])

    def read(
        self, name: str, samples: Steps, atoms: tuple[int, int] | None = None
    ) -> Array:
        """Samples of a field by ascending numbers, shape ``(len(samples), ...)``."""
        field = self.schema.field(name)
        shape = field.sample_shape(self.schema.n_atoms)
        if field.per_atom and atoms is not None:
            shape = (atoms[1] - atoms[0], *shape[1:])
        out = room((len(samples), *shape), field.dtype, f"samples of {name!r}")
        place = 1 + self.schema.cadence_of[name]

        def fill(number: int, wanted: Steps) -> Array:
            return self.reader(number).read(name, wanted, atoms)

        return self._gather(out, place, samples, fill)

    def steps_of(self, cadence: int | None, samples: Steps) -> Steps:
        """Steps of samples of a cadence (None: of frames) by ascending numbers."""
        out = room((len(samples),), np.int64, "steps")
        place = 0 if cadence is None else 1 + cadence

        def fill(number: int, wanted: Steps) -> Steps:
            return self.reader(number).steps_of(self._cadence(number, cadence), wanted)

        return self._gather(out, place, samples, fill)

    def _gather(
        self, out: Array, place: int, samples: Steps, fill: Callable[[int, Steps], Array]
    ) -> Array:
        """Fill `out` file by file: `fill` gets the number of a file, and numbers in it."""
        totals = self._counts[:, place]
        done = 0
        while done < len(samples):
            number = int(np.searchsorted(totals, samples[done], "right")) - 1
            stop = int(np.searchsorted(samples, totals[number + 1]))
            out[done:stop] = fill(number, samples[done:stop] - totals[number])
            done = stop
        return out

    def holder(self, step: int) -> int | None:
        """The number of the file whose frames around a step count."""
        place = bisect_right(self._spans, step, key=lambda span: span[0]) - 1
        if place < 0 or step >= self._spans[place][1]:
            return None
        return self._spans[place][2]

    def sample_at(self, cadence: int | None, step: int) -> int | None:
        """The number of the sample (None: of the frame) at a step, or None."""
        number = self.holder(step)
        if number is None:
            return None
        found = self.reader(number).sample_at(self._cadence(number, cadence), step)
        place = 0 if cadence is None else 1 + cadence
        return None if found is None else found + int(self._counts[number, place])

    def parts(self, start: int = 0) -> Iterator[tuple[int, int, int]]:
        """Files with frames from number `start` on: file, first and end number in it."""
        for i in range(len(self.members)):
            low, high = (int(n) for n in self._counts[i : i + 2, 0])
            if max(low, start) < high:
                yield i, max(low, start) - low, high - low

    def stream(
        self, names: tuple[str, ...], frames: int, start: int | None, stop: int | None
    ) -> Iterator[Batch]:
        """Batches of samples in order, across the borders of files."""
        waiting = Waiting(self.schema, names, frames)
        for low, end, i in self._spans:
            end = end if stop is None else min(end, stop)
            if end <= max(low, -1 if start is None else start):
                continue  # not opened: nothing of it is asked for
            for batch in self.reader(i).stream(names, frames, start, end):
                for name in names:
                    waiting.add(name, batch.steps[name], batch[name])
                # All samples up to the last of a batch are in it or before it.
                last = max((int(s[-1]) for s in batch.steps.values() if len(s)), default=-1)
                yield from waiting.full(last + 1)
        yield from waiting.rest()


def _cadences(whole: Schema, part: Schema) -> list[int]:
    """For each cadence of the whole, that of a file."""
    return [part.cadence_of[each.fields[0].name] for each in whole.cadences]


def _starts_at(before: Member | None, member: Member) -> int | None:
    """The step from which on a file counts, and those in front of it do not."""
    if member.first is None:
        return None
    told = _told(before, member)
    return member.first if told is None else min(member.first, told + 1)


def _told(before: Member | None, member: Member) -> int | None:
    if before is None or member.parent != before.uuid:
        return None
    return member.parent_step


def _limits(starts: Sequence[int | None]) -> list[int | None]:
    """For each file, the earliest start of the files behind it."""
    limits: list[int | None] = []
    limit: int | None = None
    for start in reversed(starts):
        limits.append(limit)
        if start is not None:
            limit = start if limit is None else min(limit, start)
    return limits[::-1]


def _before(reader: Reader, cadence: int | None, step: int) -> int:
    """How many samples of a cadence (None: frames) stand before a step of the file."""
    unit = reader.unit_of_step(step)
    if unit is None:
        raise FormatError("the index ends before the last step that was committed")
    place = Column.FRAMES if cadence is None else Column.SAMPLES + cadence
    return int(unit.before[place]) + int(np.searchsorted(reader.steps(unit, cadence), step))
