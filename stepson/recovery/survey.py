"""The first pass of `recover`: what there is in a file of which anything may be damaged.

Theory of operation. The chain of COMMITs is followed back from the last one that counts,
and over its breaks (`stepson.resync.before`). Then all is read once, from old to new:

- a transaction whose COMMIT is on the chain was committed: its records count, each by its
  own checksums (`taking`), unless the COMMIT tells that another record stood there
  (`judge`);
- what stands in a break may have been committed or be torn. TABLEs and INDEXes behind it
  name the blocks that were committed (`doubt`); where none of them tells, a block counts
  unless a later one starts before its end, as the block of a run that was killed and
  repeated does; what a COMMIT of another file follows is of that file;
- a block that TABLE or INDEX names, and that is not where it should be, is lost, and its
  entry says which steps; where none tells, the blocks around the hole do;
- in the end (`account.settle`) the blocks that count and those that are lost must account
  for the frames that each COMMIT counts.
"""

from collections.abc import Callable, Sequence

from stepson.damage import Damage
from stepson.errors import FormatError
from stepson.findings import break_damage
from stepson.index import Column, roots_from_list
from stepson.records import MAGIC_SIZE, Commit, RecordType
from stepson.recovery.account import settle
from stepson.recovery.inventory import Claim, Inventory
from stepson.recovery.items import Item
from stepson.recovery.judge import Foreign, Stranger, ahead, strays
from stepson.recovery.salvage import Filler
from stepson.recovery.taking import Taker
from stepson.resync import Hole, Placed, chain, is_whole, pieces
from stepson.scan import Record
from stepson.schema import Schema
from stepson.source import Source

__all__ = ["take_stock"]

Progress = Callable[[int], None]


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
    found = Inventory(schema, Filler(source, schema))
    survey = _Survey(source, uuid, found)
    for this, earlier, error in () if last is None else chain(source, uuid, last):
        if error is not None or (earlier is not None and earlier.shift != this.shift):
            found.damages.append(break_damage(earlier, this, error))
            survey.between(earlier, this)
        else:
            survey.transaction(this, earlier)
        progress(this.end)
    if rest is not None and last is not None:
        survey.rest(*rest, last.commit)
    if torn is not None:
        survey.torn(*torn, None if last is None else last.commit)
    settle(found)
    return found


class _Survey:
    """Goes through a file part by part, from old to new."""

    def __init__(self, source: Source, uuid: bytes, found: Inventory) -> None:
        self.source = source
        self.uuid = uuid
        self.found = found
        self.taker = Taker(source, found)

    def transaction(self, this: Placed, earlier: Placed | None) -> None:
        """Take what belongs to a COMMIT of the chain, and what stands directly before."""
        start = max(this.start, MAGIC_SIZE)
        self.taker.shift, self.taker.shifts = this.shift, {this.shift}
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
        doubt = self.taker.doubt_since(start - shift)
        doubt.moved |= shift != this.shift
        self.taker.shift, self.taker.shifts = this.shift, {shift, this.shift}
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
        self.taker = Taker(self.source, self.found)
        self.taker.doubt_since(start)
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
                self.taker.block(piece, certain=False)
        self.found.items.append(Item(stop, "end"))

    def _claim(self, first: int, end: int, frames: int, place: int) -> None:
        self.found.claims.append(Claim(first, end, frames, place))

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
            if _start(piece) >= certain:
                kept.append(piece)
                continue
            self._disown(stranger.since(piece))
            if stranger.here:
                continue
            self.taker.take(piece, certain=False)
            if isinstance(piece, Record) and piece.prefix.type == keep:
                kept.append(piece)
        return kept

    def _disown(self, other: Foreign | None) -> None:
        """What was taken since a place turns out to be of another file."""
        if other is None:
            return
        items, damages, first = self.found.items, self.found.damages, other.place
        for number in reversed(range(len(items))):
            item = items[number]
            if item.place < other.start or item.certain or item.place in self.found.bad:
                break  # what follows the head of a block of this file has overwritten it
            if item.kind == "block" and not other.may_hold(item.place, item.sequence):
                break  # it stands in front of what was overwritten
            items[number] = item._replace(kind="foreign")
            first = min(first, item.place)
        what = "records of another file stand here"
        if not damages or damages[-1].what != what:
            damages.append(Damage(what, first))

    def _own(self, found: Sequence[Record | Hole], this: Placed, since: int | None) -> None:
        """Take what stands where the transaction of a COMMIT on the chain was."""
        start = max(this.start, MAGIC_SIZE)
        whole = bool(found) and _start(found[0]) == start
        wrong = strays(self.source, found, this.commit, since, whole=whole)
        for number, piece in enumerate(found):
            if number in wrong and len(self.taker.shifts) > 1:
                self.taker.take(piece, certain=False)  # or the COMMIT has moved
            elif number in wrong and isinstance(piece, Record):
                self._stray(piece, this.commit, wrong[number])
            else:
                self.taker.take(piece, certain=True)
        self.found.items.append(Item(this.place, "end"))

    def _stray(self, record: Record, commit: Commit, due: int | None) -> None:
        """A sound record where another one was committed, whose number is due."""
        if due is not None:
            self.found.vacant[due] = commit.first_step, commit.end_step
        self.taker.stray(record)

    def _end_of(self, footer: Record, last: Commit) -> tuple[int, int]:
        """The end step and the frames that the roots in a FOOTER tell."""
        cadences = len(self.found.schema.cadences)
        try:
            roots = roots_from_list(footer.map.get("roots"), cadences, footer.offset)
        except FormatError:
            return last.end_step, last.frames
        rows = [each.rows[-1] for each in roots if len(each)]
        end = max((int(row[Column.END]) for row in rows), default=last.end_step)
        frames = max((int(row[Column.FRAMES]) for row in rows), default=last.frames)
        return end, frames


def _start(piece: Record | Hole) -> int:
    return piece.start if isinstance(piece, Hole) else piece.offset
