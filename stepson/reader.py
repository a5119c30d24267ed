"""Reading samples by number, step or stream, in memory bounded by one block column.

A `Reader` knows where the records of a file are (`Opened`) and hands out arrays. A *unit*
is a BLOCK or, for small fields, a SCALARS that holds the samples of 256 BLOCKs in a few
chunks. The last units used stay decoded, so frames read one after the other cost one
decompression a block. Several threads may read at once.
"""

import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepson.block import Block
from stepson.errors import DamageWarning, FormatError
from stepson.index import Column, Row, Unit
from stepson.opening import Opened
from stepson.records import RecordType
from stepson.scan import read_record
from stepson.schema import Schema

__all__ = ["Batch", "Reader"]

HEAD_BYTES = 2**14
KEPT_BLOCKS = 16
KEPT_BYTES = 2**26
Array = NDArray[Any]
Steps = NDArray[np.int64]


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
        return newest[0] if newest else None

    def block(self, unit: Unit) -> Block:
        """The head of a unit, kept for a while."""
        block = self._blocks.get(unit.offset)
        if block is None:
            end = self.opened.tail.valid_until
            record = read_record(self.source, unit.offset, unit.kind, end, HEAD_BYTES)
            block = Block(record, self.schema)
            counts = (unit.row - unit.before)[Column.FRAMES :].tolist()
            if counts != [block.frames, *block.samples]:
                raise FormatError("a block contradicts its entry", offset=unit.offset)
            with self._lock:
                self._blocks[unit.offset] = block
                while len(self._blocks) > KEPT_BLOCKS:
                    self._blocks.popitem(last=False)
        return block

    def unit_of_frame(self, frame: int, *, small: bool = False) -> Unit:
        """The unit that holds a frame."""
        return self._found(self._find(Column.FRAMES, frame, small))

    def unit_of_step(self, step: int, *, small: bool = False) -> Unit | None:
        """The first unit whose frames do not all come before a step."""
        return self._find(Column.END, step, small)

    def _find(self, column: int, value: int, small: bool) -> Unit | None:
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
        block = self.block(unit)
        total = block.samples[self.schema.cadence_of[name]]
        whole = atoms is None or atoms == (0, self.schema.n_atoms)
        size = total * self.schema.field(name).sample_bytes(self.schema.n_atoms)
        if not whole or size > KEPT_BYTES // 2:
            return block.values(self.source, name, samples, atoms)
        key = (unit.offset, name)
        found = self._values.get(key)
        if found is None:
            found = block.values(self.source, name, (0, total))
            self._keep(key, found)
        return found[samples[0] : samples[1]]

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
        out = np.empty((len(samples), *shape), field.dtype)

        def take(unit: Unit, wanted: Steps) -> Array:
            span = (int(wanted[0]), int(wanted[-1]) + 1)
            found = self.values(unit, name, span, atoms if field.per_atom else None)
            return np.asarray(found[wanted - span[0]])

        self._gather(out, Column.SAMPLES + cadence, samples, take, small=field.small)
        return out

    def steps_of(self, cadence: int | None, samples: Steps) -> Steps:
        """Steps of samples of a cadence (None: of frames) by ascending numbers."""
        place = Column.FRAMES if cadence is None else Column.SAMPLES + cadence
        out = np.empty(len(samples), np.int64)

        def take(unit: Unit, wanted: Steps) -> Array:
            return self.steps(unit, cadence)[wanted]

        self._gather(out, place, samples, take, small=True)
        return out

    def _gather(
        self,
        out: Array,
        place: int,
        samples: Steps,
        take: Callable[[Unit, Steps], Array],
        *,
        small: bool,
    ) -> None:
        """Fill `out` unit by unit: `take` gets a unit and numbers within it."""
        done = 0
        while done < len(samples):
            unit = self._found(self._find(place, int(samples[done]), small))
            stop = int(np.searchsorted(samples, int(unit.row[place])))
            try:
                out[done:stop] = take(unit, samples[done:stop] - int(unit.before[place]))
            except FormatError as error:
                self._distrust(unit, error)
            else:
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
    ) -> Iterator["Batch"]:
        """Batches of samples in order; see `Trajectory.stream`."""
        small = all(self.schema.field(name).small for name in names)
        waiting = _Waiting(self.schema, names, frames)
        first = 0 if start is None else start
        unit = self.unit_of_step(first, small=small)
        while unit is not None and (stop is None or unit.row[Column.FIRST] < stop):
            try:
                parts = [(name, *self._clip(unit, name, first, stop)) for name in names]
            except FormatError as error:
                self._distrust(unit, error)
            else:
                for part in parts:
                    waiting.add(*part)
                first = int(unit.row[Column.END])
                yield from waiting.full(first)
            unit = self.unit_of_step(first, small=small)
        yield from waiting.rest()

    def _clip(
        self, unit: Unit, name: str, start: int, stop: int | None
    ) -> tuple[Steps, Array]:
        """Steps and values of a field in a unit, between two steps."""
        steps = self.steps(unit, self.schema.cadence_of[name])
        a = int(np.searchsorted(steps, start))
        b = len(steps) if stop is None else int(np.searchsorted(steps, stop))
        block = self.block(unit)
        return steps[a:b], block.values(self.source, name, (a, max(a, b)))


class Batch(Mapping[str, Array]):
    """Samples of some fields over the same range of steps."""

    def __init__(self, values: dict[str, Array], steps: dict[str, Steps]) -> None:
        self._values = values
        self.steps = steps
        """Of each field."""

    def __getitem__(self, name: str) -> Array:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name}{array.shape}" for name, array in self._values.items())
        return f"<stepson.Batch {shapes}>"


class _Waiting:
    """Samples that were read and do not fill a batch yet."""

    def __init__(self, schema: Schema, names: tuple[str, ...], frames: int) -> None:
        self._frames = frames
        fields = [schema.field(name) for name in names]
        self._none = {
            f.name: np.empty((0, *f.sample_shape(schema.n_atoms)), f.dtype) for f in fields
        }
        self._steps: dict[str, list[Steps]] = {name: [] for name in names}
        self._values: dict[str, list[Array]] = {name: [] for name in names}

    def add(self, name: str, steps: Steps, values: Array) -> None:
        if len(steps):
            self._steps[name].append(steps)
            self._values[name].append(values)

    def full(self, end: int) -> Iterator[Batch]:
        """Batches that are complete, given all samples before step `end`."""
        while any(sum(map(len, each)) >= self._frames for each in self._steps.values()):
            joined = {name: _join(each) for name, each in self._steps.items()}
            cut = min(
                (int(s[self._frames]) for s in joined.values() if len(s) > self._frames),
                default=end,
            )
            yield self._cut(joined, cut)

    def rest(self) -> Iterator[Batch]:
        """What is left at the end."""
        if any(self._steps.values()):
            joined = {name: _join(each) for name, each in self._steps.items()}
            yield self._cut(joined, max(int(s[-1]) for s in joined.values() if len(s)) + 1)

    def _cut(self, joined: dict[str, Steps], step: int) -> Batch:
        """Take everything before `step`."""
        values, steps = {}, {}
        for name, found in joined.items():
            count = int(np.searchsorted(found, step))
            parts = self._values[name]
            data = (
                parts[0] if len(parts) == 1 else np.concatenate(parts or [self._none[name]])
            )
            steps[name] = found[:count]
            values[name] = data[:count]
            self._steps[name] = [found[count:]] if count < len(found) else []
            self._values[name] = [] if count == len(found) else [data[count:]]
        return Batch(values, steps)


def _join(parts: list[Steps]) -> Steps:
    return np.concatenate(parts) if parts else np.empty(0, np.int64)
