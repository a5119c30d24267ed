"""What can be had of a block whose chunks, or whose head, are damaged.

A chunk carries its own checksum, so each that verifies is kept as it stands in the file,
not decoded. The samples of a chunk that does not verify are lost: all of them, whatever its
range of atoms, because a sample is stored whole or not at all. Small fields stand once more
in SCALARS, so what a block lost of them is taken from there.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepson.block import Block, Steps, join_steps
from stepson.errors import UNREADABLE, FormatError
from stepson.scan import read_record
from stepson.schema import Cadence, Field, Schema
from stepson.source import Source

__all__ = [
    "Copy",
    "Filler",
    "Kept",
    "check_fit",
    "frames_of",
    "irregular",
    "lost_block",
    "salvage",
]

Array = NDArray[Any]
EMPTY = np.empty(0, np.int64)


@dataclass(frozen=True)
class Copy:
    """A chunk that is copied as it stands."""

    place: Mapping[str, Any]
    """Field, samples and atoms in the new block."""
    info: Mapping[str, Any]
    """What the map says of its bytes."""
    offset: int
    """In the payload of the old block."""
    size: int


@dataclass(frozen=True)
class Kept:
    """What is left of a field in a block."""

    steps: Steps
    copies: tuple[Copy, ...] = ()
    values: Array | None = None
    """Instead of copies: samples that were read from SCALARS."""
    lost: Steps = field(default_factory=lambda: EMPTY)
    """Steps whose samples are gone."""


class Filler:
    """The small fields once more: SCALARS, as they are needed.

    Args:
        source: of the file.
        schema: of the file.
    """

    def __init__(self, source: Source, schema: Schema) -> None:
        self._source = source
        self._schema = schema
        self._spans: list[tuple[int, int, int]] = []
        self._last: tuple[int, Block] | None = None

    def add(self, first: int, end: int, place: int) -> None:
        """Note a SCALARS: its steps, and where it stands."""
        self._spans.append((first, end, place))

    def spans(self, first: int, end: int) -> list[tuple[int, int]]:
        """The parts of a range of steps that a SCALARS covers, each within one."""
        cuts = ((max(first, a), min(end, b)) for a, b, _ in self._spans)
        return sorted({(a, b) for a, b in cuts if a < b})

    def _block(self, first: int, end: int) -> Block | None:
        """The SCALARS that covers a range of steps."""
        for a, b, place in self._spans:
            if a <= first and end <= b:
                if self._last is None or self._last[0] != place:
                    record = read_record(self._source, place, aligned=False)
                    self._last = place, Block(record, self._schema)
                return self._last[1]
        return None

    def steps(self, cadence: int, first: int, end: int) -> Steps | None:
        """Steps of a cadence in a range; None where no SCALARS tells."""
        try:
            block = self._block(first, end)
            found = None if block is None else block.steps(self._source, cadence)
        except UNREADABLE:
            return None
        return None if found is None else found[(found >= first) & (found < end)]

    def values(self, name: str, first: int, end: int) -> tuple[Steps, Array] | None:
        """Steps and samples of a small field in a range; None where no SCALARS tells."""
        if not self._schema.field(name).small:
            return None
        try:
            block = self._block(first, end)
            if block is None:
                return None
            steps = block.steps(self._source, self._schema.cadence_of[name])
            a, b = np.searchsorted(steps, [first, end]).tolist()
            return steps[a:b], block.values(self._source, name, (a, b))
        except UNREADABLE:
            return None


def check_fit(block: Block) -> None:
    """Compare what a block says of itself with SCHEMA.

    Raises:
        FormatError: it is of another file, or its map contradicts itself.
    """
    schema = block.schema
    wrong = FormatError("a block that does not fit SCHEMA", offset=block.record.offset)
    if any(n is not None and n >= len(schema.fields) for n in block.chunks):
        raise wrong
    for number, each in enumerate(schema.fields):
        whole = each.sample_bytes(schema.n_atoms)
        atoms = schema.n_atoms if each.per_atom else 1
        part = whole // max(atoms, 1)
        total = 0
        for c in block.chunks.get(number, ()):
            raw = c.info.get("raw")
            share = c.count * (c.stop - c.start) * part
            if type(raw) is not int or raw != share or c.stop > atoms:
                raise wrong
            total += raw
        if total != block.samples[schema.cadence_of[each.name]] * whole:
            raise wrong
    for number, group in enumerate(schema.cadences):
        if group.every is not None and not _on_time(block, number, group):
            raise wrong


def _on_time(block: Block, number: int, group: Cadence) -> bool:
    """Whether the runs of a regular cadence have no step that is not due."""
    every, runs = group.every or 1, block.record.map.get("runs")
    try:
        mine = runs[number] if isinstance(runs, list) else ()
        return isinstance(mine, int) or all(
            first % every == group.offset and (count < 2 or stride % every == 0)
            for first, stride, count in mine
        )
    except (TypeError, ValueError, LookupError):
        return False


def salvage(
    source: Source, block: Block, bad: Container[int], filler: Filler
) -> dict[str, Kept]:
    """What is left of each field of a block.

    Args:
        source: of the file.
        block: whose head is sound.
        bad: numbers of the chunks that do not verify.
        filler: has the small fields once more.

    Raises:
        FormatError: the map contradicts itself.
    """
    steps = [_steps(source, block, i, filler) for i in range(len(block.samples))]
    return {
        each.name: _kept(
            block, each, steps[block.schema.cadence_of[each.name]], bad, filler
        )
        for each in block.schema.fields
    }


def _steps(source: Source, block: Block, cadence: int, filler: Filler) -> Steps | None:
    """Steps of a cadence; where their chunk is damaged, from what else says them."""
    try:
        return block.steps(source, cadence)
    except UNREADABLE:
        count = block.samples[cadence]
    group = block.schema.cadences[cadence]
    found = filler.steps(cadence, block.first, block.end)
    if found is not None and len(found) == count:
        return found
    if group.every is not None:
        start = block.first + (group.offset - block.first) % group.every
        due = range(start, block.end, group.every)
        return np.array(due, np.int64) if len(due) == count else None
    return None


def _kept(
    block: Block,
    each: Field,
    steps: Steps | None,
    bad: Container[int],
    filler: Filler,
) -> Kept:
    """What is left of one field."""
    number = block.schema.places[each.name]
    numbered = {id(info): i for i, info in enumerate(block.record.map["chunks"])}
    chunks = block.chunks.get(number, [])
    broken = [c for c in chunks if numbered[id(c.info)] in bad]
    if steps is None or broken:
        whole = filler.values(each.name, block.first, block.end)
        count = block.samples[block.schema.cadence_of[each.name]]
        if whole is not None and len(whole[0]) == count:
            return Kept(whole[0], values=whole[1])
    if steps is None:
        return Kept(EMPTY)
    keep = np.ones(len(steps), bool)
    waiting = broken
    while waiting:  # and whatever shares a range of samples with what is lost
        for one in waiting:
            keep[one.first : one.first + one.count] = False
        waiting = [
            c
            for c in chunks
            if not keep[c.first : c.first + c.count].all()
            and keep[c.first : c.first + c.count].any()
        ]
    before = np.concatenate([[0], np.cumsum(keep)])
    copies = tuple(
        Copy(_place(number, each, c, int(before[c.first])), c.info, c.offset, c.size)
        for c in chunks
        if keep[c.first : c.first + c.count].all()
    )
    _check_cover(block, each, copies, int(keep.sum()))
    return Kept(steps[keep], copies, lost=steps[~keep])


def _place(number: int, each: Field, old: Any, first: int) -> dict[str, Any]:
    place: dict[str, Any] = {"field": number, "first": first, "count": old.count}
    if each.per_atom:
        place["atoms"] = [old.start, old.stop]
    return place


def _check_cover(block: Block, each: Field, copies: Sequence[Copy], count: int) -> None:
    """The chunks of a field cover its samples and atoms, each once, in bytes too."""
    sample = each.sample_bytes(block.schema.n_atoms)
    sizes: list[Any] = [c.info.get("raw") for c in copies]
    named = all(isinstance(c.info.get("codec"), str) for c in copies)
    if not (named and all(type(n) is int for n in sizes) and sum(sizes) == count * sample):
        raise FormatError(
            "a block whose list of chunks is not valid", offset=block.record.offset
        )


def frames_of(kept: Mapping[str, Kept]) -> Steps:
    """The steps at which anything is left."""
    steps = [each.steps for each in kept.values() if len(each.steps)]
    return join_steps(steps) if steps else EMPTY


def irregular(kept: Mapping[str, Kept], fields: Iterable[Field]) -> set[str]:
    """Regular fields that would miss a sample at a frame that is left."""
    frames = frames_of(kept)
    found = set()
    for each in fields:
        if each.every is not None:
            due = frames[frames % each.every == each.offset]
            if not np.array_equal(due, kept[each.name].steps):
                found.add(each.name)
    return found


def lost_block(schema: Schema, first: int, end: int, filler: Filler) -> dict[str, Kept]:
    """What SCALARS holds of a block whose head is damaged."""
    kept = {}
    for each in schema.fields:
        found = filler.values(each.name, first, end)
        kept[each.name] = Kept(EMPTY) if found is None else Kept(found[0], values=found[1])
    return kept
