"""What stepson reads of a file, as the JSON of ``spec/vectors/README.md``."""

import json
import sys
import warnings
from collections.abc import Iterator
from hashlib import sha256
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepson.errors import DamageWarning, StepsonError
from stepson.index import Column, Unit
from stepson.opening import READ_COMPATIBLE
from stepson.records import RecordType
from stepson.scan import read_record
from stepson.schema import Field
from stepson.source import LocalFile
from stepson.trajectory import Trajectory
from stepson.tree import unpack_tree

__all__ = ["describe", "main"]

SHORT = 64
Array = NDArray[Any]
Answer = dict[str, Any]


def main(arguments: list[str]) -> int:
    """``FILE``: print its JSON; ``--batch``: the same for each line of stdin."""
    warnings.simplefilter("ignore", DamageWarning)
    if arguments == ["--batch"]:
        for line in sys.stdin:
            sys.stdout.write(json.dumps(_answer(line.rstrip("\n"))) + "\n")
            sys.stdout.flush()
        return 0
    if len(arguments) != 1:
        sys.stderr.write("python -m stepson.conformance --read FILE, or --read --batch\n")
        return 2
    answer = _answer(arguments[0])
    if "refused" in answer:
        sys.stderr.write(answer["refused"] + "\n")
        return 1
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


def _answer(path: str) -> Answer:
    try:
        with Trajectory(LocalFile(Path(path)), Path(path)) as trajectory:
            return describe(trajectory)
    except StepsonError as error:
        return {"refused": str(error)}


def describe(trajectory: Trajectory) -> Answer:
    """Everything that can be read of a file.

    Raises:
        StepsonError: nothing can be said of it.
    """
    unreadable: list[Answer] = []
    header = trajectory.opened.header
    fields = {
        name: _field(trajectory, each, unreadable)
        for name, each in trajectory.fields.items()
    }
    return {
        "uuid": trajectory.uuid,
        "digest": trajectory.digest,
        "parent": _plain_parent(trajectory),
        "sealed": trajectory.sealed,
        "torn_bytes": trajectory.torn_bytes,
        "frames": len(trajectory),
        "n_atoms": trajectory.n_atoms,
        "fields": fields,
        "metadata": _metadata(trajectory),
        "checkpoints": [_checkpoint(trajectory, *each) for each in _points(trajectory)],
        "unreadable": unreadable,
        "append": set(header.read_compatible) <= READ_COMPATIBLE,
    }


def _plain_parent(trajectory: Trajectory) -> Answer | None:
    if trajectory.parent is None:
        return None
    items = trajectory.parent.items()
    return {k: v.hex() if isinstance(v, bytes) else _plain(v) for k, v in items}


def _field(trajectory: Trajectory, field: Field, unreadable: list[Answer]) -> Answer:
    column = trajectory[field.name]
    try:
        steps, values = column.steps[:], column[:]
    except StepsonError:
        steps, values = _sound_blocks(trajectory, field, unreadable)
    short = len(steps) <= SHORT
    return {
        "dtype": field.dtype,
        "shape": list(field.shape),
        "unit": field.unit,
        "every": field.every,
        "offset": field.offset,
        "samples": len(steps),
        "steps": steps.tolist() if short else _digest(steps.astype("<i8")),
        "sha256": _digest(values),
    }


def _sound_blocks(
    trajectory: Trajectory, field: Field, unreadable: list[Answer]
) -> tuple[Array, Array]:
    """Steps and values of a field from the blocks where it can be read."""
    reader = trajectory.reader
    cadence = reader.schema.cadence_of[field.name]
    shape = (0, *field.sample_shape(trajectory.n_atoms))
    steps: list[Array] = [np.empty(0, np.int64)]
    values: list[Array] = [np.empty(shape, field.dtype)]
    for unit in _blocks(trajectory):
        try:
            at = reader.steps(unit, cadence)
            found = reader.values(unit, field.name, (0, len(at)))
        except StepsonError:
            place = Column.SAMPLES + cadence
            if unit.row[place] > unit.before[place]:
                unreadable.append(_lost(unit, field.name))
            continue
        steps.append(at)
        values.append(found)
    return np.concatenate(steps), np.concatenate(values)


def _lost(unit: Unit, name: str) -> Answer:
    first, end = int(unit.row[Column.FIRST]), int(unit.row[Column.END])
    return {"field": name, "first_step": first, "last_step": end - 1}


def _blocks(trajectory: Trajectory) -> Iterator[Unit]:
    done = 0
    while done < len(trajectory):
        unit = trajectory.reader.unit_of_frame(done)
        yield unit
        done = int(unit.row[Column.FRAMES])


def _metadata(trajectory: Trajectory) -> Answer | None:
    try:
        return {key: _plain(value) for key, value in trajectory.metadata.items()}
    except StepsonError:
        return None


def _points(trajectory: Trajectory) -> tuple[tuple[int, int], ...]:
    return trajectory.opened.table.checkpoints


def _checkpoint(trajectory: Trajectory, step: int, offset: int) -> Answer:
    source, end = trajectory.source, trajectory.opened.tail.commit.end
    try:
        record = read_record(source, offset, RecordType.CHECKPOINT, end)
        return {"step": record.map["step"], "tree": _plain(unpack_tree(source, record))}
    except StepsonError:
        return {"step": step, "tree": None}


def _plain(value: Any) -> Any:
    """A tree as JSON; anything else of msgpack, which `parent` may hold, as text."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, np.ndarray):
        shape = list(value.shape)
        what = {"dtype": value.dtype.name, "shape": shape, "sha256": _digest(value)}
        return {"array": what}
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    known = value is None or isinstance(value, (bool, int, float, str))
    odd = isinstance(value, float) and not isfinite(value)
    return value if known and not odd else str(value)


def _digest(values: Array) -> str:
    little = values.astype(values.dtype.newbyteorder("<"), copy=False)
    return sha256(np.ascontiguousarray(little).tobytes()).hexdigest()
