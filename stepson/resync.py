"""Records and COMMITs where the file no longer says where they are.

Records follow one another by their lengths. Where a head is damaged, or bytes were lost or
added, the next one is searched by its first four bytes at any byte, and believed when its
checksums are right. A COMMIT carries its own offset, so where it stands elsewhere, the
difference says by how much everything around it has moved.
"""

from array import array
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from crc32c import crc32c

from stepson.errors import FormatError
from stepson.records import (
    COMMIT_SIZE,
    MAGIC_SIZE,
    PREFIX_SIZE,
    RECORD_MAGIC,
    Commit,
    Prefix,
    RecordType,
)
from stepson.scan import PIECE, Record, payload_crc, read_record
from stepson.source import Source, expect

__all__ = [
    "Hole",
    "Placed",
    "bad_chunks",
    "before",
    "chain",
    "chain_back",
    "commits_before",
    "is_whole",
    "pieces",
    "placed_at",
    "sound_transaction",
]

SIGN = RECORD_MAGIC.to_bytes(4, "little")
NEAR = 2**23
"""What `chain_back` asks for at a time, half of it beforehand, is twice as much."""


class Hole(NamedTuple):
    """Bytes that are no record, or one whose head does not verify."""

    start: int
    end: int
    kind: int | None
    """Type of the record, where its prefix is sound and its map is not."""
    error: FormatError
    """What is wrong at `start`."""


def pieces(
    source: Source, start: int, end: int, *, careful: bool = False
) -> Iterator[Record | Hole]:
    """Everything between two places, in order: records with sound heads, and holes.

    Args:
        source: of the file.
        start: of the first record.
        end: behind the last one.
        careful: look for other records inside of one whose payload is damaged: a write that
            was interrupted left its length, and what follows stands within it.
    """
    last: Record | None = None
    start = max(start, 0)  # a COMMIT may lie about it
    while start < end:
        found = _piece(source, start, end)
        if isinstance(found, Hole) and found.kind is None and last is not None:
            # Its length may be wrong here: what follows it may stand within it.
            inner = _inside(source, last, end)
            last = None
            if inner < start:
                start = inner
                continue
        yield found
        start, last = found.end, found if isinstance(found, Record) else None
        if careful and last is not None:
            start, last = _inside(source, last, end), None


def _inside(source: Source, record: Record, end: int) -> int:
    """Where the next record starts: within one whose payload is damaged, or behind it.

    Bytes may be missing in its padding, too.
    """
    used = record.prefix.payload_length if is_whole(source, record) else 0
    return _next_record(source, record.payload + used, min(record.end, end), end)


def _piece(source: Source, start: int, end: int) -> Record | Hole:
    kind = None
    try:
        record = read_record(source, start, end=end, aligned=False)
        kind = record.prefix.type
        if record.map is not None:
            return record
    except FormatError as error:
        stop = end if kind is None else record.end
        stop = _next_record(source, start + 1, stop, end)
        return Hole(start, stop, kind, error)
    raise AssertionError


def _next_record(source: Source, start: int, stop: int, end: int) -> int:
    """Where the first record with a sound head starts; `stop` where there is none.

    Args:
        source: of the file.
        start: of the search.
        stop: of the search.
        end: which no record may pass.
    """
    while start < stop:
        length = min(PIECE, stop - start)
        data = source.read_at(start, length + len(SIGN) - 1)
        place = data.find(SIGN)
        while place >= 0:
            if _is_record(source, start + place, end):
                return start + place
            place = data.find(SIGN, place + 1)
        start += length
    return stop


def _is_record(source: Source, place: int, end: int) -> bool:
    try:
        record = read_record(source, place, end=end, aligned=False)
        return record.map is not None
    except FormatError:
        return False


def is_whole(source: Source, record: Record) -> bool:
    """Whether every chunk of a record verifies, and a COMMIT itself."""
    if record.prefix.type == RecordType.COMMIT:
        try:
            placed_at(source, record.offset, None)
        except FormatError:
            return False
    return not bad_chunks(source, record)


def bad_chunks(source: Source, record: Record) -> dict[int, int | None]:
    """The chunks of a record that do not verify, by their number in its map.

    Returns:
        for each the checksum that its bytes have; None where they cannot be read.
    """
    found: dict[int, int | None] = {}
    chunks = record.map.get("chunks")
    for number, each in enumerate(chunks if isinstance(chunks, list) else ()):
        try:
            actual = crc32c(record.read(source, each["offset"], each["size"]))
            if actual != each["crc32c"]:
                found[number] = actual
        except (FormatError, TypeError, KeyError):
            found[number] = None
    return found


class Placed(NamedTuple):
    """A COMMIT, and where it stands."""

    commit: Commit
    place: int

    @property
    def shift(self) -> int:
        """Bytes by which it has moved."""
        return self.place - self.commit.offset

    @property
    def start(self) -> int:
        """Where its transaction starts now."""
        return self.commit.start + self.shift

    @property
    def before(self) -> int:
        """Where the COMMIT before it should stand now."""
        return self.commit.previous + self.shift

    @property
    def end(self) -> int:
        """Where the next record starts now."""
        return self.place + COMMIT_SIZE


class Link(NamedTuple):
    """A COMMIT of the chain."""

    this: Placed
    earlier: Placed | None
    """The one before it; None: there is none."""
    error: FormatError | None
    """What is wrong between them."""


def placed_at(source: Source, place: int, uuid: bytes | None) -> Placed:
    """The COMMIT at a place, wherever it stood when it was written.

    Args:
        source: of the file.
        place: where it is now.
        uuid: of the file; None: any.

    Raises:
        FormatError: there is none.
    """
    data = source.read_at(place, COMMIT_SIZE) if place >= 0 else b""
    prefix = Prefix.unpack(data, place)
    if prefix.type != RecordType.COMMIT or len(data) < COMMIT_SIZE:
        raise FormatError("no COMMIT starts here", offset=place)
    offset = int.from_bytes(data[PREFIX_SIZE + 16 : PREFIX_SIZE + 24], "little")
    own = data[PREFIX_SIZE : PREFIX_SIZE + 16] if uuid is None else uuid
    return Placed(Commit.unpack(data, offset, own), place)


def commits_before(source: Source, end: int, uuid: bytes | None) -> Iterator[Placed]:
    """All COMMITs that end at `end` or before, from the last to the first."""
    overlap = len(SIGN) - 1
    end = min(end, source.size)
    while end > 0:
        start = max(0, end - PIECE)
        data = source.read_at(start, end - start)
        place = data.rfind(SIGN)
        while place >= 0:
            try:
                if start + place + COMMIT_SIZE <= source.size:
                    yield placed_at(source, start + place, uuid)
            except FormatError:
                pass
            place = data.rfind(SIGN, 0, place + overlap)
        if start == 0:
            return
        end = start + overlap


def before(
    source: Source, uuid: bytes, this: Placed
) -> tuple[Placed | None, FormatError | None]:
    """The COMMIT before one: where it says, else the next that can have been on the chain.

    A whole COMMIT may stand in a part that is torn. Its number is that of the damaged one
    that replaced it, or higher, so only one with a lower number is taken.

    Returns:
        it, or None where the chain starts; and what is wrong with the chain here.
    """
    commit, error = this.commit, None
    if commit.previous == 0:
        return None, None
    for shift in dict.fromkeys((this.shift, 0)):
        try:
            found = placed_at(source, commit.previous + shift, uuid)
            if found.commit.digest == commit.chain:
                return found, None
            raise FormatError("a COMMIT is not the one before", offset=found.place)
        except FormatError as wrong:
            error = error or wrong
    moved: Placed | None = None
    for found in commits_before(source, this.place, uuid):
        if found.commit.digest == commit.chain:
            return found, None
        number = found.commit.commits
        if number >= commit.commits - 1:
            continue
        if moved is None:
            if found.shift in (0, this.shift):
                return found, error
            moved = found  # a copy of older records, where a higher number stands before it
        elif found.shift != moved.shift:
            # the same one in its own place is no copy
            at_home = found.shift in (0, this.shift) and number == moved.commit.commits
            return (found if at_home or number > moved.commit.commits else moved), error
    return moved, error


def sound_transaction(source: Source, this: Placed) -> bool:
    """Whether heads and payloads of a transaction are those that its COMMIT vouches for."""
    if this.shift == 0:
        heads = payloads = 0
        for piece in pieces(source, this.start, this.place):
            if isinstance(piece, Hole):
                return False
            heads = crc32c(piece.head, heads)
            payloads = payload_crc(source, piece, payloads)
        return (heads, payloads) == (this.commit.heads_crc, this.commit.payloads_crc)
    moved = replace(this.commit, start=this.start, offset=this.place)
    return sound_transaction(source, Placed(moved, this.place))


def chain_back(
    source: Source, uuid: bytes, last: Placed, *, whole: bool = True
) -> Iterator[Link]:
    """The COMMITs from new to old.

    Over a slow link what stands in front of them is on its way before it is asked for, in
    large pieces, so the number of requests follows from the size of the file and not from
    the number of its COMMITs.

    Args:
        source: of the file.
        uuid: of the file.
        last: where to start.
        whole: all that the COMMITs vouch for will be read as well.

    Yields:
        each one, the one before it (None: there is none), and what is wrong between them.
    """
    this: Placed | None = last
    low = last.end
    while this is not None:
        start = max(this.start, 0)
        if low > start - NEAR and (whole or this.end - start < NEAR):
            begin = max(0, start - 2 * NEAR)
            expect(source, [(begin, low - begin)])
            low = begin
        earlier, error = before(source, uuid, this)
        yield Link(this, earlier, error)
        this = earlier


def chain(source: Source, uuid: bytes, last: Placed) -> Iterator[Link]:
    """The COMMITs from old to new; memory is 9 bytes for each.

    Over a slow link what stands behind them is on its way before it is asked for.

    Yields:
        as `chain_back`.
    """
    places = array("q")
    wrong: dict[int, FormatError] = {}
    for this, _, error in chain_back(source, uuid, last, whole=False):
        places.append(this.place)
        if error is not None:
            wrong[this.place] = error
    earlier, high = None, 0
    for place in reversed(places):
        start, end = max(high, MAGIC_SIZE), place + COMMIT_SIZE
        if end + NEAR > high and end - start < NEAR:
            high = end + 2 * NEAR
            expect(source, [(start, high - start)])
        high = max(high, end)
        this = placed_at(source, place, uuid)
        yield Link(this, earlier, wrong.get(place))
        earlier = this
