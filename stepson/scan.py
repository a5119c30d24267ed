"""Walking the records of any byte source; telling torn from damaged.

Theory of operation. A transaction is visible if and only if its COMMIT verifies. Its first
byte is written only after the sync of the one before returned, so only the last transaction
can be incomplete, and whatever stands behind the last COMMIT that verifies is *torn*:
normal after a kill, never an error. A checksum that fails anywhere else is *damage*.

The end of a file is found from its end. A FOOTER that ends the file proves that it was
closed, so nothing can be torn. Otherwise a COMMIT is searched backwards on 64-byte
boundaries, and its whole transaction is checked once, since after a power failure the last
bytes may have reached the disk before those in front of them. If that fails, the
transaction is torn and the COMMIT that it names as ``previous`` counts, if no later one
does: the chain of these is the file. The cost depends on the last transaction, not on the
size of the file. Implements ``spec/son-1.md`` 4.
"""

from collections.abc import Iterator
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from crc32c import crc32c

from stepson.errors import DamagedError, FormatError
from stepson.records import (
    ALIGNMENT,
    COMMIT_SIZE,
    MAP_LIMIT,
    PREFIX_SIZE,
    RECORD_MAGIC,
    Commit,
    Prefix,
    RecordType,
    unpack_map,
)
from stepson.source import EDGE, Source, expect

__all__ = [
    "Record",
    "Tail",
    "candidates",
    "check_transaction",
    "find_commit",
    "find_tail",
    "payload_crc",
    "read_commit",
    "read_record",
    "walk",
]

HEAD_GUESS = 4096
SEALED_TAIL = 2**16
UNSEALED_TAIL = 2**18
PIECE = 2**22
MAX_TORN = 16
"""Torn transactions that are looked behind: each life of a file leaves at most one."""


class Record:
    """A record whose prefix is sound; the map is checked when asked for."""

    def __init__(self, offset: int, prefix: Prefix, data: bytes) -> None:
        self.offset = offset
        self.prefix = prefix
        self.data = data
        """What was read from `offset` on: the head, and perhaps some payload."""

    @property
    def payload(self) -> int:
        """Where the payload starts."""
        return self.offset + self.prefix.head_length

    @property
    def end(self) -> int:
        """Where the next record starts."""
        return self.offset + self.prefix.length

    @property
    def head(self) -> bytes:
        """Prefix and map."""
        return self.data[: self.prefix.head_length]

    @cached_property
    def map(self) -> dict[str, Any]:
        """The msgpack part.

        Raises:
            FormatError: it does not verify.
        """
        return unpack_map(self.prefix, self.head[PREFIX_SIZE:], self.offset)

    def read(self, source: Source, start: int, length: int) -> bytes:
        """`length` bytes of the payload from `start` on, from memory where possible."""
        if start < 0 or length < 0 or start + length > self.prefix.payload_length:
            raise FormatError("a chunk reaches beyond its record", offset=self.offset)
        begin = self.prefix.head_length + start
        if begin + length <= len(self.data):
            return self.data[begin : begin + length]
        data = source.read_at(self.offset + begin, length)
        if len(data) != length:
            raise FormatError("the file ends within a record", offset=self.offset + begin)
        return data


def read_record(
    source: Source,
    offset: int,
    kind: RecordType | None = None,
    end: int | None = None,
    guess: int = HEAD_GUESS,
    *,
    aligned: bool = True,
) -> Record:
    """Read the head of the record at `offset`.

    Args:
        source: where to read.
        offset: of the record.
        kind: what it must be, if that is known.
        end: of the bytes that may be believed; default: of the source.
        guess: bytes of the first read; a longer head costs a second one.
        aligned: refuse one that has moved away from a multiple of 64.

    Raises:
        FormatError: there is no such record.
    """
    if (aligned and offset % ALIGNMENT) or offset <= 0:
        raise FormatError("records start on multiples of 64", offset=offset)
    limit = source.size if end is None else end
    if offset >= limit:
        raise FormatError("the file ends where a record should start", offset=offset)
    data = source.read_at(offset, guess)
    prefix = Prefix.unpack(data, offset)
    if prefix.head_length > len(data):
        data += source.read_at(offset + len(data), prefix.head_length - len(data))
    record = Record(offset, prefix, data)
    if record.end > limit or len(data) < prefix.head_length:
        raise FormatError("the file ends within a record", offset=offset)
    if kind is not None and prefix.type != kind:
        raise FormatError(f"a {kind.name} was expected here", offset=offset)
    return record


def walk(source: Source, start: int, end: int) -> Iterator[Record]:
    """Every record from `start` up to `end`, by their lengths."""
    while start < end:
        record = read_record(source, start, end=end)
        yield record
        start = record.end


def payload_crc(source: Source, record: Record, crc: int = 0) -> int:
    """Go on with a crc32c over the payload of a record, in bounded memory."""
    length, done = record.prefix.payload_length, 0
    while done < length:
        piece = record.read(source, done, min(PIECE, length - done))
        crc = crc32c(piece, crc)
        done += len(piece)
    return crc


def check_transaction(source: Source, commit: Commit) -> None:
    """Read a whole transaction and compare it with its COMMIT.

    Raises:
        FormatError: a record is missing or too long.
        DamagedError: a checksum fails.
    """
    heads = payloads = 0
    for record in walk(source, commit.start, commit.offset):
        heads = crc32c(record.head, heads)
        payloads = payload_crc(source, record, payloads)
    for what, expected, actual in (
        ("the heads of a transaction", commit.heads_crc, heads),
        ("the payloads of a transaction", commit.payloads_crc, payloads),
    ):
        if expected != actual:
            raise DamagedError(what, offset=commit.start, expected=expected, actual=actual)


class Tail(NamedTuple):
    """What the end of a file says."""

    commit: Commit
    """The one that counts."""
    footer: Record | None
    """The FOOTER that directly follows it, if any."""
    sealed: bool
    """Whether that FOOTER ends the file."""
    valid_until: int
    """Bytes from here on are torn."""
    damage: FormatError | None = None
    """A later COMMIT that must have counted, and does not verify."""
    rejected: bool = False
    """Whether a later COMMIT verifies and its transaction does not."""


def find_tail(source: Source, uuid: bytes, size: int) -> Tail:
    """Find the last COMMIT of the file `uuid` that counts.

    Args:
        source: the file.
        uuid: from HEADER.
        size: of the file, as of the moment that is looked at.

    Raises:
        FormatError: there is none.
        DamagedError: a part that was surely committed does not verify.
    """
    footer = _find_footer(source, uuid, size)
    if footer is not None:
        return _sealed(source, footer, uuid, size)
    newest = find_commit(source, uuid, size)
    commit, damage = _counting(source, newest, uuid)
    footer = _footer_at(source, commit.end, uuid, size)
    end = commit.end if footer is None else footer.end
    return Tail(commit, footer, False, end, damage, commit != newest)


def _counting(
    source: Source, newest: Commit, uuid: bytes
) -> tuple[Commit, FormatError | None]:
    """The last COMMIT that counts in a file that no FOOTER ends, from the last one on.

    One whose transaction fails names another that counted when it was written. Between the
    two may stand a later one that counts: where nothing arrived, the disk may show what an
    earlier life of the file had written there, with a COMMIT at its own offset.
    """
    commit = torn = newest
    before = max(0, commit.start - EDGE)  # with the TABLE and COMMIT that may be needed
    expect(source, [(before, commit.end - before)])
    failure: FormatError | None = None
    for _ in range(MAX_TORN):
        try:
            check_transaction(source, commit)
        except FormatError as error:
            failure = failure or error
        else:
            return commit, None
        torn = max(torn, commit, key=lambda each: each.previous)
        try:
            commit = find_commit(source, uuid, commit.offset)
        except FormatError:
            break
        if commit.offset <= torn.previous:
            break
    if failure is not None and not torn.previous:
        raise failure
    return _before(source, torn, uuid)


def _sealed(source: Source, footer: Record, uuid: bytes, size: int) -> Tail:
    """The tail of a file that a FOOTER ends.

    Its COMMIT holds INDEX and SCALARS of what was committed before, so where it is damaged
    the one before shows as much.
    """
    place = footer.offset - COMMIT_SIZE
    try:
        return Tail(read_commit(source, place, uuid), footer, True, size)
    except FormatError as damage:
        return Tail(find_commit(source, uuid, place), None, True, size, damage)


def _before(
    source: Source, commit: Commit, uuid: bytes
) -> tuple[Commit, FormatError | None]:
    """The COMMIT before one that is torn; the one before that where it is damaged."""
    try:
        return read_commit(source, commit.previous, uuid), None
    except FormatError as damage:
        found = find_commit(source, uuid, commit.previous)
        while found.previous and found.commits > commit.commits - 2:
            found = find_commit(source, uuid, found.offset)  # in a part that is torn
        return found, damage


def read_commit(source: Source, offset: int, uuid: bytes) -> Commit:
    """The COMMIT at `offset`.

    Raises:
        FormatError: there is none, or it does not verify.
    """
    return Commit.unpack(source.read_at(offset, COMMIT_SIZE), offset, uuid)


def _find_footer(source: Source, uuid: bytes, size: int) -> Record | None:
    """The FOOTER that ends the file, in one read."""
    if size % ALIGNMENT:
        return None
    start = max(ALIGNMENT, size - SEALED_TAIL - ALIGNMENT)
    data = source.read_at(start, size - start)
    for place in candidates(data):
        record = _footer_in(data[place:], start + place, uuid, size)
        if record is not None and record.end == size:
            return record
    return None


def _footer_in(data: bytes, offset: int, uuid: bytes, size: int) -> Record | None:
    """The FOOTER that `data` starts with, if it is sound and stands where it says."""
    try:
        record = Record(offset, Prefix.unpack(data, offset), data)
        if record.prefix.type != RecordType.FOOTER or record.end > size:
            return None
        places = {"uuid": uuid, "offset": offset, "commit": offset - COMMIT_SIZE}
        good = all(record.map.get(key) == value for key, value in places.items())
    except FormatError:
        return None
    return record if good else None


def _footer_at(source: Source, offset: int, uuid: bytes, size: int) -> Record | None:
    data = source.read_at(offset, PREFIX_SIZE + MAP_LIMIT)
    return _footer_in(data, offset, uuid, size)


def candidates(data: bytes) -> list[int]:
    """Places on 64-byte boundaries where a record may start, from the last to the first."""
    lines = len(data) // ALIGNMENT
    words = np.frombuffer(data, "<u4", lines * (ALIGNMENT // 4)).reshape(lines, -1)[:, 0]
    return [int(i) * ALIGNMENT for i in np.flatnonzero(words == RECORD_MAGIC)[::-1]]


def find_commit(source: Source, uuid: bytes, size: int) -> Commit:
    """Search backwards for a COMMIT that verifies: the last 256 KiB, then doubling."""
    end = size // ALIGNMENT * ALIGNMENT
    reach = UNSEALED_TAIL
    while end > ALIGNMENT:
        start = max(ALIGNMENT, (size - reach) // ALIGNMENT * ALIGNMENT)
        for piece_end in range(end, start, -PIECE):
            piece = max(start, piece_end - PIECE)
            data = source.read_at(piece, piece_end - piece)
            for place in candidates(data):
                commit = _try_commit(source, piece + place, uuid)
                if commit is not None:
                    return commit
        end, reach = start, 2 * reach
    raise FormatError(
        "no COMMIT verifies: the file is damaged, or was cut short; "
        "`stepson recover IN OUT` saves what is sound"
    )


def _try_commit(source: Source, offset: int, uuid: bytes) -> Commit | None:
    try:
        return read_commit(source, offset, uuid)
    except FormatError:
        return None
