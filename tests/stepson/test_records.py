"""The framing of records and COMMIT, byte by byte."""

import struct
from dataclasses import replace
from typing import Any

import msgpack
import pytest
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st

from stepson import DamagedError, FormatError, SchemaError, VersionError
from stepson.records import (
    Commit,
    Prefix,
    check_magic,
    magic,
    pack_head,
    pack_map,
    padded,
    unpack_map,
)

COMMIT = Commit(b"u" * 16, 1024, 512, 0, 10, 5, 2, 64, *(0,) * 6, 0, 1, 2, b"c" * 32, 9)


def test_magic_is_as_specified() -> None:
    assert magic() == b"\x89SON\r\n\x1a\n\x01\0\0\0" + bytes(52)
    check_magic(magic())
    with pytest.raises(UnicodeDecodeError):
        magic().decode()


def test_magic_of_a_newer_major() -> None:
    with pytest.raises(VersionError, match="version 2"):
        check_magic(b"\x89SON\r\n\x1a\n\x02\0\0\0" + bytes(52))


@pytest.mark.parametrize("data", [b"", magic()[:63], b"CDF\x01" + bytes(60), bytes(64)])
def test_no_magic(data: bytes) -> None:
    with pytest.raises(FormatError):
        check_magic(data)


def test_prefix_is_as_specified() -> None:
    packed = msgpack.packb({"a": 1})
    head = pack_head(4, packed, 1000, 7)
    assert head[:4] == b"\xd5SON"
    assert struct.unpack_from("<HHIQII", head, 4) == (
        4,
        0,
        len(packed),
        1000,
        7,
        crc32c(packed),
    )
    assert struct.unpack_from("<I", head, 28) == (crc32c(head[:28]),)
    assert head[32:] == packed


@given(st.integers(0, 255), st.integers(0, 7))
def test_any_flip_of_a_head_is_noticed(place: int, bit: int) -> None:
    packed = pack_map({"a": list(range(30)), "b": "text"}, "test")
    head = bytearray(pack_head(4, packed, 1000, 7))
    head[place % len(head)] ^= 1 << bit
    with pytest.raises(FormatError):
        unpack_map(Prefix.unpack(bytes(head), 64), bytes(head[32:]), 64)


def test_padding() -> None:
    assert [padded(n) for n in (0, 1, 64, 65)] == [0, 64, 64, 128]


def test_a_map_is_at_most_64_kib() -> None:
    with pytest.raises(SchemaError, match="65535"):
        pack_map({"a": "x" * 70_000}, "test")


@pytest.mark.parametrize(
    "data", [b"\xc1", b"\x93\x01", msgpack.packb([1]), msgpack.packb({1: 2}), b"\x81\xa1a"]
)
def test_a_map_that_is_none(data: bytes) -> None:
    prefix = Prefix(4, 0, len(data), 0, 0, crc32c(data))
    with pytest.raises(FormatError):
        unpack_map(prefix, data, 64)


def test_deeply_nested_map() -> None:
    data = b"\x81\xa1a" * 20_000 + b"\x01"
    with pytest.raises(FormatError):
        unpack_map(Prefix(4, 0, len(data), 0, 0, crc32c(data)), data, 64)


def test_commit_is_as_specified() -> None:
    packed = COMMIT.pack()
    assert len(packed) == 256
    assert packed[32:48] == b"u" * 16
    assert struct.unpack_from("<14Q", packed, 48)[:7] == (1024, 512, 0, 10, 5, 2, 64)
    assert struct.unpack_from("<II", packed, 160) == (1, 2)
    assert packed[168:200] == b"c" * 32
    assert packed[200:252] == bytes(52)
    assert struct.unpack_from("<I", packed, 252) == (crc32c(packed[:252]),)
    assert Commit.unpack(packed, 1024, b"u" * 16) == COMMIT


@given(st.integers(0, 255), st.integers(0, 7))
def test_any_flip_of_a_commit_is_noticed(place: int, bit: int) -> None:
    packed = bytearray(COMMIT.pack())
    packed[place] ^= 1 << bit
    with pytest.raises(FormatError):
        Commit.unpack(bytes(packed), 1024, b"u" * 16)


@pytest.mark.parametrize(
    "change",
    [
        {"previous": 512},
        {"start": 2048},
        {"first_step": 11},
        {"table": 1024},
        {"checkpoint_before": 1},
        {"frames": 2**63},
    ],
)
def test_commit_that_contradicts_itself(change: dict[str, Any]) -> None:
    with pytest.raises(FormatError):
        Commit.unpack(replace(COMMIT, **change).pack(), 1024, b"u" * 16)


def test_commit_of_another_file_or_place() -> None:
    for offset, uuid in ((1088, b"u" * 16), (1024, b"v" * 16)):
        with pytest.raises(FormatError):
            Commit.unpack(COMMIT.pack(), offset, uuid)


def test_damage_names_the_byte() -> None:
    data = bytearray(pack_head(4, b"", 0, 7))
    data[10] ^= 1
    with pytest.raises(DamagedError) as caught:
        Prefix.unpack(bytes(data), 4096)
    assert caught.value.offset == 4096
