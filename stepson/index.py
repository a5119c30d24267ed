"""Finding a frame in a file of any size: entries, the TABLE, and the tree of INDEX records.

Theory of operation. Every BLOCK has an *entry*: where it is, and how many frames and
samples of each cadence the file has **so far**, that is up to its end. All counts of an
entry are running totals, so a column of entries is sorted and a binary search finds any
frame, sample or step.

The TABLE before each COMMIT holds the entries since the last INDEX. When there are 256 of
them they move into an INDEX of level 0, which gets an entry itself, with the totals of its
last one. 256 of those move into an INDEX of level 1, and so on. What no INDEX of a higher
level holds yet is the *roots*: they are in every INDEX, so the last INDEX and the TABLE
together reach everything::

    COMMIT -> TABLE   entries of BLOCKs                       level 0
           -> INDEX   roots[1]: INDEXes of level 1    -> INDEXes of level 0 -> BLOCKs
                      roots[0]: INDEXes of level 0    -> BLOCKs

With 256 entries a record, three levels hold sixteen million commits, and no look-up takes
more than two reads before the BLOCK. Everything here is redundant: it can be rebuilt from
the records, and is never trusted without its checksum. Implements
``spec/son-1.md`` 2.7 and 2.8.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stepson.errors import FormatError
from stepson.records import RecordType
from stepson.scan import read_record
from stepson.source import Source

__all__ = ["FAN_OUT", "Column", "Entries", "IndexRecord", "Row", "Tree", "Unit"]

FAN_OUT = 256
MAX_LEVELS = 8
LARGEST = 2**62
"""Of any number in an entry: what is added to it later must not overflow."""
KEPT_NODES = 16
NODE_BYTES = 2**14
"""Of the first read of an INDEX: enough for 256 entries and the roots beside them."""
Row = NDArray[np.int64]


class Column:
    """The numbers of an entry's columns; samples of cadence c stand at `SAMPLES` + c."""

    RECORD = 0
    COMMIT = 1
    CHECKPOINT = 2
    CHECKPOINT_STEP = 3
    SCALARS = 4
    FIRST = 5
    END = 6
    FRAMES = 7
    SAMPLES = 8


NAMES = (
    "record",
    "commit",
    "checkpoint",
    "checkpoint_step",
    "scalars",
    "first",
    "end",
    "frames",
)


def origin(cadences: int) -> Row:
    """The totals before the first entry of a file."""
    row = np.zeros(Column.SAMPLES + cadences, np.int64)
    row[Column.CHECKPOINT_STEP] = -1
    return row


class Entries:
    """Entries of one TABLE or INDEX: an integer matrix, shape ``(n, 8 + cadences)``."""

    __slots__ = ("rows",)

    def __init__(self, rows: NDArray[np.int64]) -> None:
        self.rows = rows

    @classmethod
    def of(cls, rows: Sequence[Row], cadences: int) -> "Entries":
        """Stack rows."""
        width = Column.SAMPLES + cadences
        return cls(np.array(rows, np.int64).reshape(len(rows), width))

    def __len__(self) -> int:
        return len(self.rows)

    def to_map(self) -> dict[str, Any]:
        """Delta-coded columns: the first number, then differences."""
        deltas = np.diff(self.rows, axis=0, prepend=0).T.tolist()
        return {
            **dict(zip(NAMES, deltas, strict=False)),
            "samples": deltas[Column.SAMPLES :],
        }

    @classmethod
    def from_map(cls, stored: object, cadences: int, offset: int) -> "Entries":
        """Read what `to_map` wrote, trusting nothing.

        Raises:
            FormatError: lengths, types or order are wrong.
        """
        try:
            if not isinstance(stored, Mapping):
                raise TypeError("no map")
            columns = [*(stored[name] for name in NAMES), *stored["samples"]]
            if len(columns) != Column.SAMPLES + cadences:
                raise ValueError("one column of samples for each cadence is needed")
            deltas = np.array(columns, dtype=object)
            if deltas.ndim != 2 or not all(type(value) is int for value in deltas.flat):
                raise TypeError("columns are lists of integers of one length")
            rows = np.cumsum(deltas, axis=1).astype(np.int64).T
        except (TypeError, ValueError, KeyError, OverflowError) as error:
            raise FormatError(
                f"entries that are not valid: {error}", offset=offset
            ) from error
        entries = cls(np.ascontiguousarray(rows).reshape(-1, Column.SAMPLES + cadences))
        entries._check(offset)
        return entries

    def _check(self, offset: int) -> None:
        rows = self.rows
        totals = rows[
            :, [Column.CHECKPOINT, Column.CHECKPOINT_STEP, *range(6, rows.shape[1])]
        ]
        if len(rows) and (
            rows.min() < -1
            or rows.max() > LARGEST
            or np.delete(rows, Column.CHECKPOINT_STEP, axis=1).min() < 0
            or np.any(totals[1:] < totals[:-1])
            or np.any(rows[:, Column.FIRST] > rows[:, Column.END])
        ):
            raise FormatError("entries whose totals are out of order", offset=offset)


class IndexRecord(NamedTuple):
    """The content of an INDEX."""

    level: int
    """0: of BLOCKs; k: of INDEXes of level k - 1."""
    entries: Entries
    """What it covers."""
    roots: tuple[Entries, ...]
    """``roots[k]``: the INDEXes of level k that no higher one covers, this one included."""

    def to_map(self) -> dict[str, Any]:
        """What INDEX stores."""
        return {
            "level": self.level,
            "entries": self.entries.to_map(),
            "roots": [each.to_map() for each in self.roots],
        }

    @classmethod
    def from_map(
        cls, stored: Mapping[str, Any], cadences: int, offset: int
    ) -> "IndexRecord":
        """Read what `to_map` wrote.

        Raises:
            FormatError: it is not valid.
        """
        level = stored.get("level")
        if type(level) is not int or not 0 <= level < MAX_LEVELS:
            raise FormatError("an INDEX without a level", offset=offset)
        entries = Entries.from_map(stored.get("entries"), cadences, offset)
        return cls(level, entries, roots_from_list(stored.get("roots"), cadences, offset))


def roots_from_list(stored: object, cadences: int, offset: int) -> tuple[Entries, ...]:
    """Read the roots of an INDEX or FOOTER."""
    if not isinstance(stored, list) or len(stored) > MAX_LEVELS:
        raise FormatError("an INDEX without its roots", offset=offset)
    return tuple(Entries.from_map(each, cadences, offset) for each in stored)


class Unit(NamedTuple):
    """A record that holds samples, and the totals before and after it."""

    offset: int
    """Of the BLOCK or SCALARS."""
    kind: RecordType
    """Which of the two."""
    before: Row
    """Totals up to it."""
    row: Row
    """Totals with it."""


class Tree:
    """Look-ups in TABLE and INDEXes as of one COMMIT.

    Args:
        source: where INDEXes are read from.
        cadences: of the schema.
        table: entries of the TABLE.
        roots: reads those of the last INDEX, when they are first needed.
        rebuild: entries of a damaged INDEX, from its offset, level, entry and error.
        end: of the committed part; nothing behind it is believed.
    """

    def __init__(
        self,
        source: Source,
        cadences: int,
        table: Entries,
        roots: Callable[[], tuple[Entries, ...]],
        rebuild: Callable[[int, int, Row, FormatError], Entries],
        end: int,
    ) -> None:
        self._source = source
        self._cadences = cadences
        self._end = end
        self.table = table
        self._read_roots = roots
        self._rebuild = rebuild
        self._roots: tuple[Entries, ...] | None = None
        self._nodes: dict[int, Entries] = {}

    @property
    def roots(self) -> tuple[Entries, ...]:
        """INDEXes that no other covers, by level."""
        if self._roots is None:
            self._roots = self._read_roots()
        return self._roots

    def find(self, column: int, value: int, *, scalars: bool = False) -> Unit | None:
        """The first record whose total in `column` is above `value`; None behind the end.

        Args:
            column: one of `Column`, sorted: a count so far, ``END`` or ``CHECKPOINT_STEP``.
            value: for counts the number of a sample, for ``END`` a step.
            scalars: stop at a SCALARS that covers it, where there is one.
        """
        if len(self.table) and self.table.rows[0, column] <= value:
            # The common case while a file grows: no INDEX needs to be read.
            if self.table.rows[-1, column] <= value:
                return None
            return self._descend(0, self.table, self.table.rows[0], column, value, scalars)
        before = origin(self._cadences)
        for level, entries in self._segments(column, value):
            if len(entries) and entries.rows[-1, column] > value:
                return self._descend(level, entries, before, column, value, scalars)
            if len(entries):
                before = entries.rows[-1]
        return None

    def _segments(self, column: int, value: int) -> Iterator[tuple[int, Entries]]:
        """All entries at hand with their level, from old to new."""
        roots = self.roots
        for level in range(len(roots), 0, -1):
            yield level, roots[level - 1]
        yield 0, self.table

    def _descend(
        self,
        level: int,
        entries: Entries,
        before: Row,
        column: int,
        value: int,
        scalars: bool,
    ) -> Unit:
        place = int(np.searchsorted(entries.rows[:, column], value, "right"))
        row = entries.rows[place]
        before = entries.rows[place - 1] if place else before
        if level == 0:
            return Unit(int(row[Column.RECORD]), RecordType.BLOCK, before, row)
        if level == 1 and scalars and row[Column.SCALARS]:
            return Unit(int(row[Column.SCALARS]), RecordType.SCALARS, before, row)
        node = self._node(int(row[Column.RECORD]), level - 1, row)
        return self._descend(level - 1, node, before, column, value, scalars)

    def _node(self, offset: int, level: int, row: Row) -> Entries:
        """The entries of the INDEX at `offset`, which must end with the totals of `row`."""
        entries = self._nodes.get(offset)
        if entries is None:
            try:
                entries = self._read_node(offset, level, row)
            except FormatError as error:
                entries = self._rebuild(offset, level, row, error)
            self._nodes = {
                **dict([*self._nodes.items()][1 - KEPT_NODES :]),
                offset: entries,
            }
        return entries

    def _read_node(self, offset: int, level: int, row: Row) -> Entries:
        source, end = self._source, self._end
        record = read_record(source, offset, RecordType.INDEX, end, NODE_BYTES)
        index = IndexRecord.from_map(record.map, self._cadences, offset)
        if index.level != level or not ends_with(index.entries, row):
            raise FormatError("an INDEX contradicts the one above it", offset=offset)
        return index.entries


def ends_with(entries: Entries, row: Row) -> bool:
    """Whether the totals at the end of `entries` are those of `row`."""
    if not len(entries):
        return False
    last, own = entries.rows[-1], slice(Column.CHECKPOINT, Column.CHECKPOINT_STEP + 1)
    return np.array_equal(last[own], row[own]) and np.array_equal(
        last[Column.END :], row[Column.END :]
    )
