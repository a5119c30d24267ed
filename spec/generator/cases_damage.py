"""Files cut short, and files with a flipped bit."""

import msgpack

from spec.generator.cases_container import FIELDS, add, begin
from spec.generator.expect import damaged, refused
from spec.generator.file import File
from spec.generator.records import (
    BLOCK,
    CHECKPOINT,
    COMMIT,
    FOOTER,
    HEADER,
    METADATA,
    NAMES,
    SCALARS,
    SCHEMA,
    field,
)
from spec.generator.values import noise
from spec.generator.vector import Vector

PREFIX = {
    "magic": 0, "type": 4, "flags": 6, "map-length": 8,
    "payload-length": 12, "sequence": 20, "map-crc": 24, "crc": 28,
}  # fmt: skip
NUMBERS = (
    "own", "start", "first", "end", "frames", "commits", "previous",
    "index", "scalars", "checkpoint", "before", "schema", "metadata", "table",
)  # fmt: skip
STRUCT = {
    **PREFIX,
    "uuid": 32,
    **{name: 48 + 8 * i for i, name in enumerate(NUMBERS)},
    "heads-crc": 160,
    "payloads-crc": 164,
    "chain": 168,
    "zeros": 200,
    "commit-crc": 252,
}


def cases():
    """All cases of this module."""
    yield cuts()
    for sealed in (True, False):
        yield flips(sealed)


def cuts():
    """A small file cut in front of, in, and behind everything."""
    file = begin(checkpoint=True)
    file.seal()
    file.tear(b"torn" * 20)
    file.pad()
    file.begin()
    file.note(torn_bytes=80)
    add(file, 20)
    file.checkpoint(27, {"state": noise(2)})
    file.commit()
    file.seal()
    data, moments = file.data, file.account.moments
    lengths = {0, 1, 8, 12, 63, 64}
    for at, kind, head, payload, end in file.places:
        body = at + head
        inside = {at + 1, at + 31, at + 32, body - 1, body, body + 1, body + payload}
        lengths |= {at, *inside, end - 64, end - 63, end - 1, end}
        lengths |= {at + 96, at + 252, at + 255} if kind == COMMIT else set()
    found = []
    for length in sorted(n for n in lengths if n <= len(data)):
        counts = [i for i, moment in enumerate(moments) if moment.end <= length]
        because = refused("no-commit" if length >= 64 else "malformed")
        expectation = file.account.read(counts[-1], size=length) if counts else because
        found.append((f"cut-{length:05}", data[:length], expectation))
    return Vector(
        "cuts",
        "a file with two FOOTERs and torn bytes between, cut at and around every boundary",
        "4",
        file,
        variants=found,
    )


def flips(sealed):
    """A file with one flipped bit."""
    grid = field("grid", "float32", [9, 9], every=4)
    file = File.created(*FIELDS, grid, n_atoms=3)
    for first in (0, 8, 16):
        add(file, first)
        if first != 8:
            file.checkpoint(first + 7, {"state": noise(4, seed=first + 1)})
        file.commit()
    if sealed:
        file.seal()
    sound = file.account.read()
    found, blocks = [("nothing", file.data, sound)], -1
    for number, place in enumerate(file.places):
        blocks += place[1] == BLOCK
        for name, offset in targets(file, place):
            title = f"{number:02}-{NAMES[place[1]]}-{name}"
            right = outcome(file, sealed, number, name, blocks)
            found.append((title, flipped(file, offset), right))
    for name, offset, right in (
        ("magic", 0, refused("malformed")), ("magic-end", 7, refused("malformed")), ("major", 8, refused("version")),
        ("zeros", 12, damaged(sound)), ("zeros-end", 63, damaged(sound)),
    ):  # fmt: skip
        found.append((f"MAGIC-{name}", flipped(file, offset), right))
    state = "sealed" if sealed else "unsealed"
    return Vector(
        f"flips-{state}",
        f"one flipped bit, in every part of a {state} file",
        "4",
        file,
        variants=found,
    )


def flipped(file, offset):
    """The bytes of a file with one other bit."""
    data = bytearray(file.data)
    data[offset] ^= 0x10
    return bytes(data)


def targets(file, place):
    """What to flip in a record: name and offset."""
    at, kind, head, payload, end = place
    parts = STRUCT if kind == COMMIT else PREFIX
    yield from ((name, at + offset) for name, offset in parts.items())
    if kind == COMMIT:
        return
    yield "map", at + 32
    yield "map-middle", at + (32 + head) // 2
    yield "map-end", at + head - 1
    if kind in (BLOCK, SCALARS):
        for chunk in msgpack.unpackb(file.data[at + 32 : at + head])["chunks"]:
            number = chunk["field"]
            name = "steps" if number is None else file.fields[number]["name"]
            middle = at + head + chunk["offset"] + chunk["size"] // 2
            yield f"chunk-{name}-{chunk['first']}", middle
    elif payload:
        yield "payload", at + head + payload // 2
    if at + head + payload < end:
        yield "padding", end - 1


def outcome(file, sealed, number, name, block):
    """What a reader makes of it."""
    account, place = file.account, file.places[number]
    kind, everything = place[1], account.read()
    if name == "padding":
        return everything
    if kind in (HEADER, SCHEMA):
        return refused("damaged")
    last = max(i for i, each in enumerate(file.places) if each[1] == COMMIT)
    before = max(i for i, each in enumerate(file.places[:last]) if each[1] == COMMIT)
    if kind == FOOTER or (not sealed and before < number <= last):
        return account.read(-2, size=file.size)
    if kind == METADATA:
        return account.read(metadata=False)
    if kind == CHECKPOINT:
        return account.read(checkpoints=(0 if block == 0 else 1,))
    if kind == COMMIT and number == last:
        return damaged(everything, digest=None)  # FOOTER has it; nobody can check it
    if kind != BLOCK:
        return damaged(everything)
    lost = name.split("-")[1] if name.startswith("chunk-") else None
    strict = account.read(lost=[(block, lost)])
    kept = account.read(lost=[(block, lost)], kept=("energy",))
    if not sealed or strict == kept:
        return strict
    return [{**kept, "verdict": "damaged"}, strict]
