"""Whether sound records are those that a COMMIT vouches for.

A record proves by its checksums that it is whole, not that it belongs here: a copy, a
misdirected write or a mixed-up sector may have put one of another place or of another file
where it stands, even at the offset at which a replica of the run has its own. The COMMIT
has a checksum over the heads of its transaction, and these hold those of the chunks, so
where it fits, every chunk can be judged alone. Where it does not, the number that each
record has in its file tells which one is wrong; where that fits too, as in a replica, all
that have a payload are refused.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from crc32c import crc32c

from stepson.errors import FormatError
from stepson.records import ALIGNMENT, Commit, RecordType
from stepson.resync import Hole, placed_at
from stepson.scan import Record, payload_crc
from stepson.source import Source

__all__ = ["Foreign", "Stranger", "ahead", "strays"]

MODULUS = 2**32
CONTENT = {RecordType.BLOCK, RecordType.CHECKPOINT, RecordType.SCALARS}


def ahead(sequence: int, of: int) -> int:
    """By how much one number of a record is above another; negative where it is below."""
    return (sequence - of + MODULUS // 2) % MODULUS - MODULUS // 2


def strays(
    source: Source,
    found: Sequence[Record | Hole],
    commit: Commit,
    since: int | None,
    *,
    whole: bool,
) -> dict[int, int | None]:
    """Which of the records of a transaction are not those that were committed.

    Where a head is damaged, the checksum over all heads proves nothing, and records are
    taken whose numbers fit.

    Args:
        source: of the file.
        found: what stands where the transaction was.
        commit: of the transaction.
        since: number of the COMMIT in front of it, if that stands there.
        whole: whether `found` starts where the transaction does.

    Returns:
        places in `found`, with the number that the record there should have, if known.
    """
    holes = [i for i, each in enumerate(found) if isinstance(each, Hole)]
    heads = 0
    for each in found:
        heads = heads if isinstance(each, Hole) else crc32c(each.head, heads)
    if not holes and heads == commit.heads_crc:
        return {}
    wrong = _misnumbered(found, commit.sequence, since if whole else None)
    if wrong or holes or not whole:
        return wrong
    payloads = 0
    for each in found:
        payloads = 0 if isinstance(each, Hole) else payload_crc(source, each, payloads)
    if payloads == commit.payloads_crc:
        return {}  # what was replaced has no payload
    return {
        i: None
        for i, each in enumerate(found)
        if isinstance(each, Record) and each.prefix.type in CONTENT
    }


def _misnumbered(
    found: Sequence[Record | Hole], sequence: int, since: int | None
) -> dict[int, int | None]:
    """Records whose number is not that of their place, counted from the COMMIT back."""
    numbers = [None if isinstance(e, Hole) else e.prefix.sequence for e in found]
    wrong: dict[int, int | None] = {}
    due: int | None = (sequence - 1) % MODULUS
    least, limit, room = since, sequence, 0
    for i in reversed(range(len(found))):
        number, piece = numbers[i], found[i]
        if isinstance(piece, Hole) or number is None:
            due = None  # as many records may have stood in a hole as there is room for
            room += (piece.end - _start(piece)) // ALIGNMENT
            continue
        inside = 0 < ahead(limit, number) <= room + 1
        inside &= least is None or ahead(number, least) > 0
        if (due is None and inside) or number == due:
            due, limit, room = (number - 1) % MODULUS, number, 0
            continue
        wrong[i] = due
        room += (piece.end - piece.offset) // ALIGNMENT
        if due is not None and due not in numbers[:i]:
            due = (due - 1) % MODULUS  # it stands in place of another one
    return wrong


def _start(piece: Record | Hole) -> int:
    return piece.start if isinstance(piece, Hole) else piece.offset


class Foreign(NamedTuple):
    """Where records of another file stand."""

    start: int
    """Of the transaction that a COMMIT of it ends, or of a record that follows one."""
    place: int
    """Of the COMMIT, or of the record."""
    sequence: int
    """Its number."""

    def may_hold(self, place: int, sequence: int) -> bool:
        """Whether a record in front of the COMMIT can be of its transaction.

        Numbers ascend by one from record to record, and each has its 64 bytes at least.
        """
        if place < self.start:
            return False
        below = ahead(self.sequence, sequence)
        return place >= self.place or 0 < below <= (self.place - place) // ALIGNMENT


class Stranger:
    """Tells records of another file, in what no COMMIT of this one vouches for.

    Args:
        source: of the file.
        uuid: of the file.
    """

    def __init__(self, source: Source, uuid: bytes) -> None:
        self._source = source
        self._uuid = uuid
        self.here = False
        """Whether the records that come now are of another file."""

    def since(self, piece: Record | Hole) -> Foreign | None:
        """Go on by one record; where records of another file started, if that shows now."""
        if isinstance(piece, Hole):
            self.here = False
            return None
        if piece.prefix.type == RecordType.HEADER:
            self.here = piece.map.get("uuid") != self._uuid
        place, number = piece.offset, piece.prefix.sequence
        start = place
        if piece.prefix.type == RecordType.COMMIT:
            with suppress(FormatError):
                found = placed_at(self._source, place, None)
                self.here = found.commit.uuid != self._uuid
                start = found.start
        return Foreign(start, place, number) if self.here else None
