"""What there is in a file of which anything may be damaged: the first pass of `recover`.

Theory of operation. The chain of COMMITs is followed back from the last one that counts,
and over its breaks (`stepson.resync.before`). Then all is read once, from old to new:

- a transaction whose COMMIT is on the chain was committed: its records count, each by its
  own checksums, unless the COMMIT tells that another record stood there (`judge`);
- what stands in a break may have been committed or be torn. TABLEs and INDEXes behind it
  name the blocks that were committed; where none of them tells, a block counts unless a
  later one starts before its end, as the block of a run that was killed and repeated does;
  what a COMMIT of another file follows is of that file;
- a block that TABLE or INDEX names, and that is not where it should be, is lost, and its
  entry says which steps; where none tells, the blocks around the hole do;
- in the end (`settle`) the blocks that count and those that are lost must account for the
  frames that each COMMIT counts.

Nothing is decoded. Memory is about 300 bytes for each block.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from stepson.block import Block
from stepson.damage import Damage
from stepson.errors import FormatError
from stepson.findings import break_damage, chunk_damage, hole_damage
from stepson.index import Column, Entries, IndexRecord, roots_from_list
from stepson.records import MAGIC_SIZE, Commit, RecordType
from stepson.recovery.account import Claim, settle
from stepson.recovery.items import Item
from stepson.recovery.judge import Stranger, ahead, strays
from stepson.recovery.salvage import Filler, check_fit
from stepson.resync import Hole, Placed, bad_chunks, chain, is_whole, pieces
from stepson.scan import Record
from stepson.schema import Schema
from stepson.source import Source
from stepson.table import Table

__all__ = ["Inventory", "take_stock"]

Progress = Callable[[int], None]
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
    uuid: bytes
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
    unaccounted: int = 0
    """Frames that COMMITs count, neither here nor known to be lost."""
    claims: list[Claim] = field(default_factory=list)
    vacant: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Steps of transactions with a stray, by the number of the record that is missing."""
    points: set[int] = field(default_factory=set)
    """Steps of checkpoints that are here."""

    def __post_init__(self) -> None:
        self._doubt: _Doubt | None = None
        self._shifts: set[int] = {0}
        self._shift = 0

    def transaction(self, this: Placed, earlier: Placed | None) -> None:
        """Take what belongs to a COMMIT of the chain, and what stands directly before."""
        start = max(this.start, MAGIC_SIZE)
        self._shift, self._shifts = this.shift, {this.shift}
        since = None if earlier is None else earlier.commit.sequence
        self._own(list(pieces(self.source, start, this.place)), this, since)
        before = 0 if earlier is None else earlier.commit.frames
        commit = this.commit
        self._claim(commit.first_step, commit.end_step, commit.frames - before, start)

    def between(self, earlier: Placed | None, this: Placed) -> None:
        """Take what stands between two COMMITs, where the chain breaks or bytes moved.

        What belongs to the transaction of the second one counts as in `transaction`; but
        where bytes were lost or added within it, its start is not where it seems.
        """
        start, done, shift, before = MAGIC_SIZE, 0, 0, 0
        if earlier is not None:
            start, done, shift = earlier.end, earlier.commit.end_step, earlier.shift
            before = earlier.commit.frames
        self._doubt = self._doubt or _Doubt(start - shift, start)
        self._doubt.moved |= shift != this.shift
        self._shift, self._shifts = this.shift, {shift, this.shift}
        own = self._doubtful(start, this.place, this.start)
        self._own(own, this, None)
        self._claim(done, this.commit.end_step, this.commit.frames - before, start)

    def rest(self, start: int, stop: int, last: Commit) -> None:
        """Take what stands between the last COMMIT that is sound and a FOOTER.

        Args:
            start: behind the COMMIT.
            stop: of the file.
            last: the COMMIT.
        """
        self._doubt, self._shift, self._shifts = _Doubt(start, start), 0, {0}
        for piece in self._doubtful(start, stop, stop, RecordType.FOOTER):
            if isinstance(piece, Record):
                end, frames = self._end_of(piece, last)
                self._claim(last.end_step, end, frames - last.frames, start)

    def torn(self, start: int, stop: int, last: Commit | None) -> None:
        """Take the whole blocks of a part that was never committed.

        Only those whose numbers go on from that of the last COMMIT: what an earlier life of
        the disk, or a copy, has left there is of another file, or of other steps.
        """
        stranger = Stranger(self.source, self.uuid)
        number = None if last is None else last.sequence
        broken = last is None
        for piece in pieces(self.source, start, stop, careful=True):
            self._disown(stranger.since(piece))
            if isinstance(piece, Hole):
                broken = True
                continue
            step = 1 if number is None else ahead(piece.prefix.sequence, number)
            if step < 1 or (step > 1 and not broken):
                continue
            number = piece.prefix.sequence
            own = piece.prefix.type == RecordType.BLOCK and not stranger.here
            if own and is_whole(self.source, piece):
                self._block(piece, certain=False)
        self.items.append(Item(stop, "end"))

    def _claim(self, first: int, end: int, frames: int, place: int) -> None:
        self.claims.append(Claim(first, end, frames, place))

    def _doubtful(
        self, start: int, stop: int, certain: int, keep: int | None = None
    ) -> list[Record | Hole]:
        """Take what may have been committed; returns what starts at `certain` or behind.

        Args:
            start: of the range.
            stop: of the range.
            certain: where what was surely committed starts.
            keep: records of this type are returned, too.
        """
        stranger = Stranger(self.source, self.uuid)
        kept: list[Record | Hole] = []
        for piece in pieces(self.source, start, stop, careful=True):
            if piece_start(piece) >= certain:
                kept.append(piece)
                continue
            self._disown(stranger.since(piece))
            if stranger.here:
                continue
            self._take(piece, certain=False)
            if isinstance(piece, Record) and piece.prefix.type == keep:
                kept.append(piece)
        return kept

    def _disown(self, start: int | None) -> None:
        """What was taken since a place turns out to be of another file."""
        if start is None:
            return
        what = "records of another file stand here"
        if not self.damages or self.damages[-1].what != what:
            self.damages.append(Damage(what, start))
        for number in reversed(range(len(self.items))):
            item = self.items[number]
            if item.place < start or item.certain or item.place in self.bad:
                break  # what follows the head of a block of this file has overwritten it
            self.items[number] = item._replace(kind="foreign")

    def _own(self, found: Sequence[Record | Hole], this: Placed, since: int | None) -> None:
        """Take what stands where the transaction of a COMMIT on the chain was."""
        start = max(this.start, MAGIC_SIZE)
        whole = bool(found) and piece_start(found[0]) == start
        wrong = strays(self.source, found, this.commit, since, whole=whole)
        for number, piece in enumerate(found):
            if number in wrong and len(self._shifts) > 1:
                self._take(piece, certain=False)  # the COMMIT may be the one that moved
            elif number in wrong and isinstance(piece, Record):
                self._stray(piece, this, wrong[number])
            else:
                self._take(piece, certain=True)
        self.items.append(Item(this.place, "end"))

    def _stray(self, record: Record, this: Placed, due: int | None) -> None:
        """A sound record where another one was committed."""
        what, size = "a record that does not belong here", record.prefix.length
        self.damages.append(Damage(what, record.offset, size))
        place = record.offset
        self._doubt = self._doubt or _Doubt(place - self._shift, place)
        if due is not None:
            self.vacant[due] = this.commit.first_step, this.commit.end_step
        if record.prefix.type == RecordType.BLOCK:
            self._block(record, certain=False, stray=True)

    def _end_of(self, footer: Record, last: Commit) -> tuple[int, int]:
        """The end step and the frames that the roots in a FOOTER tell."""
        cadences = len(self.schema.cadences)
        try:
            roots = roots_from_list(footer.map.get("roots"), cadences, footer.offset)
        except FormatError:
            return last.end_step, last.frames
        rows = [each.rows[-1] for each in roots if len(each)]
        end = max((int(row[Column.END]) for row in rows), default=last.end_step)
        frames = max((int(row[Column.FRAMES]) for row in rows), default=last.frames)
        return end, frames

    def _take(self, piece: Record | Hole, *, certain: bool) -> None:
        if isinstance(piece, Hole):
            self._hole(piece)
            return
        kind = piece.prefix.type
        if kind == RecordType.BLOCK:
            self._block(piece, certain)
        elif kind == RecordType.CHECKPOINT:
            self._checkpoint(piece, certain)
        elif kind == RecordType.SCALARS:
            self._scalars(piece, certain)
        elif kind in (RecordType.TABLE, RecordType.INDEX) and certain:
            self._learn(piece)  # those of a torn part would name what is torn
        elif kind == RecordType.NOTE:
            self.items.append(Item(piece.offset, "note", certain=certain))
        if kind in MARKS:
            self.items.append(Item(piece.offset, "end", certain=certain))

    def _hole(self, hole: Hole) -> None:
        self.damages.append(hole_damage(hole))
        self.skipped += hole.end - hole.start
        self._doubt = self._doubt or _Doubt(hole.start - self._shift, hole.start)

    def _block(self, record: Record, certain: bool, *, stray: bool = False) -> None:
        try:
            block = Block(record, self.schema)
            check_fit(block)
        except FormatError as error:
            self._hole(Hole(record.offset, record.end, RecordType.BLOCK, error))
            return
        place = record.offset
        bad = bad_chunks(self.source, record)
        if bad:
            self.bad[place] = frozenset(bad)
        found = (c for each in block.chunks.values() for c in each)
        numbered = {id(info): n for n, info in enumerate(record.map["chunks"])}
        for each in found:
            if numbered[id(each.info)] in bad:
                actual = bad[numbered[id(each.info)]]
                self.damages.append(chunk_damage(block, each.info, actual))
        if self._doubt is not None and not stray:
            self._doubt.seen |= {place - each: len(self.items) for each in self._shifts}
        kind, number = "stray" if stray else "block", record.prefix.sequence
        steps = block.first, block.end
        self.items.append(Item(place, kind, *steps, certain, block.frames, number))

    def _checkpoint(self, record: Record, certain: bool) -> None:
        step = record.map.get("step")
        if type(step) is int and is_whole(self.source, record):
            self.points.add(step)
            self.items.append(Item(record.offset, "checkpoint", step, step, certain))
            return
        known = step if type(step) is int else None
        what, size = "a checkpoint does not verify", record.prefix.length
        self.damages.append(Damage(what, record.offset, size, None, known, known))
        if type(step) is int:
            self.checkpoints_lost.add(step)

    def _scalars(self, record: Record, certain: bool) -> None:
        try:
            block = Block(record, self.schema)
        except FormatError as error:
            self._hole(Hole(record.offset, record.end, RecordType.SCALARS, error))
            return
        if not is_whole(self.source, record):
            what = "a copy of the small fields (SCALARS) does not verify"
            size = record.prefix.payload_length
            self.damages.append(Damage(what, record.payload, size))
        place = record.offset
        self.items.append(Item(place, "scalars", block.first, block.end, certain))

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
        number = doubt.seen.get(offset)
        if number is not None:
            item = self.items[number]
            if (item.kind, item.first, item.end) == ("block", first, end):
                self.items[number] = item._replace(certain=True)
            elif item.kind == "block" and offset:
                self.items[number] = item._replace(kind="stray")
                number = None
        if offset and number is None and (offset >= doubt.since or offset in doubt.seen):
            self.items.append(Item(offset + self._shift, "lost", first, end))
            doubt.seen[offset] = len(self.items) - 1
        step = int(row[Column.CHECKPOINT_STEP])
        if point >= doubt.since and step not in self.points:
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
    found = Inventory(source, uuid, schema, Filler(source, schema))
    for this, earlier, error in () if last is None else chain(source, uuid, last):
        if error is not None or (earlier is not None and earlier.shift != this.shift):
            found.damages.append(break_damage(earlier, this, error))
            found.between(earlier, this)
        else:
            found.transaction(this, earlier)
        progress(this.end)
    if rest is not None and last is not None:
        found.rest(*rest, last.commit)
    if torn is not None:
        found.torn(*torn, None if last is None else last.commit)
    settle(found)
    return found
