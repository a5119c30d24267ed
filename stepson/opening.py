"""What opening a file finds, for a reader and a writer alike, in a few reads.

HEADER and SCHEMA from its start, the last COMMIT that counts and its TABLE from its end;
METADATA, INDEX and CHECKPOINT are read when they are asked for. Implements
``spec/son-1.md`` 4.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stepson.errors import DamagedError, FormatError, VersionError
from stepson.index import Entries, Tree, roots_from_list
from stepson.records import (
    MAGIC_SIZE,
    MAJOR,
    MAP_LIMIT,
    PREFIX_SIZE,
    RECORD_MAGIC,
    Commit,
    RecordType,
    check_magic,
    padded,
)
from stepson.scan import Record, Tail, find_tail, read_record
from stepson.schema import Schema
from stepson.source import Edges, Source, confirmed, forget
from stepson.standin import StandIns
from stepson.table import Table, Totals

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
RECOVER = "`stepson recover IN OUT` saves what is sound"
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
            _names(stored.get(key), offset)
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
    instead: StandIns
    """What is read where something redundant is damaged."""

    @property
    def damages(self) -> list[FormatError]:
        """What has been found damaged so far, and was replaced."""
        return self.instead.damages

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

    @property
    def broken_footer(self) -> int:
        """Torn bytes that look like a FOOTER; 0: they do not.

        A file that was killed while it was being closed ends so, and one that is damaged in
        its last bytes. Nothing is lost with it.
        """
        torn = self.torn_bytes
        if not 0 < torn <= padded(PREFIX_SIZE + MAP_LIMIT):
            return 0
        data = self.source.read_at(self.tail.valid_until, torn)
        sign = int.from_bytes(data[:4], "little") == RECORD_MAGIC
        kind = int.from_bytes(data[4:6], "little") == RecordType.FOOTER
        return torn if (sign and kind) or b"\xa6digest" in data else 0


def open_source(source: Source, *, lenient: bool = False) -> Opened:
    """Read what is needed of the start and the end of a file.

    What came over a network may have changed on its way, and a torn tail looks the same:
    both ends are fetched once more before frames are taken for uncommitted. Where what is
    torn reaches beyond the end that was fetched, the end has come again with what is before
    it (`stepson.source.confirmed`); so opening stays at four requests.

    Args:
        source: of the file.
        lenient: open it even where nothing tells which blocks came last, to check it.

    Raises:
        FormatError: it is no `.son`, or what was surely committed does not verify.
    """
    edges = Edges(source)
    if not edges.far:
        return _opened(edges, lenient)
    try:
        found = _opened(edges, lenient)
    except FormatError:
        pass
    else:
        sound = not (found.damages or found.tail.rejected)
        if sound and (not found.torn_bytes or confirmed(source)):
            return found
    forget(source)
    return _opened(Edges(source), lenient)


def _opened(source: Edges, lenient: bool) -> Opened:
    size = source.size
    if size == 0:
        raise FormatError(
            "the file is empty; copy it here again, or delete it and use create()"
        )
    start = source.read_at(0, 4096)
    if start.lstrip()[:1] == b"{":
        raise FormatError(
            "this is the text format of FHI-vibes, not a binary .son; this version cannot "
            "convert it, FHI-vibes itself reads it"
        )
    _check_magic(source, start)
    with _needed("HEADER, which says what the file is,"):
        head = read_record(source, MAGIC_SIZE, RecordType.HEADER, size)
        header = Header.from_map(head.map, head.offset)
    tail = find_tail(source, header.uuid, size)
    commit = tail.commit
    with _needed("SCHEMA, which says what the bytes mean,"):
        stored = read_record(source, commit.schema, RecordType.SCHEMA, commit.offset)
        schema = Schema.from_map(stored.map, commit.schema)
    if (commit.schema, commit.metadata) != (head.end, stored.end):
        # a file has one of each, behind HEADER; no COMMIT may name another
        raise FormatError("a second SCHEMA or METADATA is named", offset=commit.offset)
    instead = StandIns(source, header.uuid, schema, commit.end)
    if tail.damage is not None:
        instead.tell(tail.damage, "the COMMIT before it")
    table = _table(instead, commit, lenient)
    roots = _roots(tail, instead)
    cadences = len(schema.cadences)
    tree = Tree(source, cadences, table.entries, roots, instead.entries, commit.end)
    return Opened(source, size, header, schema, tail, table, tree, instead)


def _table(instead: StandIns, commit: Commit, lenient: bool) -> Table:
    """The TABLE of the COMMIT that counts; an empty one where it is lost for good."""
    try:
        with _needed("the last TABLE, and what it was made of,"):
            return instead.table(commit)
    except FormatError as error:
        if not lenient:
            raise
        instead.damages.append(error)
        fields, cadences = len(instead.schema.fields), len(instead.schema.cadences)
        zeros = (0,) * fields
        return Table(Entries.of([], cadences), (), Totals(zeros, zeros, ("",) * fields))


@contextmanager
def _needed(what: str) -> Iterator[None]:
    """Without this nothing can be read: say how to go on."""
    try:
        yield
    except DamagedError as error:
        raise DamagedError(
            what,
            offset=error.offset or 0,
            expected=error.expected,
            actual=error.actual,
            advice=RECOVER,
        ) from error
    except VersionError:
        raise
    except FormatError as error:
        raise FormatError(f"{error.what}; {RECOVER}", offset=error.offset) from error


def _check_magic(source: Source, start: bytes) -> None:
    try:
        check_magic(start)
    except VersionError:
        raise
    except FormatError as error:
        try:
            read_record(source, MAGIC_SIZE, RecordType.HEADER)
        except FormatError:
            raise FormatError(
                f"{error.what}; check the name, or copy it here again", offset=error.offset
            ) from None
        raise FormatError(f"{error.what}, but a HEADER follows; {RECOVER}") from None


def open_named(source: Source, path: Path | str | None) -> Opened:
    """`open_source`, where the message of what is raised starts with the path."""
    with named(path):
        return open_source(source)


@contextmanager
def named(path: Path | str | None) -> Iterator[None]:
    """Let the message of a FormatError start with the path."""
    try:
        yield
    except FormatError as error:
        if path is not None:
            error.args = (f"{path}: {error}",)
        raise


def _roots(tail: Tail, instead: StandIns) -> Callable[[], tuple[Entries, ...]]:
    """A function that reads the roots: from FOOTER, else from the last INDEX."""
    cadences = len(instead.schema.cadences)

    def read() -> tuple[Entries, ...]:
        if tail.footer is not None:
            stored = tail.footer.map.get("roots")
            return roots_from_list(stored, cadences, tail.footer.offset)
        return instead.roots(tail.commit)

    return read
