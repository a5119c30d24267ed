"""The framed units of a file, as bytes: MAGIC, the record prefix, msgpack maps and COMMIT.

Every record is a prefix of 32 bytes, a msgpack map, a payload, and zeros up to the next
multiple of 64, so a reader can go from record to record without knowing their types, and
can search backwards for one on 64-byte boundaries. The prefix and the map (the *head*)
carry checksums of their own; payloads are covered by the checksums of their chunks and, as
a whole, by COMMIT. Nothing here touches a file: bytes in, bytes out. Implements
``spec/son-1.md`` 2.1, 2.2 and 2.9.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from hashlib import sha256
from typing import Any

import msgpack
from crc32c import crc32c

from stepson.errors import DamagedError, FormatError, SchemaError, VersionError

__all__ = [
    "ALIGNMENT",
    "COMMIT_SIZE",
    "MAGIC_SIZE",
    "MAP_LIMIT",
    "PREFIX_SIZE",
    "Commit",
    "Prefix",
    "RecordType",
    "check_magic",
    "magic",
    "pack_head",
    "pack_map",
    "padded",
    "unpack_map",
]

MAJOR = 1
MAGIC = b"\x89SON\r\n\x1a\n"
MAGIC_SIZE = 64
ALIGNMENT = 64
RECORD_MAGIC = int.from_bytes(b"\xd5SON", "little")
PREFIX_SIZE = 32
MAP_LIMIT = 2**16 - 1
COMMIT_SIZE = 256

_MAGIC = struct.Struct("<8sII48s")
_PREFIX = struct.Struct("<IHHIQII")
_COMMIT = struct.Struct("<16s14QII32s52s")
_CRC = struct.Struct("<I")
_COMMIT_PAYLOAD = COMMIT_SIZE - PREFIX_SIZE


class RecordType(IntEnum):
    """What a record is; 0x8000 and above are private; unknown ones are skipped."""

    HEADER = 1
    SCHEMA = 2
    METADATA = 3
    BLOCK = 4
    TABLE = 5
    COMMIT = 6
    CHECKPOINT = 7
    INDEX = 8
    SCALARS = 9
    FOOTER = 10
    NOTE = 11


def padded(length: int) -> int:
    """`length` rounded up to the alignment of records."""
    return -(-length // ALIGNMENT) * ALIGNMENT


def magic() -> bytes:
    """The first 64 bytes of a file."""
    return _MAGIC.pack(MAGIC, MAJOR, 0, b"")


def check_magic(data: bytes) -> None:
    """Refuse what is no `.son`, or one of another major version.

    Raises:
        FormatError: other magic bytes, or too short.
        VersionError: a newer major version.
    """
    if data[:8] != MAGIC[: len(data[:8])]:
        raise FormatError(
            "not a .son file: it does not start with the magic bytes", offset=0
        )
    if len(data) < MAGIC_SIZE:
        raise FormatError(f"too short for a .son file: {len(data)} bytes", offset=0)
    _, major, reserved, zeros = _MAGIC.unpack_from(data)
    if major != MAJOR:
        raise VersionError(found=major, supported=MAJOR)
    if reserved or any(zeros):
        raise FormatError("the 48 bytes after the magic bytes are not zero", offset=12)


@dataclass(frozen=True, slots=True)
class Prefix:
    """The first 32 bytes of a record."""

    type: int
    flags: int
    map_length: int
    payload_length: int
    sequence: int
    map_crc: int

    @property
    def head_length(self) -> int:
        """Bytes of prefix and map; the payload follows."""
        return PREFIX_SIZE + self.map_length

    @property
    def length(self) -> int:
        """Bytes of the whole record with its padding."""
        return padded(self.head_length + self.payload_length)

    def pack(self) -> bytes:
        """The 32 bytes on disk."""
        body = _PREFIX.pack(
            RECORD_MAGIC,
            self.type,
            self.flags,
            self.map_length,
            self.payload_length,
            self.sequence,
            self.map_crc,
        )
        return body + _CRC.pack(crc32c(body))

    @classmethod
    def unpack(cls, data: bytes, offset: int) -> "Prefix":
        """Read and check the prefix that `data` starts with.

        Raises:
            FormatError: no record starts here.
            DamagedError: its checksum fails.
        """
        if len(data) < PREFIX_SIZE:
            raise FormatError("the file ends where a record should start", offset=offset)
        found, *values = _PREFIX.unpack_from(data)
        if found != RECORD_MAGIC:
            raise FormatError("no record starts here", offset=offset)
        (expected,) = _CRC.unpack_from(data, PREFIX_SIZE - 4)
        actual = crc32c(data[: PREFIX_SIZE - 4])
        if actual != expected:
            raise DamagedError(
                "the head of a record", offset=offset, expected=expected, actual=actual
            )
        prefix = cls(*values)
        if prefix.map_length > MAP_LIMIT:
            raise FormatError(
                f"a map of {prefix.map_length} bytes is too long", offset=offset
            )
        return prefix


def pack_map(content: Mapping[str, Any], what: str) -> bytes:
    """The msgpack part of a record.

    Raises:
        SchemaError: it cannot be stored, or is longer than 64 KiB.
    """
    try:
        packed: bytes = msgpack.packb(content, use_bin_type=True)
    except (TypeError, ValueError, OverflowError) as error:
        raise SchemaError(f"{what} cannot be stored: {error}") from error
    if len(packed) > MAP_LIMIT:
        raise SchemaError(
            f"{what} takes {len(packed)} bytes beside its arrays, at most {MAP_LIMIT} fit; "
            "turn long lists into numpy arrays"
        )
    return packed


def pack_head(kind: int, packed: bytes, payload_length: int, sequence: int) -> bytes:
    """Prefix and map of a record."""
    number = sequence % 2**32
    return (
        Prefix(kind, 0, len(packed), payload_length, number, crc32c(packed)).pack() + packed
    )


def unpack_map(prefix: Prefix, data: bytes, offset: int) -> dict[str, Any]:
    """Check and read the map of the record at `offset`.

    Raises:
        DamagedError: its checksum fails.
        FormatError: it is no msgpack map.
    """
    actual = crc32c(data)
    if len(data) != prefix.map_length or actual != prefix.map_crc:
        raise DamagedError(
            "the map of a record", offset=offset, expected=prefix.map_crc, actual=actual
        )
    try:
        content = msgpack.unpackb(data, raw=False, strict_map_key=True) if data else {}
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        raise FormatError(
            f"a record without a msgpack map: {error}", offset=offset
        ) from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise FormatError("a record whose msgpack part is no map of names", offset=offset)
    return content


@dataclass(frozen=True, slots=True)
class Commit:
    """The record that makes everything before it in its transaction visible.

    Offsets are bytes from the start of the file; 0 means that there is none.
    """

    uuid: bytes
    """Of the file; a COMMIT copied from elsewhere does not count."""
    offset: int
    """Its own; neither does one that has moved."""
    start: int
    """Where its transaction starts."""
    first_step: int
    """Of the frames in this transaction; equal to `end_step` where there are none."""
    end_step: int
    """One past the last step of the file so far."""
    frames: int
    """Of the file so far."""
    commits: int
    """Of the file so far, this one included."""
    previous: int
    """The COMMIT before: the file is the chain of these."""
    index: int
    """The last INDEX."""
    scalars: int
    """The last SCALARS."""
    checkpoint: int
    """The last CHECKPOINT."""
    checkpoint_before: int
    """The one before."""
    schema: int
    """The SCHEMA in force."""
    metadata: int
    """The METADATA in force."""
    table: int
    """The TABLE of this transaction."""
    heads_crc: int
    """crc32c over the heads of the transaction's records, this one excluded."""
    payloads_crc: int
    """crc32c over their payloads."""
    chain: bytes
    """sha256 of the previous COMMIT: a COMMIT vouches for everything before it."""
    sequence: int
    """Of its prefix."""

    def pack(self) -> bytes:
        """The 256 bytes on disk."""
        # not astuple: it copies each value deeply, which takes longer than all else here
        *values, sequence = (getattr(self, name) for name in self.__slots__)
        body = pack_head(RecordType.COMMIT, b"", _COMMIT_PAYLOAD, sequence) + _COMMIT.pack(
            *values, b""
        )
        return body + _CRC.pack(crc32c(body))

    @property
    def digest(self) -> bytes:
        """sha256 of this COMMIT: of the file up to here, through the chain."""
        return sha256(self.pack()).digest()

    @property
    def end(self) -> int:
        """Where the next record starts."""
        return self.offset + COMMIT_SIZE

    @classmethod
    def unpack(cls, data: bytes, offset: int, uuid: bytes) -> "Commit":
        """Read and check the COMMIT of the file `uuid` that stands at `offset`.

        Raises:
            FormatError: it is no COMMIT, or belongs elsewhere.
            DamagedError: its checksum fails.
        """
        prefix = Prefix.unpack(data, offset)
        lengths = prefix.map_length, prefix.payload_length, len(data) < COMMIT_SIZE
        if prefix.type != RecordType.COMMIT or lengths != (0, _COMMIT_PAYLOAD, False):
            raise FormatError("no COMMIT starts here", offset=offset)
        (expected,) = _CRC.unpack_from(data, COMMIT_SIZE - 4)
        actual = crc32c(data[: COMMIT_SIZE - 4])
        if actual != expected:
            raise DamagedError("a COMMIT", offset=offset, expected=expected, actual=actual)
        *values, zeros = _COMMIT.unpack_from(data, PREFIX_SIZE)
        commit = cls(*(*values, prefix.sequence))
        if commit.uuid != uuid or commit.offset != offset or any(zeros):
            raise FormatError("a COMMIT of another file or place", offset=offset)
        if max(values[2:15]) >= 2**63 or not _ordered(commit):
            raise FormatError("a COMMIT whose numbers contradict each other", offset=offset)
        return commit


def _ordered(commit: Commit) -> bool:
    """Whether everything a COMMIT names stands before it."""
    inside = (commit.index, commit.scalars, commit.checkpoint, commit.table, commit.schema)
    return (
        commit.previous < commit.start < commit.offset
        and commit.first_step <= commit.end_step
        and commit.checkpoint_before <= commit.checkpoint
        and max(*inside, commit.metadata) < commit.offset
    )
