"""Reading samples by number, step or stream, in memory bounded by one block column.

A `Reader` knows where the records of a file are (`Opened`) and hands out arrays. A *unit*
is a BLOCK or, for small fields, a SCALARS that holds the samples of 256 BLOCKs in a few
chunks. The last units used stay decoded, so frames read one after the other cost one
decompression a block. Several threads may read at once.

What does not verify is read once more, past every cache, before it counts as damaged:
network file systems show stale pages, and links break bytes. Over a slow link the next
units are fetched while one is decoded (`stepson.ahead`).
"""

import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import partial
from threading import Lock
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from stepson.ahead import ahead
from stepson.batch import Batch, Waiting
from stepson.block import Block
from stepson.errors import ClosedError, DamageWarning, FormatError
from stepson.index import Column, Row, Unit
from stepson.opening import Opened
from stepson.records import RecordType
from stepson.room import room
from stepson.scan import read_record
from stepson.schema import Schema
from stepson.source import Source, forget

__all__ = ["Batch", "Reader"]

HEAD_BYTES = 2**14
KEPT_BLOCKS = 48
"""More than `ahead` looks along."""
KEPT_BYTES = 3 * 2**25
"""A block has 64 MiB and less than a frame more: frames in order decode it once."""
Array = NDArray[Any]
Steps = NDArray[np.int64]
T = TypeVar("T")


class _Part(NamedTuple):
    """The samples that a read takes from one unit: places among those asked for."""

    unit: Unit
    start: int
    stop: int


class Reader:
    """Random access to the samples of an opened file."""

    def __init__(self, opened: Opened) -> None:
        self.opened = opened
        self.source = opened.source
        self.schema: Schema = opened.schema
        self._blocks: OrderedDict[int, Block] = OrderedDict()
        self._values: OrderedDict[tuple[int, str], Array] = OrderedDict()
        self._held = 0
        self._lock = Lock()
        self._trust_scalars = True
        self.closed = False
        """Whether to refuse; its file may have been given to another one since."""
        # Not a method of its own: a reader that nobody holds lets go of its file at once.
        self.again: Callable[[int], bool] = partial(_once_more, opened.source)
        """Whether to read again what has failed so many times; prepares that."""

    def _insist(self, unit: Unit, call: Callable[[], T]) -> T:
        """Read something of a unit, again if it fails and `again` says so."""
        failures = 0
        while True:
            try:
                return call()
            except (FormatError, OSError):
                failures += 1
                if not self.again(failures):
                    raise
                with self._lock:
                    self._blocks.pop(unit.offset, None)

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

    def block(self, unit: Unit) -> Block:
        """The head of a unit, kept for a while."""
        block = self._blocks.get(unit.offset)
        if block is None:
            end = self.opened.tail.valid_until
            record = read_record(self.source, unit.offset, unit.kind, end, HEAD_BYTES)
            block = Block(record, self.schema)
            with self._lock:
                self._blocks[unit.offset] = block
                while len(self._blocks) > KEPT_BLOCKS:
                    self._blocks.popitem(last=False)
        counts = (unit.row - unit.before)[Column.FRAMES :].tolist()
        if counts != [block.frames, *block.samples]:  # also of one that another entry named
            raise FormatError("a block contradicts its entry", offset=unit.offset)
        return block

    def unit_of_frame(self, frame: int, *, small: bool = False) -> Unit:
        """The unit that holds a frame."""
        return self._found(self._find(Column.FRAMES, frame, small))

    def unit_of_step(self, step: int, *, small: bool = False) -> Unit | None:
        """The first unit whose frames do not all come before a step."""
        return self._find(Column.END, step, small)

    def check_open(self) -> None:
        """Refuse to read what was closed.

        Raises:
            ClosedError: it was.
        """
        if self.closed:
            raise ClosedError

    def close(self) -> None:
        """Let go of the file; whatever still refers to it is told so when it reads."""
        self.closed = True
        self.source.close()

    def _find(self, column: int, value: int, small: bool) -> Unit | None:
        self.check_open()
        return self.opened.tree.find(column, value, scalars=small and self._trust_scalars)

    def _distrust(self, unit: Unit, error: FormatError) -> None:
        """A damaged SCALARS: its blocks hold the same; a damaged block has no copy."""
        if unit.kind != RecordType.SCALARS:
            raise error
        self._trust_scalars = False
        warnings.warn(f"{error}; the blocks are read instead", DamageWarning, stacklevel=3)

    def _found(self, unit: Unit | None) -> Unit:
        if unit is None:
            raise FormatError("the index does not reach every frame that was committed")
        return unit

    def steps(self, unit: Unit, cadence: int | None) -> Steps:
        """Steps of the samples of a cadence in a unit; None for its frames."""
        return self._insist(unit, lambda: self._steps(unit, cadence))

    def _steps(self, unit: Unit, cadence: int | None) -> Steps:
        block = self.block(unit)
        if cadence is None:
            return block.all_steps(self.source)
        return block.steps(self.source, cadence)

    def values(
        self,
        unit: Unit,
        name: str,
        samples: tuple[int, int],
        atoms: tuple[int, int] | None = None,
    ) -> Array:
        """Samples of a field within a unit, read-only; kept decoded for a while."""
        return self._insist(unit, lambda: self._values_of(unit, name, samples, atoms))

    def _values_of(
        self,
        unit: Unit,
        name: str,
        samples: tuple[int, int],
        atoms: tuple[int, int] | None,
    ) -> Array:
        block = self.block(unit)
        total = self._kept_length(unit, name, atoms)
        if total is None:
            return block.values(self.source, name, samples, atoms)
        found = self._values.get((unit.offset, name))
        if found is None:
            found = block.values(self.source, name, (0, total))
            self._keep((unit.offset, name), found)
        return found[samples[0] : samples[1]]

    def _kept_length(
        self, unit: Unit, name: str, atoms: tuple[int, int] | None
    ) -> int | None:
        """Samples of the column of a unit, if it is kept whole: all atoms, and it fits."""
        total = self.block(unit).samples[self.schema.cadence_of[name]]
        whole = atoms is None or atoms == (0, self.schema.n_atoms)
        size = total * self.schema.field(name).sample_bytes(self.schema.n_atoms)
        return total if whole and size <= KEPT_BYTES else None

    def _keep(self, key: tuple[int, str], values: Array) -> None:
        values.flags.writeable = False
        with self._lock:
            if key not in self._values:
                self._held += values.nbytes
            self._values[key] = values
            while self._held > KEPT_BYTES and len(self._values) > 1:
                self._held -= self._values.popitem(last=False)[1].nbytes

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
            whole = self._kept_length(unit, name, chosen)
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
                except FormatError as error:
                    self._distrust(part.unit, error)
                    break
                done = part.stop

    def _parts(self, place: int, samples: Steps, done: int, small: bool) -> Iterator[_Part]:
        """The units of ascending numbers of samples, from one of them on."""
        while done < len(samples):
            unit = self._found(self._find(place, int(samples[done]), small))
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
        while trusted != self._trust_scalars:  # again from `first` on where a copy failed
            trusted = self._trust_scalars
            for unit in ahead(
                self.source,
                self._units(first, stop, small),
                lambda unit: (unit.offset, HEAD_BYTES),
                lambda unit: self._needs(unit, names),
            ):
                try:
                    parts = [(name, *self._clip(unit, name, first, stop)) for name in names]
                except FormatError as error:
                    self._distrust(unit, error)
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

    def _clip(
        self, unit: Unit, name: str, start: int, stop: int | None
    ) -> tuple[Steps, Array]:
        """Steps and values of a field in a unit, between two steps."""
        return self._insist(unit, lambda: self._clipped(unit, name, start, stop))

    def _clipped(
        self, unit: Unit, name: str, start: int, stop: int | None
    ) -> tuple[Steps, Array]:
        steps = self.steps(unit, self.schema.cadence_of[name])
        a = int(np.searchsorted(steps, start))
        b = len(steps) if stop is None else int(np.searchsorted(steps, stop))
        block = self.block(unit)
        return steps[a:b], block.values(self.source, name, (a, max(a, b)))


def _once_more(source: Source, failures: int) -> bool:
    return failures == 1 and forget(source)
