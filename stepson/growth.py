"""The index of a file while it grows: which entries wait, and when they move into an INDEX.

Counterpart of `stepson.index.Tree`: there the look-ups, here the account that a writer
keeps. Entries of new blocks wait in the TABLE; 256 of them, or 64 MiB of small fields, move
into an INDEX of level 0; 256 INDEXes of a level into one of the next. Nothing here touches
a file.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from stepson.index import FAN_OUT, Column, Entries, IndexRecord, Row, origin
from stepson.schema import Schema

__all__ = ["Growth"]

SCALARS_RAW = 2**26
STEP_BYTES = 8


class Growth:
    """Entries and roots as of the last commit, and those of the transaction at work.

    Args:
        schema: of the file.
        table: entries that wait.
        roots: INDEXes that no higher one covers, by level.
    """

    def __init__(self, schema: Schema, table: Entries, roots: Sequence[Entries]) -> None:
        self._cadences = len(schema.cadences)
        self._small = [
            sum(field.sample_bytes(0) for field in group.fields if field.small)
            for group in schema.cadences
        ]
        self.waiting: list[Row] = list(table.rows)
        self.roots: list[list[Row]] = [list(each.rows) for each in roots]
        self.new: list[Row] = []
        """Of the transaction at work."""
        self.last = self._latest()
        """Totals at the end of the file."""

    def _latest(self) -> Row:
        newest = [rows[-1] for rows in (self.waiting, *self.roots) if len(rows)]
        return newest[0] if newest else origin(self._cadences)

    def _next(self) -> Row:
        """A new entry that adds nothing yet."""
        row = self.last.copy()
        row[[Column.RECORD, Column.COMMIT, Column.SCALARS]] = 0
        row[Column.FIRST] = row[Column.END]
        return row

    def add_block(self, offset: int, content: Mapping[str, Any]) -> None:
        """Enter a BLOCK whose map is `content`."""
        row = self._next()
        row[Column.RECORD] = offset
        row[Column.FIRST], row[Column.END] = content["first"], content["end"]
        row[Column.FRAMES] += content["frames"]
        row[Column.SAMPLES :] += content["samples"]
        self.new.append(row)
        self.last = row

    def add_checkpoint(self, step: int, offset: int) -> None:
        """Enter the CHECKPOINT of the transaction at work, after its blocks."""
        if not self.new:
            self.new.append(self._next())
        self.last = self.new[-1]
        self.last[Column.CHECKPOINT], self.last[Column.CHECKPOINT_STEP] = offset, step

    @property
    def full(self) -> bool:
        """Whether the waiting entries are due for an INDEX."""
        if len(self.waiting) < 2:
            return False
        gained = self.waiting[-1] - self.waiting[0]
        small = int(gained[Column.SAMPLES :] @ self._small)
        small += STEP_BYTES * int(gained[Column.FRAMES])
        return len(self.waiting) >= FAN_OUT or small >= SCALARS_RAW

    def full_level(self, level: int) -> bool:
        """Whether the INDEXes of a level are due for one of the next."""
        return len(self.roots[level]) >= FAN_OUT

    def fold(self, level: int, offset: int, scalars: int = 0) -> IndexRecord:
        """Move what waits below `level` into an INDEX that will stand at `offset`."""
        covered = self.waiting if level == 0 else self.roots[level - 1]
        if level == 0:
            self.waiting = []
        else:
            self.roots[level - 1] = []
        while len(self.roots) <= level:
            self.roots.append([])
        row = covered[-1].copy()
        row[Column.RECORD], row[Column.COMMIT], row[Column.SCALARS] = offset, 0, scalars
        row[Column.FIRST] = covered[0][Column.FIRST]
        self.roots[level].append(row)
        return IndexRecord(level, Entries.of(covered, self._cadences), self.root_entries)

    @property
    def root_entries(self) -> tuple[Entries, ...]:
        """The roots as an INDEX or FOOTER stores them."""
        return tuple(Entries.of(rows, self._cadences) for rows in self.roots)

    @property
    def table_entries(self) -> Entries:
        """The waiting entries as a TABLE stores them."""
        return Entries.of(self.waiting, self._cadences)

    def settle(self, commit: int) -> None:
        """Fill in the COMMIT of everything that was entered since the last one."""
        for rows in (self.waiting, *self.roots):
            for row in reversed(rows):
                if row[Column.COMMIT]:
                    break
                row[Column.COMMIT] = commit
        self.new = []
