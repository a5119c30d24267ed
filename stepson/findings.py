"""What is wrong with a chunk or a head, as facts."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from stepson.block import Block
from stepson.damage import Damage
from stepson.errors import FormatError
from stepson.records import COMMIT_SIZE, RecordType
from stepson.resync import Hole, Placed

__all__ = ["break_damage", "chunk_damage", "hole_damage", "record_name"]


def chunk_damage(block: Block, info: Mapping[str, Any], actual: int | None) -> Damage:
    """What is wrong with a chunk of a block, and whose samples it held."""
    number, fields = info.get("field"), block.schema.fields
    expected = info.get("crc32c")
    return Damage(
        "a chunk does not verify",
        block.record.payload + info["offset"],
        info["size"],
        None if number is None else fields[number].name,
        block.first,
        block.end - 1,
        expected if type(expected) is int else None,
        actual,
    )


def hole_damage(hole: Hole) -> Damage:
    """What is wrong where a record should start."""
    found = Damage.of(hole.error, bytes=hole.end - hole.start)
    what = f"the head of {record_name(hole.kind)} does not verify"
    return replace(found, what=what, offset=hole.start)


def break_damage(earlier: Placed | None, this: Placed, error: FormatError | None) -> Damage:
    """What is wrong between two COMMITs of the chain that should be neighbours."""
    moved = 0 if earlier is None else earlier.shift - this.shift
    if earlier is not None and moved:
        how = f"{moved} bytes are missing" if moved > 0 else f"{-moved} bytes were added"
        return Damage(f"{how} from here to byte {this.start}", earlier.end)
    found = Damage("", None) if error is None else Damage.of(error)
    size = COMMIT_SIZE
    return replace(found, what="a COMMIT does not verify", bytes=size, offset=this.before)


def record_name(kind: int | None) -> str:
    """A type, for messages."""
    if kind is None:
        return "a record"
    try:
        name = RecordType(kind).name
    except ValueError:
        return "a record of unknown type"
    return f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"
