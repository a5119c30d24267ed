"""What TABLE and INDEX tell of the blocks in front of them, where something was missing.

They name the blocks that were committed, by offset and steps. One that was passed and is
named is certain; one that is named and was not passed is lost; one that was passed among
those of a TABLE, and is not named, was never committed.
"""

from typing import Any

from stepson.index import Column, Entries
from stepson.recovery.inventory import Inventory
from stepson.recovery.items import Item

__all__ = ["Doubt"]


class Doubt:
    """What was passed since something was missing, until a TABLE tells what it was.

    Args:
        found: what was taken so far.
        since: where it started, in offsets of before.
    """

    def __init__(self, found: Inventory, since: int) -> None:
        self.moved = False
        """Bytes were lost or added, more than once perhaps: blocks are known by their
        steps."""
        self._found = found
        self._since = since
        self._seen: dict[int, int] = {}
        """Blocks by their offset: the number of the item."""

    def passed(self, place: int, shifts: set[int]) -> None:
        """The next item is a block at a place, moved by one of some numbers of bytes."""
        self._seen |= {place - each: len(self._found.items) for each in shifts}

    def learn(self, entries: Entries, shift: int) -> None:
        """Settle what some entries tell of.

        Args:
            entries: of a TABLE, or an INDEX of level 0.
            shift: bytes by which what they name has moved.
        """
        for row in entries.rows:
            self._row(row, shift)
        if len(entries):
            self._drop_torn(entries)

    def _row(self, row: Any, shift: int) -> None:
        offset, point = int(row[Column.RECORD]), int(row[Column.CHECKPOINT])
        first, end = int(row[Column.FIRST]), int(row[Column.END])
        if self.moved and offset not in self._seen:
            self._recognise(offset, first, end)
        items, number = self._found.items, self._seen.get(offset)
        if number is not None:
            item = items[number]
            if (item.kind, item.first, item.end) == ("block", first, end):
                items[number] = item._replace(certain=True)
            elif item.kind == "block" and offset:
                items[number] = item._replace(kind="stray")
                number = None
        if offset and number is None and (offset >= self._since or offset in self._seen):
            self._seen[offset] = len(items)
            items.append(Item(offset + shift, "lost", first, end))
        step = int(row[Column.CHECKPOINT_STEP])
        if point >= self._since and step not in self._found.points:
            self._found.checkpoints_lost.add(step)

    def _recognise(self, offset: int, first: int, end: int) -> None:
        """Find a block that stands elsewhere by its steps."""
        for number in dict.fromkeys(self._seen.values()):
            item = self._found.items[number]
            if (item.kind, item.first, item.end) == ("block", first, end):
                self._seen[offset] = number
                return

    def _drop_torn(self, entries: Entries) -> None:
        """Blocks among those of a TABLE that it does not name were never committed."""
        named = set(entries.rows[:, Column.RECORD].tolist())
        low, high = min(named - {0}, default=0), max(named)
        spans = set(map(tuple, entries.rows[:, [Column.FIRST, Column.END]].tolist()))
        for offset, number in self._seen.items():
            if low <= offset <= high and offset not in named:
                item = self._found.items[number]
                twin = self.moved and (item.first, item.end) in spans
                if item.kind == "block" and not item.certain and not twin:
                    self._found.items[number] = item._replace(kind="torn")
