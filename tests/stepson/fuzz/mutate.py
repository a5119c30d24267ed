"""Changes to a file: of maps, COMMITs, prefixes, payloads, records; and of plain bytes."""

from copy import deepcopy
from typing import Any

import msgpack

from tests.stepson.crashes.model import Rng
from tests.stepson.fuzz.container import COMMIT, Record, join, split

__all__ = ["mutated"]

NUMBERS = (
    *(0, 1, 2, 3, 7, 63, 64, 65, 255, 256, 2**16 - 1, 2**16, 2**24, 2**24 + 1, 2**31 - 1),
    *(2**31, 2**32, 2**40, 2**53, 2**61, 2**62 - 1, 2**62, 2**63 - 64, 2**63 - 1, 2**63),
    *(2**64 - 64, 2**64 - 1, -1, -2, -64, -(2**31), -(2**62), -(2**63)),
)


def _odd(rng: Rng) -> Any:
    """A value of a kind that nobody expects."""
    deep: Any = []
    for _ in range(200):
        deep = [deep]
    choices: list[Any] = [
        *(
            None,
            True,
            False,
            "",
            "text",
            "float64",
            "blosc2",
            "bounded",
            "columns",
            b"",
            b"x" * 16,
        ),
        *([], {}, [[]], [None], [0, 1], [1, 2, 3], {"a": 1}, deep, 0.5, -0.0, 1e308),
        *(float("nan"), float("inf"), -1e-320, msgpack.ExtType(1, b"\0\0\0\0")),
        *(
            msgpack.ExtType(2, b"\1\0\0\0"),
            msgpack.ExtType(3, b""),
            msgpack.ExtType(77, b"x"),
        ),
        *("O", "V8", "f8,f8", "(1,", "\ud7ff" * 4, "\x1b[2J", "a" * 250),
    ]
    return choices[rng.integers(len(choices))]


def _number(rng: Rng, value: int) -> int:
    kind = rng.integers(4)
    if kind == 0:
        return value + int(rng.choice([-64, -1, 1, 64]))
    if kind == 1:
        return value * int(rng.choice([-1, 2, 256]))
    return NUMBERS[rng.integers(len(NUMBERS))]


def _fits(value: int) -> int:
    return max(-(2**63), min(2**64 - 1, value))


def _places(tree: Any, found: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Every container and key in a tree."""
    items = (
        tree.items()
        if isinstance(tree, dict)
        else enumerate(tree)
        if isinstance(tree, list)
        else ()
    )
    for key, value in items:
        found.append((tree, key))
        _places(value, found)
    return found


def _change_map(rng: Rng, content: Any) -> None:
    """Change one place of a map."""
    places = [(t, k) for t, k in _places(content, []) if k != "x"]
    if not places:
        return
    # the names at the top are few: give them the same chance as long lists
    top = [each for each in places if each[0] is content]
    pool = top if top and rng.random() < 0.3 else places
    tree, key = pool[rng.integers(len(pool))]
    value, kind = tree[key], rng.integers(10)
    if kind < 4 and type(value) is int:
        tree[key] = _fits(_number(rng, value))
    elif kind < 6:
        tree[key] = _odd(rng)
    elif kind == 6:
        other, at = places[rng.integers(len(places))]
        tree[key] = deepcopy(other[at])
    elif kind == 7:
        del tree[key]
    elif kind == 8 and isinstance(tree, list):
        tree[key:key] = [deepcopy(value)] * int(rng.choice([1, 2, 300]))
    elif isinstance(tree, dict):
        tree[str(rng.choice(["", "atoms", "extra", "level", "precision"]))] = deepcopy(
            value
        )


def _change_commit(rng: Rng, record: Record, size: int) -> None:
    place = int(rng.integers(len(record.numbers)))
    if rng.random() < 0.5:
        record.numbers[place] = int(rng.integers(size // 64 + 2)) * 64
    else:
        record.numbers[place] = _number(rng, record.numbers[place]) % 2**64


def _change_payload(rng: Rng, record: Record) -> None:
    """Bytes of a chunk; often of its header, where a coder says what it did."""
    data = bytearray(record.payload)
    chunks = record.map.get("chunks") if isinstance(record.map, dict) else None
    start, end = 0, len(data)
    if isinstance(chunks, list) and chunks and rng.random() < 0.7:
        chunk = chunks[rng.integers(len(chunks))]
        if isinstance(chunk, dict) and type(chunk.get("offset")) is int:
            start = max(0, min(chunk["offset"], end - 1))
            end = min(end, start + 40)
    for _ in range(rng.integers(1, 4)):
        place = int(rng.integers(start, end))
        flipped = data[place] ^ 1 << int(rng.integers(8))
        data[place] = (flipped, 0, 1, 127, 128, 255)[rng.integers(6)]
    record.payload = bytes(data)


def _change_records(rng: Rng, records: list[Record]) -> None:
    """Records twice, gone, or in another order."""
    one, other = (int(n) for n in rng.integers(len(records), size=2))
    kind = rng.integers(3)
    if kind == 0:
        records.insert(one, deepcopy(records[other]))
    elif kind == 1:
        del records[one]
    else:
        records[one], records[other] = records[other], records[one]


def _change_prefix(rng: Rng, record: Record) -> None:
    kind = rng.integers(4)
    if kind == 0:
        record.kind = int(rng.choice([0, *range(1, 13), 0x8000, 0xFFFF]))
    elif kind == 1:
        record.flags = int(rng.integers(2**16))
    else:
        name, length = (("map", 32), ("payload", len(record.payload)))[kind - 2]
        record.lies[name] = _number(rng, length)


def _change_bytes(rng: Rng, data: bytes) -> bytes:
    """As a disk does it: checksums do not fit."""
    bad, kind = bytearray(data), rng.integers(4)
    place, other = (int(n) for n in rng.integers(len(bad), size=2))
    if kind == 0:
        return bytes(bad[:place])
    if kind == 1:
        bad[place] ^= 1 << int(rng.integers(8))
    elif kind == 2:
        length = int(rng.integers(1, 600))
        bad[place : place + length] = bad[other : other + length]
    else:
        bad += rng.bytes(int(rng.integers(1, 300)))
    return bytes(bad)


def mutated(rng: Rng, data: bytes) -> bytes:
    """A file with one to three changes."""
    if rng.random() < 0.05:
        return _change_bytes(rng, data)
    magic, records = split(data)
    if not records:
        return _change_bytes(rng, data)
    if rng.random() < 0.01:
        magic = _change_bytes(rng, magic).ljust(64, b"\0")[:64]
    for _ in range((1, 1, 1, 2, 3)[rng.integers(5)]):
        record = _chosen(rng, records)
        kind = rng.random()
        if record.kind == COMMIT and record.numbers and kind < 0.9:
            _change_commit(rng, record, len(data))
        elif kind < 0.7 or not record.payload:
            _change_map(rng, record.map)
        elif kind < 0.9:
            _change_payload(rng, record)
        elif kind < 0.96:
            _change_prefix(rng, record)
        else:
            _change_records(rng, records)
    try:
        bad = join(magic, records)
    except (ValueError, OverflowError, RecursionError):  # what msgpack cannot say
        return _change_bytes(rng, data)
    return bad if rng.random() < 0.97 else _change_bytes(rng, bad)


def _chosen(rng: Rng, records: list[Record]) -> Record:
    """A record; kinds that are few have the same chance as those that are many."""
    kinds = sorted({each.kind for each in records})
    kind = kinds[rng.integers(len(kinds))]
    same = [each for each in records if each.kind == kind]
    # the last ones are read first
    return same[-1] if rng.random() < 0.5 else same[rng.integers(len(same))]
