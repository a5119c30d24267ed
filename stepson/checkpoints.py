"""Reading a CHECKPOINT: the state to go on from, or which one before it is sound.

The TABLE names the last two, an entry of TABLE or INDEX the last one so far; so any of them
is found without a scan.
"""

from typing import Any

from stepson.errors import DamagedError, FormatError, SchemaError
from stepson.index import Column
from stepson.opening import Opened
from stepson.records import RecordType
from stepson.scan import read_record
from stepson.tree import unpack_checkpoint

__all__ = ["read_checkpoint"]

TRIED = 16
"""Earlier checkpoints that are looked at when one is damaged."""


def read_checkpoint(opened: Opened, step: int | None) -> dict[str, Any]:
    """The state stored at a step; None: the last one.

    Raises:
        SchemaError: there is none.
        DamagedError: it does not verify; the message names one before it that does.
    """
    found, offset = _place(opened, step)
    try:
        return _read(opened, offset)
    except FormatError as error:
        before = _sound_before(opened, found)
        raise DamagedError(
            f"the checkpoint of step {found}",
            offset=offset,
            steps=(found, found),
            expected=getattr(error, "expected", None),
            actual=getattr(error, "actual", None),
            advice="no other one before it is sound"
            if before is None
            else f"the one of step {before} is sound: checkpoint({before})",
        ) from error


def _read(opened: Opened, offset: int) -> dict[str, Any]:
    end = opened.tail.commit.end
    record = read_record(opened.source, offset, RecordType.CHECKPOINT, end)
    return unpack_checkpoint(opened.source, record)


def _place(opened: Opened, step: int | None) -> tuple[int, int]:
    """Step and offset of a checkpoint."""
    points = opened.table.checkpoints
    if step is None:
        if not points:
            raise SchemaError("there is no checkpoint in this file")
        return points[-1]
    for at, offset in points:
        if at == step:
            return at, offset
    unit = opened.tree.find(Column.CHECKPOINT_STEP, step - 1) if step >= 0 else None
    if unit is None or unit.row[Column.CHECKPOINT_STEP] != step:
        later = -1 if unit is None else int(unit.row[Column.CHECKPOINT_STEP])
        have = f"; the next one is at {later}" if later >= 0 else ""
        raise SchemaError(f"there is no checkpoint of step {step}{have}")
    return step, int(unit.row[Column.CHECKPOINT])


def _sound_before(opened: Opened, step: int) -> int | None:
    """The step of the last checkpoint before one that verifies."""
    for _ in range(TRIED):
        unit = opened.tree.find(Column.CHECKPOINT_STEP, step - 1)
        if unit is None or unit.before[Column.CHECKPOINT_STEP] < 0:
            return None
        step = int(unit.before[Column.CHECKPOINT_STEP])
        try:
            _read(opened, int(unit.before[Column.CHECKPOINT]))
        except FormatError:
            continue
        return step
    return None
