"""One record after the other into an inventory, each as far as its own checksums go."""

from stepson.block import Block
from stepson.damage import Damage
from stepson.errors import UNREADABLE, FormatError
from stepson.findings import chunk_damage, hole_damage
from stepson.index import Entries, IndexRecord
from stepson.records import RecordType
from stepson.recovery.doubt import Doubt
from stepson.recovery.inventory import Inventory
from stepson.recovery.items import Item
from stepson.recovery.salvage import check_fit
from stepson.resync import Hole, bad_chunks, is_whole
from stepson.scan import Record
from stepson.source import Source
from stepson.table import Table

__all__ = ["Taker"]

MARKS = {RecordType.TABLE, RecordType.COMMIT, RecordType.FOOTER}


class Taker:
    """Takes records; keeps in mind what was missing in front of them.

    Args:
        source: of the file.
        found: where they go to.
    """

    def __init__(self, source: Source, found: Inventory) -> None:
        self.found = found
        self.doubt: Doubt | None = None
        self.shift = 0
        """Bytes by which what is taken has moved, as the COMMIT behind it has."""
        self.shifts = {0}
        """Bytes by which it may have moved."""
        self._source = source

    def doubt_since(self, offset: int) -> Doubt:
        """Something is missing from an offset on, or was in front of it already."""
        self.doubt = self.doubt or Doubt(self.found, offset)
        return self.doubt

    def take(self, piece: Record | Hole, *, certain: bool) -> None:
        """Take what starts at some place, whatever it is.

        Args:
            piece: the record, or what stands where one should start.
            certain: whether it was surely committed.
        """
        if isinstance(piece, Hole):
            self._hole(piece)
            return
        kind = piece.prefix.type
        if kind == RecordType.BLOCK:
            self.block(piece, certain=certain)
        elif kind == RecordType.CHECKPOINT:
            self._checkpoint(piece, certain)
        elif kind == RecordType.SCALARS:
            self._scalars(piece, certain)
        elif kind in (RecordType.TABLE, RecordType.INDEX) and certain:
            self._learn(piece)  # those of a torn part would name what is torn
        elif kind == RecordType.NOTE:
            self.found.items.append(Item(piece.offset, "note", certain=certain))
        if kind in MARKS:
            self.found.items.append(Item(piece.offset, "end", certain=certain))

    def stray(self, record: Record) -> None:
        """Take a sound record that stands where another one was committed."""
        place = record.offset
        self._damaged("a record that does not belong here", place, record.prefix.length)
        self.doubt_since(place - self.shift)
        if record.prefix.type == RecordType.BLOCK:
            self.block(record, certain=False, stray=True)

    def block(self, record: Record, *, certain: bool, stray: bool = False) -> None:
        """Take a BLOCK, and note which of its chunks do not verify."""
        block = self._opened(record)
        if block is None:
            return
        place = record.offset
        bad = bad_chunks(self._source, record)
        if bad or not self._has_steps(block):
            self.found.bad[place] = frozenset(bad)
        for number, actual in bad.items():
            info = record.map["chunks"][number]
            self.found.damages.append(chunk_damage(block, info, actual))
        if self.doubt is not None and not stray:
            self.doubt.passed(place, self.shifts)
        kind, number = "stray" if stray else "block", record.prefix.sequence
        steps = block.first, block.end
        self.found.items.append(Item(place, kind, *steps, certain, block.frames, number))

    def _has_steps(self, block: Block) -> bool:
        """Whether the steps of a block whose chunks are sound can be had: or it is lost."""
        try:
            for cadence in range(len(block.samples)):
                block.steps(self._source, cadence)
        except UNREADABLE as error:
            place, steps = block.record.offset, (block.first, block.end - 1)
            size = block.record.prefix.length
            what = f"steps of a block cannot be read: {error}"
            self.found.damages.append(Damage(what, place, size, None, *steps))
            return False
        return True

    def _opened(self, record: Record) -> Block | None:
        """A BLOCK or SCALARS; where its map is not valid it is a hole."""
        kind = record.prefix.type
        try:
            block = Block(record, self.found.schema)
            if kind == RecordType.BLOCK:
                check_fit(block)
        except FormatError as error:
            self._hole(Hole(record.offset, record.end, kind, error))
            return None
        return block

    def _hole(self, hole: Hole) -> None:
        self.found.damages.append(hole_damage(hole))
        self.found.skipped += hole.end - hole.start
        self.doubt_since(hole.start - self.shift)

    def _checkpoint(self, record: Record, certain: bool) -> None:
        found, place, step = self.found, record.offset, record.map.get("step")
        known = step if type(step) is int else None
        if known is not None and is_whole(self._source, record):
            found.points.add(known)
            found.items.append(Item(place, "checkpoint", known, known, certain))
            return
        what, size = "a checkpoint does not verify", record.prefix.length
        found.damages.append(Damage(what, place, size, None, known, known))
        if known is not None:
            found.checkpoints_lost.add(known)

    def _scalars(self, record: Record, certain: bool) -> None:
        block = self._opened(record)
        if block is None:
            return
        if not is_whole(self._source, record):
            what = "a copy of the small fields (SCALARS) does not verify"
            self._damaged(what, record.payload, record.prefix.payload_length)
        steps = block.first, block.end
        self.found.items.append(Item(record.offset, "scalars", *steps, certain))

    def _learn(self, record: Record) -> None:
        """Where something was missing: what TABLE or INDEX says should have been there."""
        if self.doubt is None:
            return
        try:
            entries = self._entries(record)
        except FormatError:
            return
        self.doubt.learn(entries, self.shift)
        if record.prefix.type == RecordType.TABLE:
            self.doubt = None

    def _entries(self, record: Record) -> Entries:
        """The blocks that TABLE or INDEX names."""
        schema, place = self.found.schema, record.offset
        if record.prefix.type == RecordType.TABLE:
            return Table.from_map(record.map, schema, place).entries
        cadences = len(schema.cadences)
        index = IndexRecord.from_map(record.map, cadences, place)
        return index.entries if index.level == 0 else Entries.of([], cadences)

    def _damaged(self, what: str, place: int, size: int) -> None:
        self.found.damages.append(Damage(what, place, size))
