"""Reading samples by number, step or stream, in memory bounded by one block column.

A `Reader` knows where the records of a file are (`Opened`) and hands out arrays, put
together from units (`stepson.kept`). Over a slow link the next units are fetched while one
is decoded (`stepson.ahead`).
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from stepson.ahead import ahead
from stepson.batch import Batch, Waiting
from stepson.errors import UNREADABLE, FormatError
from stepson.index import Column, Row, Unit
from stepson.kept import HEAD_BYTES, Array, Kept, Steps
from stepson.room import room

__all__ = ["Batch", "Reader"]


class _Part(NamedTuple):
    """The samples that a read takes from one unit: places among those asked for."""

    unit: Unit
    start: int
    stop: int


class Reader(Kept):
    """Random access to the samples of an opened file."""

    @property
    def frames(self) -> int:
        """Frames committed."""
        return self.opened.tail.commit.frames

    def samples(self, name: str) -> int:
        """Samples of a field."""
        last = self._last_row()
        place = Column.SAMPLES + self.schema.cadence_of[name]
        return 0 if last is None else int(last[place])

    def _last_row(self) -> Row | None:
        """Totals at the end of the file."""
        tree = self.opened.tree
        newest = [each.rows[-1] for each in (tree.table, *tree.roots) if len(each)]
        found = newest[0] if newest else None
        frames = 0 if found is None else int(found[Column.FRAMES])
        if frames != self.frames:
            raise FormatError(
                f"the index leads to {frames} frames of {self.frames} that were committed"
            )
        return found

    def unit_of_frame(self, frame: int, *, small: bool = False) -> Unit:
        """The unit that holds a frame."""
        return _found(self.find(Column.FRAMES, frame, small))

    def unit_of_step(self, step: int, *, small: bool = False) -> Unit | None:
        """The first unit whose frames do not all come before a step."""
        return self.find(Column.END, step, small)

    def read(
        self, name: str, samples: Steps, atoms: tuple[int, int] | None = None
    ) -> Array:
        """Samples of a field by ascending numbers, shape ``(len(samples), ...)``."""
        field = self.schema.field(name)
        cadence = self.schema.cadence_of[name]
        low, high = atoms or (0, self.schema.n_atoms)
        shape = field.sample_shape(self.schema.n_atoms)
        shape = (high - low, *shape[1:]) if field.per_atom else shape
        out = room((len(samples), *shape), field.dtype, f"samples of {name!r}")
        chosen = atoms if field.per_atom else None

        def take(unit: Unit, wanted: Steps) -> Array:
            span = (int(wanted[0]), int(wanted[-1]) + 1)
            found = self.values(unit, name, span, chosen)
            return np.asarray(found[wanted - span[0]])

        def needs(unit: Unit, wanted: Steps) -> Iterator[tuple[int, int]]:
            whole = self.kept_length(unit, name, chosen)
            span = (int(wanted[0]), int(wanted[-1]) + 1) if whole is None else None
            return self.block(unit).ranges(name, span, chosen)

        place = Column.SAMPLES + cadence
        self._gather(out, place, samples, take, needs, small=field.small)
        return out

    def steps_of(self, cadence: int | None, samples: Steps) -> Steps:
        """Steps of samples of a cadence (None: of frames) by ascending numbers."""
        place = Column.FRAMES if cadence is None else Column.SAMPLES + cadence
        out = room((len(samples),), np.int64, "steps")

        def take(unit: Unit, wanted: Steps) -> Array:
            return self.steps(unit, cadence)[wanted]

        def needs(unit: Unit, wanted: Steps) -> Iterator[tuple[int, int]]:
            return self.block(unit).step_ranges()

        self._gather(out, place, samples, take, needs, small=True)
        return out

    def _gather(
        self,
        out: Array,
        place: int,
        samples: Steps,
        take: Callable[[Unit, Steps], Array],
        needs: Callable[[Unit, Steps], Iterator[tuple[int, int]]],
        *,
        small: bool,
    ) -> None:
        """Fill `out` unit by unit: `take` gets a unit and numbers within it."""

        def within(part: _Part) -> Steps:
            return samples[part.start : part.stop] - int(part.unit.before[place])

        done = 0
        while done < len(samples):
            for part in ahead(
                self.source,
                self._parts(place, samples, done, small),
                lambda part: (part.unit.offset, HEAD_BYTES),
                lambda part: needs(part.unit, within(part)),
            ):
                try:
                    out[done : part.stop] = take(part.unit, within(part))
                except UNREADABLE as error:
                    self.distrust(part.unit, error)
                    break
                done = part.stop

    def _parts(self, place: int, samples: Steps, done: int, small: bool) -> Iterator[_Part]:
        """The units of ascending numbers of samples, from one of them on."""
        while done < len(samples):
            unit = _found(self.find(place, int(samples[done]), small))
            stop = int(np.searchsorted(samples, int(unit.row[place])))
            yield _Part(unit, done, stop)
            done = stop

    def sample_at(self, cadence: int | None, step: int) -> int | None:
        """The number of the sample (None: of the frame) at a step, or None."""
        unit = self.unit_of_step(step)
        if unit is None:
            return None
        place = Column.FRAMES if cadence is None else Column.SAMPLES + cadence
        steps = self.steps(unit, cadence)
        found = int(np.searchsorted(steps, step))
        if found == len(steps) or steps[found] != step:
            return None
        return int(unit.before[place]) + found

    def stream(
        self, names: tuple[str, ...], frames: int, start: int | None, stop: int | None
    ) -> Iterator[Batch]:
        """Batches of samples in order; see `Trajectory.stream`."""
        small = all(self.schema.field(name).small for name in names)
        waiting = Waiting(self.schema, names, frames)
        first, trusted = 0 if start is None else start, None
        while trusted != self.trust_scalars:  # again from `first` on where a copy failed
            trusted = self.trust_scalars
            for unit in ahead(
                self.source,
                self._units(first, stop, small),
                lambda unit: (unit.offset, HEAD_BYTES),
                lambda unit: self._needs(unit, names),
            ):
                try:
                    parts = [(name, *self.clip(unit, name, first, stop)) for name in names]
                except UNREADABLE as error:
                    self.distrust(unit, error)
                    break
                for part in parts:
                    waiting.add(*part)
                first = int(unit.row[Column.END])
                yield from waiting.full(first)
        yield from waiting.rest()

    def _units(self, first: int, stop: int | None, small: bool) -> Iterator[Unit]:
        """The units between two steps."""
        unit = self.unit_of_step(first, small=small)
        while unit is not None and (stop is None or unit.row[Column.FIRST] < stop):
            yield unit
            unit = self.unit_of_step(int(unit.row[Column.END]), small=small)

    def _needs(self, unit: Unit, names: tuple[str, ...]) -> Iterator[tuple[int, int]]:
        """What reading whole columns of a unit takes."""
        block = self.block(unit)
        yield from block.step_ranges()
        for name in names:
            yield from block.ranges(name)


def _found(unit: Unit | None) -> Unit:
    if unit is None:
        raise FormatError("the index does not reach every frame that was committed")
    return unit
