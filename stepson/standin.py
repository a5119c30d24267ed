"""What stands in for a damaged INDEX or TABLE: all they hold can be found elsewhere.

Theory of operation. A transaction is a step from one state of the index to the next: its
BLOCKs and its CHECKPOINT add entries to those that wait in the TABLE of the transaction
before, and each of its INDEXes takes entries away from the front. So

- a TABLE is the TABLE before it, plus the transaction's own records;
- an INDEX of level 0 is the front of what waited when it was written;
- an INDEX of level k is ``roots[k - 1]`` of the INDEX of level k - 1 in front of it in the
  same transaction: that one emptied its level into this one;
- the roots of a file whose last INDEX is damaged are those of the INDEX before it, plus the
  entry that the damaged one would have, which then stands in for itself.

Where a TABLE that is needed for this is damaged too, the chain of COMMITs is followed back
to one that is not. Everything that was replaced is told. Implements ``spec/son-1.md`` 2.8.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from stepson.block import Block
from stepson.errors import DamageWarning, FormatError
from stepson.growth import Growth
from stepson.index import Column, Entries, IndexRecord, Row, ends_with
from stepson.records import Commit, RecordType
from stepson.scan import Record, candidates, read_commit, read_record, walk
from stepson.schema import Schema
from stepson.source import Source
from stepson.table import Table, Totals, read_table

__all__ = ["StandIns"]

REACH = 2**18
LIMIT = 256
"""Damaged INDEXes or TABLEs in a row; more are no accident, and not worth the time."""


@dataclass
class _State:
    """The index within a transaction."""

    table: Table
    """What waits, as entries whose COMMIT is known or 0."""
    roots: tuple[Entries, ...]
    scalars: int
    """The last SCALARS of the transaction; 0: none."""


@dataclass
class StandIns:
    """Finds what a damaged INDEX or TABLE held.

    Args:
        source: of the file.
        uuid: of the file.
        schema: of the file.
        end: of the committed part.
    """

    source: Source
    uuid: bytes
    schema: Schema
    end: int
    damages: list[FormatError] = field(default_factory=list)
    """What was found damaged and replaced."""

    def tell(self, error: FormatError, instead: str) -> None:
        """Note what was damaged, and warn."""
        self.damages.append(error)
        place = "" if error.offset is None else f" (at byte {error.offset})"
        words = f"{error.what}{place}; {instead} is used instead"
        warnings.warn(words, DamageWarning, stacklevel=2)

    def table(self, commit: Commit) -> Table:
        """The TABLE of a COMMIT, rebuilt where it is damaged.

        Raises:
            FormatError: it is damaged, and so is something that it was made of.
        """
        try:
            return read_table(self.source, commit, self.schema)
        except FormatError as error:
            found = self._rebuilt(commit, error)
            self.tell(error, "the TABLE before it, with the blocks since,")
            return found

    def _rebuilt(self, commit: Commit, error: FormatError) -> Table:
        """Go back to a TABLE that is sound, and forward again."""
        behind = [commit]
        while len(behind) < LIMIT:
            before = self._previous(behind[-1])
            try:
                table = read_table(self.source, before, self.schema)
                break
            except FormatError:
                behind.append(before)
        else:
            raise error
        for each in reversed(behind):
            table = self._replay(table, before, each, each.table).table
            before = each
        return table

    def _previous(self, commit: Commit) -> Commit:
        return read_commit(self.source, commit.previous, self.uuid)

    def _replay(self, table: Table, before: Commit, commit: Commit, stop: int) -> _State:
        """The index within the transaction of `commit`, up to the record at `stop`.

        Args:
            table: of the COMMIT before.
            before: the COMMIT before.
            commit: whose transaction is looked at.
            stop: offset of the record that is damaged.
        """
        waiting = _settled(table.entries, before)
        roots = () if len(waiting) else self.roots(before)
        growth = Growth(self.schema, waiting, roots)
        totals, taken, scalars = table.totals, 0, 0
        points: list[tuple[int, int]] = []
        last: tuple[Entries, ...] | None = None
        for record in walk(self.source, commit.start, stop):
            kind = record.prefix.type
            if kind == RecordType.BLOCK:
                Block(record, self.schema)
                growth.add_block(record.offset, record.map)
                totals = _added(totals, record, self.schema)
            elif kind == RecordType.CHECKPOINT:
                points = [(_step(record), record.offset)]  # the last one counts
            elif kind == RecordType.SCALARS:
                scalars = record.offset
            elif kind == RecordType.INDEX:
                index = self._index(record)
                taken += 0 if index.level else len(index.entries)
                last, scalars = index.roots, 0
        for point in points:
            growth.add_checkpoint(*point)
        kept = [*growth.waiting, *growth.new][taken:]
        entries = Entries.of(kept, len(self.schema.cadences))
        return _State(
            Table(entries, (*table.checkpoints, *points)[-2:], totals),
            last or roots,
            scalars,
        )

    def _index(self, record: Record) -> IndexRecord:
        return IndexRecord.from_map(record.map, len(self.schema.cadences), record.offset)

    def commit_behind(self, offset: int) -> Commit:
        """The COMMIT whose transaction the record at `offset` belongs to.

        Raises:
            FormatError: there is none that verifies.
        """
        start = offset
        while start < self.end:
            data = self.source.read_at(start, min(REACH, self.end - start))
            for place in reversed(candidates(data)):
                try:
                    commit = read_commit(self.source, start + place, self.uuid)
                except FormatError:
                    continue
                if commit.start <= offset < commit.offset:
                    return commit
                raise FormatError("the COMMIT of a record is damaged", offset=offset)
            start += REACH
        raise FormatError("the COMMIT of a record is damaged", offset=offset)

    def roots(self, commit: Commit, depth: int = 0) -> tuple[Entries, ...]:
        """The roots of the index as of a COMMIT, from its last INDEX.

        Raises:
            FormatError: that is damaged, and so is something that it was made of.
        """
        if commit.index == 0:
            return ()
        try:
            end = commit.end
            record = read_record(self.source, commit.index, RecordType.INDEX, end)
            return self._index(record).roots
        except FormatError as error:
            if depth >= LIMIT:
                raise
            found = self._roots_without(commit.index, depth)
            self.tell(error, "the INDEX before it")
            return found

    def _roots_without(self, index: int, depth: int) -> tuple[Entries, ...]:
        """The roots that the damaged INDEX at `index` held, this one included."""
        commit = self.commit_behind(index)
        before = self._previous(commit)
        table = self.table(before)
        state = self._replay(table, before, commit, index)
        # What did not go into this INDEX waits in the TABLE behind it.
        rows = state.table.entries.rows
        taken = rows[: len(rows) - len(self.table(commit).entries)]
        roots = list(state.roots or self.roots(before, depth + 1))
        if not len(taken):
            return tuple(roots)  # it is of a higher level: what it covers is in here
        row = taken[-1].copy()
        row[Column.RECORD], row[Column.COMMIT] = index, commit.offset
        row[Column.SCALARS], row[Column.FIRST] = state.scalars, taken[0][Column.FIRST]
        below = [*roots[0].rows] if roots else []
        roots[:1] = [Entries.of([*below, row], len(self.schema.cadences))]
        return tuple(roots)

    def settled(
        self, table: Table, roots: Sequence[Entries], commit: Commit
    ) -> tuple[Table, list[Entries]]:
        """TABLE and roots as of a COMMIT, with every COMMIT named that stands as 0 there.

        A writer goes on from these: behind the next COMMIT, 0 would mean that one.
        """
        named = []
        for each in roots:
            rows = each.rows.copy()
            for row in rows[rows[:, Column.COMMIT] == 0]:
                own = self.commit_behind(int(row[Column.RECORD])).offset
                rows[rows[:, Column.RECORD] == row[Column.RECORD], Column.COMMIT] = own
            named.append(Entries(rows))
        return replace(table, entries=_settled(table.entries, commit)), named

    def entries(self, index: int, level: int, row: Row, error: FormatError) -> Entries:
        """What the damaged INDEX at `index` covered.

        Args:
            index: its offset.
            level: its level.
            row: its entry.
            error: what is wrong with it.

        Raises:
            FormatError: something that it was made of is damaged too.
        """
        commit = self.commit_behind(index)
        if level:
            found, instead = self._from_index(commit, index, level), "INDEX before it"
        else:
            found, instead = self._from_table(commit, index, row), "TABLE"
        if not ends_with(found, row):
            raise error
        self.tell(error, f"its copy in {'a' if level == 0 else 'the'} {instead}")
        return found

    def _from_index(self, commit: Commit, index: int, level: int) -> Entries:
        found = Entries.of([], len(self.schema.cadences))
        for record in walk(self.source, commit.start, index):
            if record.prefix.type == RecordType.INDEX:
                above = self._index(record)
                found = above.roots[level - 1] if above.level == level - 1 else found
        return found

    def _from_table(self, commit: Commit, index: int, row: Row) -> Entries:
        before = self._previous(commit)
        state = self._replay(self.table(before), before, commit, index)
        found = state.table.entries
        for stop in range(1, len(found) + 1):
            if ends_with(Entries(found.rows[:stop]), row):
                return Entries(found.rows[:stop])
        return found


def _settled(entries: Entries, commit: Commit) -> Entries:
    """Entries whose COMMIT is named where it stood as 0: the one behind the TABLE."""
    rows = entries.rows.copy()
    rows[rows[:, Column.COMMIT] == 0, Column.COMMIT] = commit.offset
    return Entries(rows)


def _step(record: Record) -> int:
    step = record.map.get("step")
    if type(step) is not int or step < 0:
        raise FormatError("a CHECKPOINT without its step", offset=record.offset)
    return step


def _added(totals: Totals, record: Record, schema: Schema) -> Totals:
    """Totals with those of a BLOCK."""
    raw, stored, codecs = list(totals.raw), list(totals.stored), list(totals.codecs)
    for number, chunks in Block(record, schema).chunks.items():
        for each in chunks if number is not None else ():
            size = each.info.get("raw")
            if type(size) is not int:
                raise FormatError("a chunk without its length", offset=record.offset)
            raw[number or 0] += size
            stored[number or 0] += each.size
            codecs[number or 0] = str(each.info.get("codec"))
    return Totals(tuple(raw), tuple(stored), tuple(codecs))
