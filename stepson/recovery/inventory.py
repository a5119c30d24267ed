"""What there is in a file of which anything may be damaged: the first pass of `recover`.

Theory of operation. The chain of COMMITs is followed back from the last one that counts,
and over its breaks (`stepson.resync.before`). Then all is read once, from old to new:

- a transaction whose COMMIT is on the chain was committed: its records count, each by its
  own checksums;
- what stands in a break may have been committed or be torn. TABLEs and INDEXes behind it
  name the blocks that were committed; where none of them tells, a block counts unless a
  later one starts before its end, as the block of a run that was killed and repeated does;
- a block that TABLE or INDEX names, and that is not where it should be, is lost, and its
  entry says which steps; where none tells, the blocks around the hole do.

Nothing is decoded. Memory is about 200 bytes for each block.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from stepson.block import Block
from stepson.damage import Damage
from stepson.errors import FormatError
from stepson.findings import break_damage, chunk_damage, hole_damage
from stepson.index import Column, Entries, IndexRecord, roots_from_list
from stepson.records import MAGIC_SIZE, RecordType
from stepson.recovery.items import Item, in_order, without_torn_checkpoints
from stepson.recovery.salvage import Filler
from stepson.resync import Hole, Placed, bad_chunks, chain, is_whole, pieces
from stepson.scan import Record
from stepson.schema import Schema
from stepson.source import Source
from stepson.table import Table

__all__ = ["Inventory", "take_stock"]

Progress = Callable[[int], None]
START = {RecordType.HEADER, RecordType.SCHEMA, RecordType.METADATA}
MARKS = {RecordType.TABLE, RecordType.COMMIT, RecordType.FOOTER}


@dataclass
class _Doubt:
    """What was passed since something was missing, until a TABLE tells what it was."""

    since: int
    """Where it started, in offsets of before."""
    place: int
    seen: dict[int, int] = field(default_factory=dict)
    """Blocks by their offset: the number of the item."""
    moved: bool = False
    """Bytes were lost or added, more than once perhaps: blocks are known by their steps."""


@dataclass
class Inventory:
    """See the module."""

    source: Source
    schema: Schema
    filler: Filler
    items: list[Item] = field(default_factory=list)
    bad: dict[int, frozenset[int]] = field(default_factory=dict)
    """By the place of a block: numbers of its chunks that do not verify."""
    damages: list[Damage] = field(default_factory=list)
    checkpoints_lost: set[int] = field(default_factory=set)
    skipped: int = 0
    """Bytes without a sound head, in what was committed."""
    repeated: int = 0
    """Blocks of interrupted writes that were repeated later."""
    unknown: int = 0
    """Records of unknown or private types."""

    def __post_init__(self) -> None:
        self._doubt: _Doubt | None = None
        self._points: set[int] = set()
        self._claims: list[tuple[int, int, int]] = []
        self._hollow = -1
        self._shift = 0

    def transaction(self, this: Placed) -> None:
        """Take what belongs to a COMMIT of the chain."""
        start, self._shift = max(this.start, MAGIC_SIZE), this.shift
        self._hollow = -1
        for piece in pieces(self.source, start, this.place):
            self._take(piece, certain=True)
        if self._hollow >= 0:
            commit = this.commit
            self._claims.append((commit.first_step, commit.end_step, self._hollow))
        self.items.append(Item(this.place, "end"))

    def between(self, earlier: Placed | None, this: Placed) -> None:
        """Take what stands between two COMMITs, where the chain breaks or bytes moved.

        What belongs to the transaction of the second one counts as in `transaction`; but
        where bytes were lost or added within it, its start is not where it seems.
        """
        start, done, shift = MAGIC_SIZE, 0, 0
        if earlier is not None:
            start, done, shift = earlier.end, earlier.commit.end_step, earlier.shift
        self._claims.append((done, this.commit.end_step, start))
        self._doubt = self._doubt or _Doubt(start - shift, start)
        self._doubt.moved |= shift != this.shift
        self._shift = this.shift
        for piece in pieces(self.source, start, this.place, careful=True):
            certain = piece_start(piece) >= this.start
            self._take(piece, certain=certain, shifts={shift, this.shift})
        self.items.append(Item(this.place, "end"))

    def rest(self, start: int, stop: int, done: int) -> None:
        """Take what stands between the last COMMIT that is sound and a FOOTER.

        Args:
            start: behind the COMMIT.
            stop: of the file.
            done: end step as of the COMMIT.
        """
        self._doubt, self._shift = _Doubt(start, start), 0
        for piece in pieces(self.source, start, stop, careful=True):
            self._take(piece, certain=False)
            if isinstance(piece, Record) and piece.prefix.type == RecordType.FOOTER:
                self._claims.append((done, self._end_of(piece, done), start))

    def _end_of(self, footer: Record, done: int) -> int:
        """The end step that the roots in a FOOTER tell."""
        cadences = len(self.schema.cadences)
        try:
            roots = roots_from_list(footer.map.get("roots"), cadences, footer.offset)
        except FormatError:
            return done
        ends = [int(each.rows[-1][Column.END]) for each in roots if len(each)]
        return max(ends, default=done)

    def torn(self, start: int, stop: int) -> None:
        """Take the whole blocks of a part that was never committed."""
        for piece in pieces(self.source, start, stop, careful=True):
            if isinstance(piece, Hole) or piece.prefix.type != RecordType.BLOCK:
                continue
            if is_whole(self.source, piece):
                self._block(piece, certain=False)
        self.items.append(Item(stop, "end"))

    def _take(
        self, piece: Record | Hole, *, certain: bool, shifts: Iterable[int] = ()
    ) -> None:
        if isinstance(piece, Hole):
            self._hole(piece)
            return
        kind = piece.prefix.type
        if kind == RecordType.BLOCK:
            self._block(piece, certain, {self._shift, *shifts})
        elif kind == RecordType.CHECKPOINT:
            self._checkpoint(piece, certain)
        elif kind == RecordType.SCALARS:
            self._scalars(piece)
        elif kind in (RecordType.TABLE, RecordType.INDEX) and certain:
            self._learn(piece)  # those of a torn part would name what is torn
        elif kind == RecordType.NOTE:
            self.items.append(Item(piece.offset, "note"))
        elif kind not in START and kind not in MARKS:
            self.unknown += 1
        if kind in MARKS:
            self.items.append(Item(piece.offset, "end"))

    def _hole(self, hole: Hole) -> None:
        self.damages.append(hole_damage(hole))
        self.skipped += hole.end - hole.start
        self._doubt = self._doubt or _Doubt(hole.start - self._shift, hole.start)
        if hole.kind in (None, RecordType.BLOCK):
            self._hollow = hole.start

    def _block(self, record: Record, certain: bool, shifts: Iterable[int] = ()) -> None:
        """Take a block; `shifts` are how far it may have moved from where it was."""
        try:
            block = Block(record, self.schema)
            chunks = block.chunks
        except FormatError as error:
            self._hole(Hole(record.offset, record.end, RecordType.BLOCK, error))
            return
        place = record.offset
        bad = bad_chunks(self.source, record)
        if bad:
            self.bad[place] = frozenset(bad)
        found = (c for each in chunks.values() for c in each)
        numbered = {id(info): n for n, info in enumerate(record.map["chunks"])}
        for each in found:
            if numbered[id(each.info)] in bad:
                actual = bad[numbered[id(each.info)]]
                self.damages.append(chunk_damage(block, each.info, actual))
        if self._doubt is not None:
            self._doubt.seen |= {place - each: len(self.items) for each in shifts}
        self.items.append(Item(place, "block", block.first, block.end, certain))

    def _checkpoint(self, record: Record, certain: bool) -> None:
        step = record.map.get("step")
        if type(step) is int and is_whole(self.source, record):
            self._points.add(step)
            self.items.append(Item(record.offset, "checkpoint", step, step, certain))
            return
        known = step if type(step) is int else None
        what, size = "a checkpoint does not verify", record.prefix.length
        self.damages.append(Damage(what, record.offset, size, None, known, known))
        if type(step) is int:
            self.checkpoints_lost.add(step)

    def _scalars(self, record: Record) -> None:
        try:
            block = Block(record, self.schema)
        except FormatError as error:
            self._hole(Hole(record.offset, record.end, RecordType.SCALARS, error))
            return
        if not is_whole(self.source, record):
            what = "a copy of the small fields (SCALARS) does not verify"
            size = record.prefix.payload_length
            self.damages.append(Damage(what, record.payload, size))
        self.filler.add(block)

    def _learn(self, record: Record) -> None:
        """Where something was missing: what TABLE or INDEX says should have been there."""
        doubt = self._doubt
        if doubt is None:
            return
        cadences = len(self.schema.cadences)
        try:
            if record.prefix.type == RecordType.TABLE:
                entries = Table.from_map(record.map, self.schema, record.offset).entries
            else:
                index = IndexRecord.from_map(record.map, cadences, record.offset)
                entries = index.entries if index.level == 0 else Entries.of([], cadences)
        except FormatError:
            return
        for row in entries.rows:
            self._row(doubt, row)
        if len(entries):
            self._drop_torn(doubt, entries)
        if record.prefix.type == RecordType.TABLE:
            self._doubt = None

    def _row(self, doubt: _Doubt, row: Any) -> None:
        offset, point = int(row[Column.RECORD]), int(row[Column.CHECKPOINT])
        first, end = int(row[Column.FIRST]), int(row[Column.END])
        if doubt.moved and offset not in doubt.seen:
            self._recognise(doubt, offset, first, end)
        if offset >= doubt.since and offset not in doubt.seen:
            self.items.append(Item(doubt.place, "lost", first, end))
            self._name(offset + self._shift, first, end)
            doubt.seen[offset] = len(self.items) - 1
        elif offset in doubt.seen:
            number = doubt.seen[offset]
            self.items[number] = self.items[number]._replace(certain=True)
        step = int(row[Column.CHECKPOINT_STEP])
        if point >= doubt.since and step not in self._points:
            self.checkpoints_lost.add(step)

    def _recognise(self, doubt: _Doubt, offset: int, first: int, end: int) -> None:
        """Find a block that stands elsewhere by its steps."""
        for number in dict.fromkeys(doubt.seen.values()):
            item = self.items[number]
            if (item.kind, item.first, item.end) == ("block", first, end):
                doubt.seen[offset] = number
                return

    def _drop_torn(self, doubt: _Doubt, entries: Entries) -> None:
        """Blocks among those of a TABLE that it does not name were never committed."""
        named = set(entries.rows[:, Column.RECORD].tolist())
        low, high = min(named - {0}, default=0), max(named)
        spans = set(map(tuple, entries.rows[:, [Column.FIRST, Column.END]].tolist()))
        for offset, number in doubt.seen.items():
            if low <= offset <= high and offset not in named:
                item = self.items[number]
                twin = doubt.moved and (item.first, item.end) in spans
                if item.kind == "block" and not item.certain and not twin:
                    self.items[number] = item._replace(kind="torn")

    def _name(self, place: int, first: int, end: int) -> None:
        """Say which steps a hole took, or that a block is missing."""
        for number, each in enumerate(self.damages):
            if each.offset == place and each.first_step is None:
                named = replace(each, first_step=first, last_step=end - 1)
                self.damages[number] = named
                return
        self.damages.append(Damage("a block is lost", None, 0, None, first, end - 1))

    def settle(self) -> None:
        """Put everything in order, drop what was repeated, name holes nobody told of."""
        lost = [item for item in self.items if item.kind == "lost"]
        rest = [item for item in self.items if item.kind not in ("lost", "torn")]
        rest.sort(key=lambda each: each.place)
        kept, self.repeated = in_order(rest, self.bad)
        kept, dropped = without_torn_checkpoints(kept)
        self._points -= dropped
        blocks = [item for item in kept if item.kind == "block"]
        self.items = kept
        for item in lost:
            self._insert(blocks, item)
        self._name_holes(blocks)
        self.items.sort(key=lambda each: (each.place, each.first))
        self.checkpoints_lost -= self._points

    def _insert(self, blocks: list[Item], item: Item) -> None:
        """Put a lost block in front of the block that follows it in time."""
        number = bisect_left(blocks, item.end, key=lambda each: each.first)
        before = blocks[number - 1].end if number else 0
        known = any(
            each.kind == "lost" and each.first < item.end and item.first < each.end
            for each in self.items
        )
        if before <= item.first and not known:
            place = blocks[number].place - 1 if number < len(blocks) else self.source.size
            self.items.append(item._replace(place=place))

    def _name_holes(self, blocks: list[Item]) -> None:
        """Steps that the COMMITs around a hole speak of, neither here nor named lost."""
        lost = [item for item in self.items if item.kind == "lost"]
        known = sorted((item.first, item.end) for item in (*blocks, *lost))
        for first, end, hole in self._claims:
            number = bisect_left(known, first, key=lambda each: each[1])
            for a, b in [*known[number:], (end, end)]:
                if self._any_due(first, min(a, end)):
                    item = Item(hole, "lost", first, min(a, end))
                    self._insert(blocks, item)
                    self._name(hole, item.first, item.end)
                first = max(first, b)
                if first >= end:
                    break

    def _any_due(self, first: int, end: int) -> bool:
        """Whether a regular field has samples in ``[first, end)``, or any field may."""
        groups = self.schema.cadences
        regular = [each for each in groups if each.every is not None]
        if not regular:
            return first < end
        return any(first + (c.offset - first) % (c.every or 1) < end for c in regular)


def piece_start(piece: Record | Hole) -> int:
    """Where a record or a hole starts."""
    return piece.start if isinstance(piece, Hole) else piece.offset


def take_stock(
    source: Source,
    uuid: bytes,
    schema: Schema,
    last: Placed | None,
    *,
    rest: tuple[int, int] | None = None,
    torn: tuple[int, int] | None,
    progress: Progress,
) -> Inventory:
    """Read a whole file.

    Args:
        source: of the file.
        uuid: of the file.
        schema: of the file, or of one with the same fields.
        last: the COMMIT that counts; None: there is none.
        rest: a range behind it that was committed as well.
        torn: a range whose whole blocks are wanted, too.
        progress: called with the place that was reached.
    """
    found = Inventory(source, schema, Filler(source, schema))
    for this, earlier, error in () if last is None else chain(source, uuid, last):
        if error is not None or (earlier is not None and earlier.shift != this.shift):
            found.damages.append(break_damage(earlier, this, error))
            found.between(earlier, this)
        else:
            found.transaction(this)
        progress(this.end)
    if rest is not None and last is not None:
        found.rest(*rest, last.commit.end_step)
    if torn is not None:
        found.torn(*torn)
    found.settle()
    return found
