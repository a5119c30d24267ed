"""Frames that are not committed yet, in preallocated arrays.

Appending a frame costs a few microseconds: which fields are due at a step is looked up in a
table of patterns met before, values are copied into arrays that double when they are full,
and nothing is counted before every value has been checked, so a refused frame leaves no
trace.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepson.block import MAX_STEP, Samples, join_steps
from stepson.errors import SchemaError, WriterError
from stepson.room import room
from stepson.schema import Cadence, Field, Schema

__all__ = ["FrameBuffer"]

BLOCK_FRAMES = 128
BLOCK_RAW = 2**26
SMALL_RAW = 2**22
STEP_BYTES = 8
FIRST_CAPACITY = 128
Array = NDArray[Any]
NONE: frozenset[type] = frozenset()
PLAIN = {
    "float64": frozenset({float, np.float64}),
    "float32": frozenset({float, np.float32}),
    "int64": frozenset({np.int64}),
}
"""Types of plain numbers that a field without axes takes as they are."""


class _Column:
    """Samples of one field."""

    def __init__(self, field: Field, n_atoms: int, cadence: int) -> None:
        self.field = field
        self.name = field.name
        self.shape = field.sample_shape(n_atoms)
        self.dtype = np.dtype(field.dtype)
        self.cadence = cadence
        self.sample_bytes = field.sample_bytes(n_atoms)
        self.plain = PLAIN.get(field.dtype, NONE) if not self.shape else NONE
        self.data = self.empty(self._first_capacity())

    def _first_capacity(self) -> int:
        return max(1, min(FIRST_CAPACITY, BLOCK_RAW // max(1, self.sample_bytes)))

    def empty(self, capacity: int) -> Array:
        return room((capacity, *self.shape), self.dtype, f"samples of {self.name!r}")

    def reserve(self, used: int, wanted: int) -> None:
        """Make room for `wanted` samples, keeping the first `used`."""
        if wanted > len(self.data):
            larger = self.empty(max(wanted, 2 * len(self.data)))
            larger[:used] = self.data[:used]
            self.data = larger

    def take(self, used: int) -> Array:
        """Hand over the first `used` samples and start anew."""
        full, self.data = self.data[:used], self.empty(self._first_capacity())
        return full

    def check(self, values: object, count: int | None = None) -> Array:
        """`values` as an array that may be copied in without loss of meaning.

        Raises:
            SchemaError: shape or kind do not fit.
        """
        try:
            array = np.asarray(values)
        except (TypeError, ValueError, RuntimeError) as error:
            raise self.misfit("an array", self.shape, type(values).__name__) from error
        shape = self.shape if count is None else (count, *self.shape)
        if array.shape != shape:
            raise self.misfit("shape", shape, array.shape)
        if array.dtype != self.dtype and not self._fits(array):
            raise self.misfit("dtype", self.dtype.name, array.dtype.name)
        return self._rounded(array)

    def _rounded(self, array: Array) -> Array:
        """Narrow floating point numbers here, where one that does not fit is an error."""
        if self.dtype.kind != "f" or array.dtype == self.dtype:
            return array
        try:
            with np.errstate(over="raise"):
                return array.astype(self.dtype)
        except FloatingPointError:
            largest = f"up to {np.finfo(self.dtype).max:.3g}"
            raise self.misfit("numbers", largest, "a larger one; use float64") from None

    def _fits(self, array: Array) -> bool:
        have, want = array.dtype.kind, self.dtype.kind
        if want == "f":
            return have in "fiub"
        if want == "b" or have not in "iub":
            return have == want
        info = np.iinfo(self.dtype)
        return not array.size or bool(array.min() >= info.min and array.max() <= info.max)

    def misfit(self, what: str, expected: object, got: object) -> SchemaError:
        return SchemaError(
            f"field {self.name!r}: {what} {expected} expected, got {got}",
            field=self.name,
            expected=expected,
            got=got,
        )


@dataclass(frozen=True)
class _Pattern:
    """A set of fields given together: what a frame of it adds."""

    cadences: tuple[int, ...]
    dense: tuple[int, ...]
    """Those with per-atom fields."""
    raw: int
    small: int


class FrameBuffer:
    """Collects frames until they make a block.

    Args:
        schema: of the file.
        last_step: of the file so far; frames must come after it.
    """

    def __init__(self, schema: Schema, last_step: int | None) -> None:
        self._schema = schema
        self._columns = {
            f.name: _Column(f, schema.n_atoms, schema.cadence_of[f.name])
            for f in schema.fields
        }
        self._regular = [
            (1 << i, c.every, c.offset)
            for i, c in enumerate(schema.cadences)
            if c.every is not None
        ]
        self._dense = [
            i for i, c in enumerate(schema.cadences) if any(f.per_atom for f in c.fields)
        ]
        self._patterns: dict[tuple[object, ...], _Pattern] = {}
        self.last_step = -1 if last_step is None else last_step
        self._clear()

    def _clear(self) -> None:
        self._steps: list[list[int]] = [[] for _ in self._schema.cadences]
        self.frames = 0
        self._raw = self._small = 0
        self.full = False
        """Whether the frames make a block of full size."""

    def append(self, step: int | np.integer[Any], values: Mapping[str, object]) -> None:
        """Add one frame.

        Raises:
            WriterError: the step is not after the last one. SchemaError: a due field is
            missing, one is not due, a shape or dtype does not fit.
        """
        if not self.last_step < step < MAX_STEP:
            raise self._out_of_order(step)
        mask = 0
        for bit, every, offset in self._regular:
            if step % every == offset:
                mask |= bit
        key = (mask, *values)
        pattern = self._patterns.get(key)
        if pattern is None:
            pattern = self._learn(key, step, mask, values)
        columns, steps = self._columns, self._steps
        for name, value in values.items():
            column = columns[name]
            used = len(steps[column.cadence])
            kind = type(value)
            if kind not in column.plain and (
                kind is not np.ndarray
                or value.dtype is not column.dtype  # type: ignore[attr-defined]
                or value.shape != column.shape  # type: ignore[attr-defined]
            ):
                value = column.check(value)
            if used >= len(column.data):
                column.reserve(used, used + 1)
            column.data[used] = value
        step = int(step)
        for cadence in pattern.cadences:
            steps[cadence].append(step)
        self.last_step = step
        self.frames += 1
        self._grow(pattern.raw, pattern.small, pattern.dense)

    def _grow(self, raw: int, small: int, dense: Sequence[int]) -> None:
        """Count bytes; see whether the block is full."""
        self._raw += raw
        self._small += small
        if self._small >= SMALL_RAW or self._raw >= BLOCK_RAW:
            self.full = True
        for cadence in dense:
            if len(self._steps[cadence]) >= BLOCK_FRAMES:
                self.full = True

    def _out_of_order(self, step: object) -> WriterError:
        if isinstance(step, (int, np.integer)) and step >= MAX_STEP:
            return WriterError(f"step {step} is too large: steps end at 2^62")
        return WriterError(
            f"step {step} is not after step {self.last_step}: "
            "frames are appended in order, and none twice"
        )

    def _learn(
        self,
        key: tuple[object, ...],
        step: int | np.integer[Any],
        mask: int,
        values: Mapping[str, object],
    ) -> _Pattern:
        """Check a set of fields against what is due; remember it."""
        if not isinstance(step, (int, np.integer)):
            raise SchemaError(f"a step is an integer, not {step!r}")
        for name in values:
            self._schema.field(name)
            cadence = self._schema.cadence_of[name]
            if self._schema.cadences[cadence].every is not None and not mask >> cadence & 1:
                raise self._wrong(name, step, "is not due")
        for i, group in enumerate(self._schema.cadences):
            for each in group.fields:
                if mask >> i & 1 and each.name not in values:
                    raise self._wrong(each.name, step, "is due and missing")
        if not values:
            raise SchemaError(
                f"no field is due at step {step}, so there is nothing to append"
            )
        return self._patterns.setdefault(key, self._pattern(values))

    def _wrong(self, name: str, step: object, what: str) -> SchemaError:
        field = self._schema.field(name)
        return SchemaError(
            f"field {name!r} {what} at step {step}: "
            f"every={field.every}, offset={field.offset}",
            field=name,
        )

    def _pattern(self, names: Mapping[str, object]) -> _Pattern:
        columns = [self._columns[name] for name in names]
        cadences = tuple(sorted({column.cadence for column in columns}))
        raw = sum(column.sample_bytes for column in columns)
        small = sum(column.sample_bytes for column in columns if column.field.small)
        dense = tuple(i for i in cadences if i in self._dense)
        return _Pattern(cadences, dense, raw + STEP_BYTES, small + STEP_BYTES)

    def room(self) -> int:
        """Frames that surely fit before the block is full, at least 1."""
        every = self._pattern(self._columns)
        dense = max((len(self._steps[i]) for i in self._dense), default=0)
        limits = [
            (BLOCK_RAW - self._raw) // every.raw,
            (SMALL_RAW - self._small) // every.small,
            BLOCK_FRAMES - dense if self._dense else SMALL_RAW,
        ]
        return max(1, min(limits))

    def extend(self, steps: NDArray[np.int64], values: Mapping[str, Array]) -> None:
        """Add frames that `check_extension` has passed."""
        for name, samples in values.items():
            column = self._columns[name]
            used = len(self._steps[column.cadence])
            column.reserve(used, used + len(samples))
            column.data[used : used + len(samples)] = samples
        raw = small = STEP_BYTES * len(steps)
        for i, group in enumerate(self._schema.cadences):
            columns = [self._columns[f.name] for f in group.fields if f.name in values]
            if columns:
                due = _due(steps, group)
                self._steps[i].extend(steps[due].tolist())
                count = int(due.sum())
                raw += count * sum(column.sample_bytes for column in columns)
                small += count * sum(c.sample_bytes for c in columns if c.field.small)
        self.last_step = int(steps[-1])
        self.frames += len(steps)
        self._grow(raw, small, self._dense)

    def check_extension(
        self, steps: Sequence[int] | NDArray[Any], values: Mapping[str, object]
    ) -> tuple[NDArray[np.int64], dict[str, Array]]:
        """Check many frames at once.

        Args:
            steps: of the frames.
            values: samples of each field at the steps where it is due, shape
                ``(due, ...)``; an irregular field is given at all of `steps` or not at all.

        Raises:
            WriterError: steps out of order.
            SchemaError: fields, shapes or dtypes do not fit.
        """
        found = np.asarray(steps)
        if found.ndim != 1 or (len(found) and found.dtype.kind not in "iu"):
            raise SchemaError("steps is a sequence of integers")
        found = found.astype(np.int64)
        if len(found) and (found[0] <= self.last_step or np.any(np.diff(found) <= 0)):
            bad = int(found[0]) if found[0] <= self.last_step else "in `steps`"
            raise self._out_of_order(bad)
        if len(found) and found[-1] >= MAX_STEP:
            raise self._out_of_order(int(found[-1]))
        covered = np.zeros(len(found), bool)
        checked: dict[str, Array] = {}
        for name in values:
            self._schema.field(name)
        for group in self._schema.cadences:
            due = _due(found, group)
            count = int(due.sum())
            for each in group.fields:
                if each.name in values:
                    checked[each.name] = self._columns[each.name].check(
                        values[each.name], count
                    )
                    covered |= due
                elif group.every is not None and count:
                    raise self._wrong(each.name, int(found[due][0]), "is due and missing")
        if not covered.all():
            step = int(found[~covered][0])
            raise SchemaError(
                f"no field is due at step {step}, so there is nothing to append"
            )
        return found, checked

    def take(self) -> Samples:
        """Hand over all frames as a block, and start anew.

        Raises:
            WriterError: an interrupt has left a frame incomplete.
        """
        steps = tuple(np.array(each, np.int64) for each in self._steps)
        ordered = all(bool(np.all(each[1:] > each[:-1])) for each in steps)
        if not ordered or len(join_steps(steps)) != self.frames:
            raise WriterError(
                "a frame was interrupted while it was added; open the file with mode "
                "'a' to go on after its last commit"
            )
        values = {
            name: column.take(len(steps[column.cadence]))
            for name, column in self._columns.items()
        }
        self._clear()
        return Samples(steps, values)


def _due(steps: NDArray[np.int64], group: Cadence) -> NDArray[np.bool_]:
    """Where a cadence has samples; an irregular one that is given has them at all steps."""
    if group.every is None:
        return np.ones(len(steps), bool)
    return np.asarray(steps % group.every == group.offset)
