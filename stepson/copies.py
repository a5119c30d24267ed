"""What a file holds twice, compared: the index and SCALARS against the blocks."""

from collections.abc import Iterator

import numpy as np

from stepson.block import Block, gather_small
from stepson.errors import FormatError, StepsonError
from stepson.index import Column, Unit
from stepson.kept import check_entry
from stepson.opening import Opened
from stepson.records import RecordType
from stepson.scan import read_record
from stepson.verification import Verification, note

__all__ = ["check_copies"]


def check_copies(opened: Opened, result: Verification) -> None:
    """Every frame must be found through the index; SCALARS must hold what blocks hold."""
    tree, commit, frame, step = opened.tree, opened.tail.commit, 0, 0
    while frame < commit.frames:
        try:
            unit = tree.find(Column.FRAMES, frame, scalars=True)
            if unit is None:
                raise FormatError("the index does not reach every frame")
        except StepsonError as error:
            note(result, error)
            return
        end = int(unit.row[Column.FRAMES])
        try:
            blocks = list(_blocks(opened, frame, end))
            if unit.kind == RecordType.SCALARS:
                _compare(opened, unit, [block.record.offset for block in blocks])
        except StepsonError as error:
            note(result, error)
        frame, step = end, int(unit.row[Column.END])
    if (frame, step) != (commit.frames, commit.end_step):
        what = "a COMMIT whose frames or steps are not those that the index leads to"
        note(result, FormatError(what, offset=commit.offset))


def _blocks(opened: Opened, frame: int, end: int) -> Iterator[Block]:
    """The blocks of some frames, as the index finds them."""
    while frame < end:
        unit = opened.tree.find(Column.FRAMES, frame)
        if unit is None:
            raise FormatError("the index does not reach every frame")
        block = _read(opened, unit)
        check_entry(unit, block)
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
