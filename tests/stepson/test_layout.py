"""The bytes of a file as in ``spec/son-1.md``, read with struct and msgpack alone."""

import struct
from collections.abc import Iterator
from hashlib import sha256
from itertools import accumulate
from typing import Any, NamedTuple

import msgpack
import pytest
from crc32c import crc32c

from tests.stepson.files import write

HEADER, SCHEMA, METADATA, BLOCK, TABLE = 1, 2, 3, 4, 5
COMMIT, CHECKPOINT, INDEX, SCALARS, FOOTER = 6, 7, 8, 9, 10


class Raw(NamedTuple):
    """A record by section 2.2."""

    offset: int
    kind: int
    head: bytes
    content: dict[str, Any]
    payload: bytes


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("layout") / "md.son"
    write(path, [range(20), range(20, 40), range(40, 55)])
    return path.read_bytes()


def walk(data: bytes) -> Iterator[Raw]:
    offset, number = 64, 0
    while offset < len(data):
        fields = struct.unpack_from("<4sHHIQIII", data, offset)
        magic, kind, flags, map_length, length, sequence, map_crc, crc = fields
        assert magic == b"\xd5SON"
        assert flags == 0
        assert sequence == number
        assert crc == crc32c(data[offset : offset + 28])
        start = offset + 32 + map_length
        packed = data[offset + 32 : start]
        assert map_crc == crc32c(packed)
        content = msgpack.unpackb(packed) if packed else {}
        end = start + length
        yield Raw(offset, kind, data[offset:start], content, data[start:end])
        offset, number = -(-end // 64) * 64, number + 1
        assert not any(data[end:offset])
    assert offset == len(data)


def test_order_of_records(data: bytes) -> None:
    kinds = [record.kind for record in walk(data)]
    transaction = [CHECKPOINT, BLOCK, TABLE, COMMIT]
    closing = [SCALARS, INDEX, TABLE, COMMIT, FOOTER]
    assert kinds == [HEADER, SCHEMA, METADATA, COMMIT, *transaction * 3, *closing]


def test_commits_are_a_chain(data: bytes) -> None:
    heads = payloads = previous = count = 0
    start, digest, uuid = 64, bytes(32), next(walk(data)).content["uuid"]
    places = dict.fromkeys(range(1, 12), 0)
    points = [0, 0]
    for record in walk(data):
        if record.kind != COMMIT:
            places[record.kind] = record.offset
            points += [record.offset] if record.kind == CHECKPOINT else []
            heads, payloads = crc32c(record.head, heads), crc32c(record.payload, payloads)
            continue
        whole = record.head + record.payload
        assert len(whole) == 256
        values = struct.unpack_from("<16s14QII32s52sI", whole, 32)
        count += 1
        assert values[:3] == (uuid, record.offset, start)
        assert values[6:8] == (count, previous)
        assert values[8:10] == (places[INDEX], places[SCALARS])
        assert values[10:12] == (points[-1], points[-2])
        assert values[12:15] == (places[SCHEMA], places[METADATA], places[TABLE])
        assert values[15:18] == (heads, payloads, digest)
        assert values[18] == bytes(52)
        assert values[19] == crc32c(whole[:252])
        digest, previous, start = sha256(whole).digest(), record.offset, record.offset + 256
        heads = payloads = 0
    footer = [*walk(data)][-1]
    assert footer.content["digest"] == digest
    assert (footer.content["commit"], footer.content["offset"]) == (previous, start)


def test_entries_name_their_blocks(data: bytes) -> None:
    records = [*walk(data)]
    blocks = [record for record in records if record.kind == BLOCK]
    index = next(record for record in records if record.kind == INDEX)
    entries = index.content["entries"]
    columns = {name: [*accumulate(entries[name])] for name in ("record", "frames", "end")}
    assert columns["record"] == [block.offset for block in blocks]
    assert columns["frames"] == [*accumulate(block.content["frames"] for block in blocks)]
    assert columns["end"] == [block.content["end"] for block in blocks]
    for i, column in enumerate(entries["samples"]):
        counts = [block.content["samples"][i] for block in blocks]
        assert [*accumulate(column)] == [*accumulate(counts)]


def test_chunks_are_where_their_maps_say(data: bytes) -> None:
    for record in walk(data):
        for chunk in record.content.get("chunks", []):
            piece = record.payload[chunk["offset"] : chunk["offset"] + chunk["size"]]
            assert len(piece) == chunk["size"]
            assert crc32c(piece) == chunk["crc32c"]
        if record.kind == BLOCK:
            small = [chunk["field"] != 0 for chunk in record.content["chunks"]]
            assert small == sorted(small, reverse=True)


def test_steps_are_runs(data: bytes) -> None:
    found: list[list[int]] = [[], []]
    for record in walk(data):
        if record.kind == BLOCK:
            for cadence, runs in zip(found, record.content["runs"], strict=True):
                cadence += [a + b * i for a, b, n in runs for i in range(n)]
    assert found == [list(range(0, 55, 10)), list(range(0, 55, 2))]


def test_a_checkpoint_is_stored_as_it_is(data: bytes) -> None:
    record = [each for each in walk(data) if each.kind == CHECKPOINT][1]
    assert record.content["step"] == 39
    reference = record.content["tree"]["state"]
    assert reference.code == 1
    chunk = record.content["chunks"][struct.unpack("<I", reference.data)[0]]
    assert (chunk["codec"], chunk["dtype"], chunk["shape"]) == ("raw", "float64", [4])
    piece = record.payload[chunk["offset"] :][: chunk["size"]]
    assert struct.unpack("<4d", piece) == (39.0, 40.0, 41.0, 42.0)
