"""A flipped bit: told, or harmless; and whatever it did not hit stays readable.

What one bit may hide: in a chunk of a BLOCK its field in that block, in the head of a BLOCK
that block, in MAGIC, HEADER, SCHEMA or the last COMMIT everything. INDEX, SCALARS, TABLE,
old COMMITs, NOTE, METADATA and CHECKPOINT hide no frame.
"""

import warnings
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from stepson.block import Block
from stepson.errors import DamageWarning, StepsonError
from stepson.records import RecordType
from stepson.scan import Record, walk
from stepson.source import Bytes
from stepson.trajectory import Trajectory
from stepson.writing import resume
from tests.stepson.crashes.cases import Outcome, Recorded, recorded
from tests.stepson.crashes.disk import Disk
from tests.stepson.crashes.life import NOWHERE, Lost, Wrong, act, plan, shown
from tests.stepson.crashes.model import Model, same

__all__ = ["flip"]

FLIPS = 50
"""Cases of a file."""
FATAL = {RecordType.HEADER, RecordType.SCHEMA}


class Place(NamedTuple):
    """What a bit belongs to."""

    kind: str
    """Name of a record, "padding" or "MAGIC"."""
    last: bool
    """In the last transaction of a file that is not sealed: it may be taken for torn."""
    frames: range
    """Frames that may be lost with it."""
    field: str | None
    """The only one that may be lost; None: all."""


class Part(NamedTuple):
    """A record, and the frames in it."""

    record: Record
    frames: range


@lru_cache(maxsize=4)
def parts(seed: int) -> list[Part]:
    """The records of a recorded file."""
    file, found, done = recorded(seed), [], 0
    schema = file.model.schema
    for record in walk(Bytes(file.image), 64, len(file.image)):
        count = (
            Block(record, schema).frames if record.prefix.type == RecordType.BLOCK else 0
        )
        found.append(Part(record, range(done, done + count)))
        done += count
    return found


def place_of(file: Recorded, found: list[Part], place: int) -> Place:
    """What stands at a byte."""
    everything = range(len(file.model.steps))
    if place < 64:
        return Place("MAGIC", False, everything, None)
    record, frames = next(each for each in found if each.record.end > place)
    kind = RecordType(record.prefix.type)
    last = not file.sealed and place >= file.ends[-2]
    commits = [
        each.record for each in found if each.record.prefix.type == RecordType.COMMIT
    ]
    if place >= record.payload + record.prefix.payload_length:
        return Place("padding", last, range(0), None)
    if kind in FATAL or (kind == RecordType.COMMIT and record is commits[-1]):
        return Place(kind.name, last, everything, None)
    field = None
    if kind == RecordType.BLOCK and place >= record.payload:
        field = _field(file.model, Block(record, file.model.schema), place - record.payload)
    return Place(kind.name, last, frames, field)


def _field(model: Model, block: Block, place: int) -> str | None:
    """The field whose chunk holds a byte of the payload; None for steps."""
    for number, chunks in block.chunks.items():
        if any(each.offset <= place < each.offset + each.size for each in chunks):
            return None if number is None else model.schema.fields[number].name
    return None


def flip(kind: str, seed: int) -> Outcome:
    """Flip a bit of a file: a record of every type in turn, and any place in it."""
    file, number = recorded(seed // FLIPS), seed % FLIPS
    found, rng = parts(seed // FLIPS), np.random.default_rng(seed)
    kinds = sorted({each.record.prefix.type for each in found})
    wanted = kinds[number % len(kinds)]
    record = rng.choice([i for i, p in enumerate(found) if p.record.prefix.type == wanted])
    start, end = found[record].record.offset, found[record].record.end
    place = int(rng.integers(start, end)) if number % 40 else int(rng.integers(64))
    image = bytearray(file.image)
    image[place] ^= 1 << int(rng.integers(8))
    with file.limits.applied(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DamageWarning)
        return judge(file, place_of(file, found, place), bytes(image), rng)


def judge(file: Recorded, place: Place, image: bytes, rng: np.random.Generator) -> Outcome:
    """Read everything; verify; append, read again."""
    total = len(file.model.steps)
    try:
        traj = shown(image)
    except StepsonError:
        if len(place.frames) < total and not place.last:
            raise
        return Outcome(opened=False, appended=False)
    allowed = file.disk.states[len(file.ends) - 1 - place.last : len(file.ends)]
    if len(traj) not in {state.frames for state in allowed}:
        raise Lost(f"{len(traj)} of {total} frames after a flip in {place}")
    lost = read_all(traj, file.model, place)
    readable(lost, place)
    told = not traj.verify().ok
    if not told and place.kind != "padding" and not place.last and place.kind != "FOOTER":
        raise Wrong(f"verify does not see a flip in {place}")
    return Outcome(opened=True, appended=_append(file, place, image, len(traj), rng))


Lists = dict[str, set[int]]


def read_all(traj: Trajectory, model: Model, place: Place) -> Lists:
    """Read every sample by itself; the frames that cannot be read, by field."""
    lost: Lists = {}
    for each in model.schema.fields:
        column, gone = traj[each.name], set()
        rows, places = model.rows[each.name], model.places[each.name]
        count = int(np.searchsorted(places, len(traj)))
        try:
            if len(column) != count:
                raise Wrong(f"{len(column)} samples of {each.name} instead of {count}")
            if not same(column[:], np.stack(rows[:count]) if count else column[:0]):
                raise Wrong(f"values of {each.name} after a flip in {place}")
        except StepsonError:
            for i in range(count):
                try:
                    if not same(column[i : i + 1], rows[i][None]):
                        raise Wrong(f"{each.name}, sample {i}, flip in {place}")
                    if column.steps[i] != model.steps[places[i]]:
                        raise Wrong(f"step of {each.name}, sample {i}, flip in {place}")
                except StepsonError:
                    gone.add(places[i])
        lost[each.name] = gone
    return lost


def readable(lost: Lists, place: Place) -> None:
    """No more is lost than what the bit belongs to."""
    for name, frames in lost.items():
        if place.field not in (None, name) and frames:
            raise Lost(f"frames {sorted(frames)} of {name} after a flip in {place}")
        if not frames <= set(place.frames):
            raise Lost(f"frames {sorted(frames)} of {name} after a flip in {place}")


def _append(
    file: Recorded, place: Place, image: bytes, frames: int, rng: np.random.Generator
) -> bool:
    """Going on with a damaged file harms nothing; it may be refused, in one line."""
    state = next(each for each in reversed(file.disk.states) if each.frames == frames)
    model = file.model.cut(state)
    model.rng = rng
    disk = Disk(rng, image, state)
    try:
        writer = resume(disk, NOWHERE, commit="manual", threaded=False)
        act(writer, plan(model, 3))
        writer.close()
    except StepsonError:
        return False
    if not bytes(disk.cache).startswith(image):
        raise Wrong("bytes that were in the file have changed")
    readable(read_all(shown(bytes(disk.cache)), model, place), place)
    return True
