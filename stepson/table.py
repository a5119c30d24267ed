"""What TABLE holds: entries that no INDEX covers yet, the last checkpoints, totals.

Implements ``spec/son-1.md`` 2.7.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from stepson.errors import FormatError
from stepson.index import LARGEST, Entries
from stepson.records import Commit, RecordType
from stepson.scan import read_record
from stepson.schema import Schema
from stepson.source import Source

__all__ = ["Table", "Totals", "read_table"]


@dataclass(frozen=True)
class Totals:
    """Sums over the file so far, one number for each field."""

    raw: tuple[int, ...]
    """Bytes of the samples in memory."""
    stored: tuple[int, ...]
    """Bytes of their chunks."""
    codecs: tuple[str, ...]
    """The codec last used; empty before the first sample."""

    @classmethod
    def none(cls, fields: int) -> "Totals":
        """Of a file without samples."""
        return cls((0,) * fields, (0,) * fields, ("",) * fields)

    def to_map(self) -> dict[str, Any]:
        """What TABLE and FOOTER store."""
        return {
            "raw": list(self.raw),
            "stored": list(self.stored),
            "codecs": list(self.codecs),
        }

    @classmethod
    def from_map(cls, stored: object, fields: int, offset: int) -> "Totals":
        """Read what `to_map` wrote."""
        found = stored if isinstance(stored, dict) else {}
        raw, size, codecs = (found.get(key) for key in ("raw", "stored", "codecs"))
        numbers = _is_list(raw, int, fields) and _is_list(size, int, fields)
        if (
            numbers
            and _is_list(codecs, str, fields)
            and _in_range([*(raw or ()), *(size or ())])
        ):
            return cls(tuple(raw or ()), tuple(size or ()), tuple(codecs))
        raise FormatError("a TABLE whose totals are not valid", offset=offset)


def _in_range(numbers: list[int]) -> bool:
    """Whether sums go on without an overflow."""
    return all(0 <= each <= LARGEST for each in numbers)


def _is_list(value: Any, kind: type, length: int) -> TypeGuard[list[Any]]:
    return (
        isinstance(value, list)
        and len(value) == length
        and all(type(each) is kind for each in value)
    )


@dataclass(frozen=True)
class Table:
    """The content of TABLE."""

    entries: Entries
    """Of the BLOCKs since the last INDEX."""
    checkpoints: tuple[tuple[int, int], ...]
    """Step and offset of the last two CHECKPOINTs, from old to new."""
    totals: Totals
    """Over the file so far."""

    def to_map(self) -> dict[str, Any]:
        """What TABLE stores."""
        return {
            "entries": self.entries.to_map(),
            "checkpoints": [list(each) for each in self.checkpoints],
            "totals": self.totals.to_map(),
        }

    @classmethod
    def from_map(cls, stored: Mapping[str, Any], schema: Schema, offset: int) -> "Table":
        """Read what `to_map` wrote."""
        entries = Entries.from_map(stored.get("entries"), len(schema.cadences), offset)
        totals = Totals.from_map(stored.get("totals"), len(schema.fields), offset)
        found = stored.get("checkpoints")
        if (
            not isinstance(found, list)
            or len(found) > 2
            or not all(_is_list(each, int, 2) and _in_range(each) for each in found)
        ):
            raise FormatError("a TABLE whose checkpoints are not valid", offset=offset)
        return cls(entries, tuple((step, place) for step, place in found), totals)


def read_table(source: Source, commit: Commit, schema: Schema) -> Table:
    """The TABLE of a COMMIT; the first transaction has none.

    Raises:
        FormatError: it does not verify.
    """
    if commit.table == 0:
        empty = Entries.of([], len(schema.cadences))
        return Table(empty, (), Totals.none(len(schema.fields)))
    record = read_record(source, commit.table, RecordType.TABLE, commit.offset)
    return Table.from_map(record.map, schema, commit.table)
