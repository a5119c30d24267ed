"""A file as a list of records that can be changed, and put together with right checksums.

Written from ``spec/son-1.md``, not with the library. Every map of a seed has spare bytes
under a key that nobody knows; a change takes from them, so that offsets stay right.
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from unittest import mock

import msgpack
from crc32c import crc32c

from stepson.records import pack_map

__all__ = ["COMMIT", "CommitFields", "Record", "join", "split", "with_slack"]

PREFIX = struct.Struct("<IHHIQII")
MAGIC = int.from_bytes(b"\xd5SON", "little")
COMMIT, FOOTER = 6, 10
SLACK, SLACK_BYTES = "x", 300
CommitFields = list[int]
NUMBERS = struct.Struct("<14Q")


@dataclass
class Record:
    """One record; a COMMIT has `numbers` instead of a map and payload."""

    kind: int
    flags: int
    sequence: int
    map: Any
    payload: bytes
    length: int
    """With its padding, in the seed."""
    numbers: CommitFields = field(default_factory=list)
    uuid: bytes = b""
    lies: dict[str, int] = field(default_factory=dict)
    """Fields of the prefix to be written as they are: "map", "payload"."""


@contextmanager
def with_slack() -> Iterator[None]:
    """Files that are written here have spare bytes in every map."""

    def pack(content: Any, what: str) -> bytes:
        return pack_map({**content, SLACK: bytes(SLACK_BYTES)}, what)

    with mock.patch("stepson.transaction.pack_map", pack):
        yield


def split(data: bytes) -> tuple[bytes, list[Record]]:
    """MAGIC and the records of a sound file; what does not parse is left out."""
    place, found = 64, []
    while place + 32 <= len(data):
        magic, kind, flags, maps, payload, sequence, _ = PREFIX.unpack_from(data, place)
        if magic != MAGIC or place + 32 + maps + payload > len(data):
            break
        length = -(-(32 + maps + payload) // 64) * 64
        body = data[place + 32 : place + 32 + maps]
        content = data[place + 32 + maps : place + 32 + maps + payload]
        record = Record(kind, flags, sequence, None, content, length)
        if kind == COMMIT and payload == 224:
            record.uuid = content[:16]
            record.numbers = list(NUMBERS.unpack_from(content, 16))
        else:
            record.map = msgpack.unpackb(body, strict_map_key=False) if body else {}
        found.append(record)
        place += length
    return data[:64], found


def join(magic: bytes, records: list[Record]) -> bytes:
    """The file with every checksum right, and the chain of COMMITs."""
    out, chain, heads, payloads = bytearray(magic), bytes(32), 0, 0
    for each in records:
        if each.kind == COMMIT and each.numbers:
            data = _commit(each, heads, payloads, chain)
            chain, heads, payloads = sha256(data).digest(), 0, 0
            out += data
            continue
        if each.kind == FOOTER and isinstance(each.map, dict) and "digest" in each.map:
            each.map["digest"] = chain
        _repair_chunks(each)
        packed = _pack(each)
        head = _prefix(each, packed, len(each.payload)) + packed
        heads, payloads = crc32c(head, heads), crc32c(each.payload, payloads)
        if each.kind == FOOTER:
            heads = payloads = 0  # it stands between transactions
        data = head + each.payload
        out += data + bytes(-len(data) % 64)
    return bytes(out)


def _prefix(record: Record, packed: bytes, payload: int) -> bytes:
    maps = record.lies.get("map", len(packed)) % 2**32
    payload = record.lies.get("payload", payload) % 2**64
    body = PREFIX.pack(
        MAGIC, record.kind, record.flags, maps, payload, record.sequence, crc32c(packed)
    )
    return body + struct.pack("<I", crc32c(body))


def _commit(record: Record, heads: int, payloads: int, chain: bytes) -> bytes:
    numbers = NUMBERS.pack(*(each % 2**64 for each in record.numbers))
    sums = struct.pack("<II", heads, payloads)
    body = record.uuid + numbers + sums + chain + bytes(52)
    data = _prefix(record, b"", 224) + body
    return data + struct.pack("<I", crc32c(data))


def _repair_chunks(record: Record) -> None:
    """Give every chunk the checksum of its bytes."""
    if not isinstance(record.map, dict) or not isinstance(record.map.get("chunks"), list):
        return
    for each in record.map["chunks"]:
        if isinstance(each, dict):
            start, size = each.get("offset"), each.get("size")
            if (
                type(start) is int
                and type(size) is int
                and 0 <= start <= start + size < 2**40
            ):
                each["crc32c"] = crc32c(record.payload[start : start + size])


def _pack(record: Record) -> bytes:
    """The map, spare bytes cut so that the record keeps its length if that is possible."""
    if not isinstance(record.map, dict) or SLACK not in record.map:
        return bytes(msgpack.packb(record.map)) if record.map != {} else b""
    rest = {key: value for key, value in record.map.items() if key != SLACK}
    room = record.length - 32 - len(record.payload)
    for spare in range(SLACK_BYTES, -1, -1):
        packed: bytes = msgpack.packb({**rest, SLACK: bytes(spare)})
        if len(packed) <= room:
            break
    return packed
