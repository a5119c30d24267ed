"""What opening a file finds, for a reader and a writer alike, in a few reads.

HEADER and SCHEMA from its start, the last COMMIT that counts and its TABLE from its end;
METADATA, INDEX and CHECKPOINT are read when they are asked for. Implements
``spec/son-1.md`` 4.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from stepson.errors import FormatError, VersionError
from stepson.index import Entries, IndexRecord, Tree, roots_from_list
from stepson.records import MAGIC_SIZE, MAJOR, Commit, RecordType, check_magic
from stepson.scan import Record, Tail, find_tail, read_commit, read_record
from stepson.schema import Schema
from stepson.source import Edges, Source

__all__ = [
    "READ_COMPATIBLE",
    "SUPPORTED",
    "Header",
    "Opened",
    "Table",
    "Totals",
    "open_source",
]

SUPPORTED: frozenset[str] = frozenset()
"""Incompatible features that this reader knows."""
READ_COMPATIBLE: frozenset[str] = frozenset()
"""Features that this writer knows, without which a file must not be appended to."""


@dataclass(frozen=True)
class Header:
    """The content of HEADER."""

    uuid: bytes
    """16 random bytes; every COMMIT repeats them."""
    created: str
    """UTC, ISO 8601."""
    writer: str
    """Program and version."""
    compatible: tuple[str, ...] = ()
    """Features that a reader may ignore."""
    read_compatible: tuple[str, ...] = ()
    """Features that a reader may ignore and a writer may not."""
    incompatible: tuple[str, ...] = ()
    """Features without which the file must be refused."""
    parent: Mapping[str, Any] | None = None
    """``uuid``, ``digest`` and ``step`` of the file that this one continues."""

    def to_map(self) -> dict[str, Any]:
        """What HEADER stores."""
        return {
            "uuid": self.uuid,
            "created": self.created,
            "writer": self.writer,
            "compatible": list(self.compatible),
            "read_compatible": list(self.read_compatible),
            "incompatible": list(self.incompatible),
            "parent": None if self.parent is None else dict(self.parent),
        }

    @classmethod
    def from_map(cls, stored: Mapping[str, Any], offset: int) -> "Header":
        """Read what `to_map` wrote, and refuse features that are not known.

        Raises:
            FormatError: it is not valid.
            VersionError: an unknown incompatible feature.
        """
        uuid, parent = stored.get("uuid"), stored.get("parent")
        if not isinstance(uuid, bytes) or len(uuid) != 16:
            raise FormatError("a HEADER without a uuid", offset=offset)
        if not isinstance(parent, dict | None):
            raise FormatError("a HEADER whose parent is no map", offset=offset)
        compatible, read_compatible, incompatible = (
            _names(stored.get(key, []), offset)
            for key in ("compatible", "read_compatible", "incompatible")
        )
        for feature in incompatible:
            if feature not in SUPPORTED:
                raise VersionError(found=MAJOR, supported=MAJOR, feature=feature)
        created, writer = str(stored.get("created", "")), str(stored.get("writer", ""))
        return cls(uuid, created, writer, compatible, read_compatible, incompatible, parent)


def _names(value: object, offset: int) -> tuple[str, ...]:
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return tuple(value)
    raise FormatError("a HEADER whose features are no list of names", offset=offset)


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
        if numbers and _is_list(codecs, str, fields):
            return cls(tuple(raw or ()), tuple(size or ()), tuple(codecs))
        raise FormatError("a TABLE whose totals are not valid", offset=offset)


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
            or not all(_is_list(each, int, 2) and min(each) >= 0 for each in found)
        ):
            raise FormatError("a TABLE whose checkpoints are not valid", offset=offset)
        return cls(entries, tuple((step, place) for step, place in found), totals)


@dataclass(frozen=True)
class Opened:
    """The state of a file as of its last COMMIT that counts."""

    source: Source
    size: int
    """Of the file when it was looked at."""
    header: Header
    schema: Schema
    tail: Tail
    table: Table
    tree: Tree

    @property
    def metadata(self) -> Record:
        """The METADATA record, read now."""
        return read_record(
            self.source,
            self.tail.commit.metadata,
            RecordType.METADATA,
            self.tail.valid_until,
        )

    @property
    def torn_bytes(self) -> int:
        """Bytes behind what was committed."""
        return self.size - self.tail.valid_until


def open_source(source: Source) -> Opened:
    """Read what is needed of the start and the end of a file.

    Raises:
        FormatError: it is no `.son`, or what was surely committed does not verify.
    """
    source = Edges(source)
    size = source.size
    if size == 0:
        raise FormatError("the file is empty")
    start = source.read_at(0, 4096)
    if start.lstrip()[:1] == b"{":
        raise FormatError(
            "this is the text format of FHI-vibes, not a binary .son; this version cannot "
            "convert it, FHI-vibes itself reads it"
        )
    check_magic(start)
    head = read_record(source, MAGIC_SIZE, RecordType.HEADER, size)
    header = Header.from_map(head.map, head.offset)
    tail = find_tail(source, header.uuid, size)
    commit = tail.commit
    stored = read_record(source, commit.schema, RecordType.SCHEMA, commit.offset)
    schema = Schema.from_map(stored.map, commit.schema)
    table = _read_table(source, commit, schema)
    tree = Tree(
        source,
        len(schema.cadences),
        table.entries,
        _roots(source, tail, schema),
        _rebuild(source, tail, schema),
        commit.end,
    )
    return Opened(source, size, header, schema, tail, table, tree)


def open_named(source: Source, path: Path | str | None) -> Opened:
    """`open_source`, where the message of what is raised starts with the path."""
    try:
        return open_source(source)
    except FormatError as error:
        if path is not None:
            error.args = (f"{path}: {error}",)
        raise


def _read_table(source: Source, commit: Commit, schema: Schema) -> Table:
    if commit.table == 0:
        empty = Entries.of([], len(schema.cadences))
        return Table(empty, (), Totals.none(len(schema.fields)))
    record = read_record(source, commit.table, RecordType.TABLE, commit.offset)
    return Table.from_map(record.map, schema, commit.table)


def _roots(source: Source, tail: Tail, schema: Schema) -> Callable[[], tuple[Entries, ...]]:
    """A function that reads the roots: from FOOTER, else from the last INDEX."""
    cadences = len(schema.cadences)

    def read() -> tuple[Entries, ...]:
        footer, index = tail.footer, tail.commit.index
        if footer is not None:
            return roots_from_list(footer.map.get("roots"), cadences, footer.offset)
        if index == 0:
            return ()
        record = read_record(source, index, RecordType.INDEX, tail.commit.end)
        return IndexRecord.from_map(record.map, cadences, index).roots

    return read


def _rebuild(source: Source, tail: Tail, schema: Schema) -> Callable[[int, int], Entries]:
    """A function that finds entries of a damaged INDEX in the TABLE that it replaced."""
    uuid = tail.commit.uuid

    def read(index: int, place: int) -> Entries:
        commit = read_commit(source, place, uuid) if place else tail.commit
        while commit.start > index:
            commit = read_commit(source, commit.previous, uuid)
        before = read_commit(source, commit.previous, uuid)
        return _read_table(source, before, schema).entries

    return read
