"""Checking a whole file: every checksum of everything that was committed.

Goes back along the chain of COMMITs, then from old to new through their transactions,
reading every byte once in bounded memory. ``deep`` also decodes every chunk, rebuilds the
index from the blocks and compares SCALARS with them. Damage is collected, not raised: one
damaged chunk must not hide another.
"""

from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from stepson.block import Block, gather_small
from stepson.errors import FormatError, StepsonError
from stepson.index import Column, Unit
from stepson.opening import Opened
from stepson.records import Commit, RecordType
from stepson.scan import Record, check_transaction, read_commit, read_record, walk
from stepson.tree import unpack_tree

__all__ = ["Verification", "verify"]

Progress = Callable[[int, int], None]


@dataclass
class Verification:
    """What was checked, and what is wrong."""

    commits: int = 0
    records: int = 0
    frames: int = 0
    """Of the commits that are sound."""
    bytes: int = 0
    damages: list[StepsonError] = field(default_factory=list)
    """What is wrong, in the order of the file; each names byte, field and steps."""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.damages

    def __str__(self) -> str:
        found = (
            f"{self.commits:,} commits, {self.records:,} records, {self.frames:,} frames, "
            f"{self.bytes:,} bytes: "
        )
        if self.ok:
            return found + "sound"
        return "\n".join([found + f"{len(self.damages)} damaged", *map(str, self.damages)])


def verify(
    opened: Opened, *, deep: bool = False, on_progress: Progress | None = None
) -> Verification:
    """Check everything that was committed.

    Args:
        opened: the file.
        deep: also decode, and compare the redundant copies.
        on_progress: called with bytes done and bytes to do.
    """
    result = Verification()
    if opened.tail.damage is not None:
        result.damages.append(opened.tail.damage)
    for commit in _commits(opened, result):
        result.commits += 1
        _check_commit(opened, commit, deep, result)
        if on_progress is not None:
            on_progress(commit.end, opened.tail.valid_until)
    if deep:
        _check_index(opened, result)
    return result


def _commits(opened: Opened, result: Verification) -> Iterator[Commit]:
    """The chain from old to new; where it breaks, what is behind the break."""
    source, uuid = opened.source, opened.header.uuid
    places, commit = array("q"), opened.tail.commit
    while True:
        places.append(commit.offset)
        if not commit.previous:
            break
        try:
            before = read_commit(source, commit.previous, uuid)
            if before.digest != commit.chain:
                raise FormatError("a COMMIT is not the one before", offset=commit.previous)
        except FormatError as error:
            result.damages.append(error)
            break
        commit = before
    for offset in reversed(places):
        yield read_commit(source, offset, uuid)


def _check_commit(opened: Opened, commit: Commit, deep: bool, result: Verification) -> None:
    source = opened.source
    try:
        check_transaction(source, commit)
        sound = True
    except FormatError as error:
        found = _locate(opened, commit)
        result.damages += found or [error]
        sound = False
    if sound:
        for record in walk(source, commit.start, commit.offset):
            result.records += 1
            result.frames += _frames(opened, record)
            if deep:
                result.damages += _content(opened, record)
    result.bytes += commit.end - commit.start
    result.records += 1


def _frames(opened: Opened, record: Record) -> int:
    is_block = record.prefix.type == RecordType.BLOCK
    return Block(record, opened.schema).frames if is_block else 0


def _locate(opened: Opened, commit: Commit) -> list[StepsonError]:
    """What exactly is damaged in a transaction that does not verify."""
    found: list[StepsonError] = []
    try:
        for record in walk(opened.source, commit.start, commit.offset):
            found += _content(opened, record)
    except FormatError as error:
        found.append(error)
    return found


def _content(opened: Opened, record: Record) -> list[StepsonError]:
    """Decode everything in a record."""
    kind = record.prefix.type
    try:
        if kind in (RecordType.BLOCK, RecordType.SCALARS):
            return _block(opened, record)
        if kind in (RecordType.METADATA, RecordType.CHECKPOINT):
            unpack_tree(opened.source, record)
        elif record.map is None:
            raise AssertionError
    except StepsonError as error:
        return [error]
    return []


def _block(opened: Opened, record: Record) -> list[StepsonError]:
    found: list[StepsonError] = []
    block = Block(record, opened.schema)
    block.all_steps(opened.source)
    for each in opened.schema.fields:
        if record.prefix.type == RecordType.SCALARS and not each.small:
            continue
        try:
            block.values(opened.source, each.name)
        except StepsonError as error:
            found.append(error)
    return found


def _check_index(opened: Opened, result: Verification) -> None:
    """Every frame must be found through the index; SCALARS must hold what blocks hold."""
    tree, frame = opened.tree, 0
    try:
        while frame < opened.tail.commit.frames:
            unit = tree.find(Column.FRAMES, frame, scalars=True)
            if unit is None:
                raise FormatError("the index does not reach every frame")
            end = int(unit.row[Column.FRAMES])
            blocks = list(_blocks(opened, frame, end))
            if unit.kind == RecordType.SCALARS:
                _compare(opened, unit, [block.record.offset for block in blocks])
            frame = end
    except StepsonError as error:
        result.damages.append(error)


def _blocks(opened: Opened, frame: int, end: int) -> Iterator[Block]:
    """The blocks of some frames, as the index finds them."""
    while frame < end:
        unit = opened.tree.find(Column.FRAMES, frame)
        if unit is None:
            raise FormatError("the index does not reach every frame")
        block = _read(opened, unit)
        counts = (unit.row - unit.before)[Column.FRAMES :].tolist()
        if counts != [block.frames, *block.samples]:
            raise FormatError("an entry contradicts its block", offset=unit.offset)
        yield block
        frame = int(unit.row[Column.FRAMES])


def _compare(opened: Opened, unit: Unit, blocks: list[int]) -> None:
    source, schema = opened.source, opened.schema
    copy = _read(opened, unit)
    truth = gather_small(source, schema, blocks, opened.tail.valid_until)
    same = all(
        np.array_equal(copy.steps(source, i), steps) for i, steps in enumerate(truth.steps)
    ) and all(
        copy.values(source, name).tobytes() == values.tobytes()
        for name, values in truth.values.items()
    )
    if not same:
        raise FormatError("SCALARS that contradict their blocks", offset=unit.offset)


def _read(opened: Opened, unit: Unit) -> Block:
    end = opened.tail.valid_until
    return Block(read_record(opened.source, unit.offset, unit.kind, end), opened.schema)
