"""The units of a file, one at a time: found, decoded, and kept for a while.

A *unit* is a BLOCK or, for small fields, a SCALARS that holds the samples of 256 BLOCKs in
a few chunks. The last units used stay decoded, so frames read one after the other cost one
decompression a block. Several threads may read at once.

What does not verify is read once more, past every cache, before it counts as damaged:
network file systems show stale pages, and links break bytes.
"""

import warnings
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from threading import Lock
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from stepson.block import Block
from stepson.errors import ClosedError, DamageWarning, FormatError, StepsonError
from stepson.index import Column, Unit
from stepson.opening import Opened
from stepson.records import RecordType
from stepson.scan import read_record
from stepson.schema import Schema
from stepson.source import Source, forget

__all__ = ["HEAD_BYTES", "KEPT_BYTES", "Array", "Kept", "Steps", "check_entry"]

HEAD_BYTES = 2**14
KEPT_BLOCKS = 48
"""More than `stepson.ahead` looks along."""
KEPT_BYTES = 3 * 2**25
"""A block has 64 MiB and less than a frame more: frames in order decode it once."""
Array = NDArray[Any]
Steps = NDArray[np.int64]
T = TypeVar("T")


class Kept:
    """The units of an opened file."""

    def __init__(self, opened: Opened) -> None:
        self.opened = opened
        self.source = opened.source
        self.schema: Schema = opened.schema
        self._blocks: OrderedDict[int, Block] = OrderedDict()
        self._values: OrderedDict[tuple[int, str], Array] = OrderedDict()
        self._held = 0
        self._lock = Lock()
        self.trust_scalars = True
        """Until one turns out to be damaged."""
        self.closed = False
        """Whether to refuse; its file may have been given to another one since."""
        # Not a method of its own: a reader that nobody holds lets go of its file at once.
        self.again: Callable[[int], bool] = partial(_once_more, opened.source)
        """Whether to read again what has failed so many times; prepares that."""

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

    def find(self, column: int, value: int, small: bool) -> Unit | None:
        """The first unit whose total in a column is above a value; None behind the end."""
        self.check_open()
        return self.opened.tree.find(column, value, scalars=small and self.trust_scalars)

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
        check_entry(unit, block)  # also of one that another entry named
        return block

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
        total = self.kept_length(unit, name, atoms)
        if total is None:
            return block.values(self.source, name, samples, atoms)
        found = self._values.get((unit.offset, name))
        if found is None:
            found = block.values(self.source, name, (0, total))
            self._keep((unit.offset, name), found)
        return found[samples[0] : samples[1]]

    def kept_length(
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

    def clip(
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

    def distrust(self, unit: Unit, error: StepsonError) -> None:
        """A damaged SCALARS: its blocks hold the same; a damaged block has no copy."""
        if unit.kind != RecordType.SCALARS:
            raise error
        self.trust_scalars = False
        warnings.warn(f"{error}; the blocks are read instead", DamageWarning, stacklevel=3)


def check_entry(unit: Unit, block: Block) -> None:
    """Compare a unit with the entry that led to it: else steps are looked for elsewhere.

    The entry of an INDEX may start with that of a CHECKPOINT, in front of its SCALARS.

    Raises:
        FormatError: steps or counts differ, or it does not follow the one before.
    """
    counts = (unit.row - unit.before)[Column.FRAMES :].tolist()
    first, end = unit.row[[Column.FIRST, Column.END]].tolist()
    follows = unit.before[Column.END] <= block.first
    starts = block.first == first or (
        unit.kind == RecordType.SCALARS and block.first > first
    )
    same = counts == [block.frames, *block.samples] and end == block.end
    if not (same and starts and follows):
        raise FormatError("a block contradicts its entry", offset=unit.offset)


def _once_more(source: Source, failures: int) -> bool:
    return failures == 1 and forget(source)
