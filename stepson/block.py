"""Samples <-> the records that hold them: BLOCK, and SCALARS, which is built alike.

A record holds, for every cadence, the steps of its samples as runs (first, stride, count),
and for every field chunks: one field x a range of samples x a range of atoms. Small fields
stand at the front of the payload, so that a reader who wants only them reads only them.
Per-atom fields above 4 MiB are cut into tiles of atoms, so that a few atoms of a large
system cost a few chunks; other fields are cut along time. A field without bytes (no atoms,
no samples) has no chunk. Implements
``spec/son-1.md`` 2.6 and 5.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stepson import chunk
from stepson.errors import FormatError
from stepson.records import RecordType
from stepson.room import room
from stepson.scan import Record, read_record
from stepson.schema import MAX_SAMPLE_BYTES, Schema
from stepson.source import Source, expect

__all__ = ["Block", "Samples", "gather_small", "join_steps"]

CHUNK_RAW = 2**22
MAX_SAMPLES = 2**24
MAX_STEP = 2**62
Array = NDArray[Any]
Steps = NDArray[np.int64]


class Samples(NamedTuple):
    """Consecutive samples of all fields, not yet encoded."""

    steps: tuple[Steps, ...]
    """For each cadence."""
    values: Mapping[str, Array]
    """For each field that is to be stored, shape ``(samples, ...)``."""

    @property
    def frames(self) -> Steps:
        """Steps at which anything was recorded."""
        return join_steps(self.steps)


def join_steps(steps: Sequence[Steps]) -> Steps:
    """The union of the steps of all cadences, sorted."""
    longest = max(steps, key=len)
    rest = [each for each in steps if each is not longest and not _within(each, longest)]
    return np.unique(np.concatenate([longest, *rest])) if rest else longest


def _within(few: Steps, many: Steps) -> bool:
    """Whether every step of `few` is one of `many`, which costs less than a union."""
    if not len(few):
        return True
    places = np.searchsorted(many, few)
    return bool(places[-1] < len(many) and np.array_equal(many[places], few))


@dataclass(frozen=True, slots=True)
class _Chunk:
    """What a map says of one chunk, checked."""

    first: int
    count: int
    start: int
    stop: int
    offset: int
    size: int
    info: Mapping[str, Any]


class Block:
    """A BLOCK or SCALARS as a reader sees it; everything is checked before it is used."""

    def __init__(self, record: Record, schema: Schema) -> None:
        self.record = record
        self._steps: dict[int, Steps] = {}
        self.schema = schema
        content = record.map
        self.frames = self._number(content.get("frames"), 1, MAX_SAMPLES)
        self.first = self._number(content.get("first"), 0, MAX_STEP)
        self.end = self._number(content.get("end"), self.first + 1, MAX_STEP)
        samples = self._list(content.get("samples"), len(schema.cadences))
        self.samples = tuple(self._number(each, 0, self.frames) for each in samples)

    def _bad(self, what: str) -> FormatError:
        return FormatError(f"a block whose {what} is not valid", offset=self.record.offset)

    def _number(self, value: object, low: int, high: int) -> int:
        if type(value) is not int or not low <= value <= high:
            raise self._bad("map")
        return value

    def _list(self, value: object, length: int | None = None) -> list[Any]:
        if not isinstance(value, list) or (length is not None and len(value) != length):
            raise self._bad("map")
        return value

    @cached_property
    def chunks(self) -> dict[int | None, list[_Chunk]]:
        """By the number of the field; None are steps."""
        found: dict[int | None, list[_Chunk]] = {}
        for each in self._list(self.record.map.get("chunks")):
            if not isinstance(each, dict):
                raise self._bad("map")
            number = each.get("field")
            if number is not None:
                number = self._number(number, 0, len(self.schema.fields))
            found.setdefault(number, []).append(self._chunk(each))
        return found

    def _chunk(self, each: dict[str, Any]) -> _Chunk:
        length = self.record.prefix.payload_length
        size = self._number(each.get("size"), 0, length)
        start, stop = self._list(each.get("atoms", [0, 1]), 2)
        start = self._number(start, 0, 2**31)
        return _Chunk(
            self._number(each.get("first"), 0, self.frames),
            self._number(each.get("count"), 1, self.frames),
            start,
            self._number(stop, start + 1, 2**31),
            self._number(each.get("offset"), 0, length - size),
            size,
            each,
        )

    def steps(self, source: Source, cadence: int) -> Steps:
        """The steps of the samples of a cadence.

        Raises:
            FormatError: they are not valid, or a checksum fails.
        """
        if cadence not in self._steps:
            self._steps[cadence] = self._read_steps(source, cadence)
        return self._steps[cadence]

    def _read_steps(self, source: Source, cadence: int) -> Steps:
        stored = self._list(self.record.map.get("runs"), len(self.samples))[cadence]
        if isinstance(stored, int):
            found = self._steps_chunk(source, stored, self.samples[cadence])
        else:
            found = self._expand(self._list(stored), self.samples[cadence])
        wrong = len(found) and (
            np.any(found[1:] <= found[:-1])
            or found[0] < self.first
            or found[-1] >= self.end
        )
        if wrong:
            raise self._bad("steps")
        found.flags.writeable = False
        return found

    def _expand(self, runs: list[Any], samples: int) -> Steps:
        checked = [
            [self._number(v, 0, MAX_STEP) for v in self._list(run, 3)] for run in runs
        ]
        if sum(count for _, _, count in checked) != samples:
            raise self._bad("number of steps")
        if any(first + stride * count > 2**63 - 1 for first, stride, count in checked):
            raise self._bad("steps")
        parts = [first + stride * np.arange(count) for first, stride, count in checked]
        return np.concatenate([np.empty(0, np.int64), *parts])

    def _steps_chunk(self, source: Source, number: int, samples: int) -> Steps:
        chunks = self._list(self.record.map.get("chunks"))
        if not 0 <= number < len(chunks) or not isinstance(chunks[number], dict):
            raise self._bad("map")
        place = self._chunk(chunks[number])
        if place.count != samples:
            raise self._bad("number of steps")
        return self._decode(source, place, "steps", "<i8", (samples,)).astype(np.int64)

    def all_steps(self, source: Source) -> Steps:
        """The steps of the frames."""
        steps = join_steps([self.steps(source, i) for i in range(len(self.samples))])
        if len(steps) != self.frames:
            raise self._bad("number of frames")
        return steps

    def values(
        self,
        source: Source,
        name: str,
        samples: tuple[int, int] | None = None,
        atoms: tuple[int, int] | None = None,
    ) -> Array:
        """Samples of a field, shape ``(samples, ...)``.

        Args:
            source: of the record.
            name: of the field.
            samples: first and end within the record; default all.
            atoms: first and end; default all.

        Raises:
            FormatError: a chunk is missing, or does not verify (`DamagedError`).
        """
        field = self.schema.field(name)
        begin, end, low, high = self._bounds(name, samples, atoms)
        rest = field.sample_shape(1)[1:] if field.per_atom else field.sample_shape(0)
        tile = (high - low,) if field.per_atom else ()
        shape = (end - begin, *tile, *rest)
        wanted = self._wanted(name, begin, end, low, high)
        self._check_cover(wanted, begin, end, low, high, empty=0 in shape)
        out: Array | None = None
        for each, data in self._read(source, wanted):
            count, width = each.count, each.stop - each.start
            full = (count, width, *rest) if field.per_atom else (count, *rest)
            part = self._decode(source, each, name, field.numpy_dtype, full, data)
            a, b = max(begin, each.first), min(end, each.first + count)
            p, q = max(low, each.start), min(high, each.stop)
            piece = part[a - each.first : b - each.first]
            piece = piece[:, p - each.start : q - each.start] if field.per_atom else piece
            if piece.shape == shape and piece.flags.writeable:
                return piece
            if out is None:
                out = room(shape, piece.dtype, f"samples of {name!r}")
            target = out[a - begin : b - begin]
            (target[:, p - low : q - low] if field.per_atom else target)[...] = piece
        return room(shape, field.dtype, f"samples of {name!r}") if out is None else out

    def _bounds(
        self, name: str, samples: tuple[int, int] | None, atoms: tuple[int, int] | None
    ) -> tuple[int, int, int, int]:
        """First and end of samples and atoms; 0 and 1 where there are no atoms."""
        begin, end = samples or (0, self.samples[self.schema.cadence_of[name]])
        low, high = atoms or (0, self.schema.n_atoms)
        return (
            (begin, end, low, high)
            if self.schema.field(name).per_atom
            else (begin, end, 0, 1)
        )

    def _wanted(self, name: str, begin: int, end: int, low: int, high: int) -> list[_Chunk]:
        """The chunks that hold any of these samples and atoms."""
        return [
            each
            for each in self.chunks.get(self.schema.places[name], [])
            if each.first < end
            and begin < each.first + each.count
            and each.start < high
            and low < each.stop
        ]

    def ranges(
        self,
        name: str,
        samples: tuple[int, int] | None = None,
        atoms: tuple[int, int] | None = None,
    ) -> Iterator[tuple[int, int]]:
        """Offset in the file and length of what `values` will read."""
        for each in self._wanted(name, *self._bounds(name, samples, atoms)):
            yield self.record.payload + each.offset, each.size

    def step_ranges(self) -> Iterator[tuple[int, int]]:
        """Offset in the file and length of what `steps` of every cadence will read."""
        for each in self.chunks.get(None, []):
            yield self.record.payload + each.offset, each.size

    def _check_cover(
        self, chunks: list[_Chunk], begin: int, end: int, low: int, high: int, empty: bool
    ) -> None:
        covered = sum(
            (min(end, c.first + c.count) - max(begin, c.first))
            * (min(high, c.stop) - max(low, c.start))
            for c in chunks
        )
        if not empty and (covered != (end - begin) * (high - low) or _overlap(chunks)):
            raise self._bad("list of chunks")

    def _read(self, source: Source, chunks: list[_Chunk]) -> Iterator[tuple[_Chunk, bytes]]:
        """The bytes of chunks: neighbours are read at once."""
        chunks = sorted(chunks, key=lambda c: c.offset)
        if len(chunks) > 1:
            expect(source, [(self.record.payload + c.offset, c.size) for c in chunks])
        start = 0
        while start < len(chunks):
            stop = start + 1
            while stop < len(chunks) and chunks[stop].offset == _end(chunks[stop - 1]):
                stop += 1
            first = chunks[start].offset
            data = self.record.read(source, first, _end(chunks[stop - 1]) - first)
            for each in chunks[start:stop]:
                yield each, data[each.offset - first : _end(each) - first]
            start = stop

    def _decode(
        self,
        source: Source,
        place: _Chunk,
        name: str,
        dtype: np.dtype[Any] | str,
        shape: tuple[int, ...],
        data: bytes | None = None,
    ) -> Array:
        dtype = np.dtype(dtype)
        if np.prod(shape, dtype=float) * dtype.itemsize > MAX_SAMPLE_BYTES + CHUNK_RAW:
            raise self._bad("chunk")
        if data is None:
            data = self.record.read(source, place.offset, place.size)
        return chunk.decode(
            data,
            place.info,
            dtype=dtype,
            shape=shape,
            offset=self.record.payload + place.offset,
            field=name,
            steps=(self.first, self.end - 1),
        )


def _overlap(chunks: list[_Chunk]) -> bool:
    """Whether two chunks share a sample of an atom; then others may be in none."""
    if len(chunks) < 2:
        return False
    starts = np.array([(c.first, c.start) for c in chunks])
    ends = np.array([(c.first + c.count, c.stop) for c in chunks])
    before = (starts[:, None] < ends).all(axis=2)
    return bool(np.count_nonzero(before & before.T) > len(chunks))


def _end(place: _Chunk) -> int:
    return place.offset + place.size


def gather_small(
    source: Source, schema: Schema, blocks: Sequence[int], end: int
) -> Samples:
    """The small fields of some blocks, joined."""
    names = [each.name for each in schema.fields if each.small]
    steps: list[list[Any]] = [[] for _ in schema.cadences]
    values: dict[str, list[Any]] = {name: [] for name in names}
    for offset in blocks:
        block = Block(read_record(source, offset, RecordType.BLOCK, end, 2**14), schema)
        for i in range(len(schema.cadences)):
            steps[i].append(block.steps(source, i))
        for name in names:
            values[name].append(block.values(source, name))
    return Samples(
        tuple(np.concatenate(each) for each in steps),
        {name: np.concatenate(each) for name, each in values.items()},
    )
