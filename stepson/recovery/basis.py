"""What a recovery starts from: who the file is, its fields, its metadata, its last COMMIT.

Each of these may be damaged. The uuid stands in every COMMIT, too. SCHEMA stands once, and
without it nothing can be decoded; METADATA stands once; for both, a file of the same kind
can be asked.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stepson.damage import Damage
from stepson.errors import UNREADABLE, DamagedError, FormatError, VersionError
from stepson.opening import Header, Opened
from stepson.records import MAGIC_SIZE, RecordType, check_magic
from stepson.resync import Placed, before, commits_before, sound_transaction
from stepson.scan import find_tail, read_record
from stepson.schema import Schema
from stepson.source import Source
from stepson.tree import Lazy, unpack_tree

__all__ = ["Basis", "find_basis"]


@dataclass
class Basis:
    """See the module."""

    uuid: bytes
    schema: Schema
    last: Placed | None
    """The COMMIT that counts."""
    end: int
    """Of what was committed."""
    sealed: bool
    rest: tuple[int, int] | None
    """Behind that COMMIT, where a FOOTER proves that it was committed as well."""
    header: Header | None
    """None: damaged."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    """Keys of the metadata that are lost; "all" where none is known."""
    borrowed: tuple[str, ...] = ()
    """What was taken from the other file: SCHEMA, METADATA."""
    damages: list[Damage] = field(default_factory=list)


def find_basis(source: Source, like: Opened | None) -> Basis:
    """Find what a recovery starts from.

    Args:
        source: of the damaged file.
        like: a file with the same fields, in place of a damaged SCHEMA or METADATA.

    Raises:
        FormatError: nothing of a `.son` is here, or its SCHEMA is damaged.
        VersionError: it needs a feature that is not known here.
    """
    damages: list[Damage] = []
    header = _header(source, damages)
    uuid = header.uuid if header is not None else _uuid(source)
    if uuid is None:
        raise FormatError("nothing found: neither a HEADER nor a COMMIT of a .son verifies")
    last, end, sealed, rest = _last(source, uuid, damages)
    schema, borrowed = _schema(source, last, like, damages), []
    if schema is None:
        assert like is not None
        schema = like.schema
        borrowed.append("SCHEMA")
    found = Basis(uuid, schema, last, end, sealed, rest, header, damages=damages)
    found.metadata, found.missing = _metadata(source, last, damages)
    if found.missing and like is not None:
        lent = unpack_tree(like.source, like.metadata)
        keys = lent if found.missing == ("all",) else found.missing
        found.metadata = {**found.metadata, **{k: lent[k] for k in keys if k in lent}}
        found.missing = tuple(k for k in found.missing if k != "all" and k not in lent)
        borrowed.append("METADATA")
    found.borrowed = tuple(borrowed)
    return found


def _header(source: Source, damages: list[Damage]) -> Header | None:
    try:
        check_magic(source.read_at(0, MAGIC_SIZE))
    except FormatError as error:
        damages.append(Damage.of(error, offset=0, bytes=MAGIC_SIZE))
    try:
        record = read_record(source, MAGIC_SIZE, RecordType.HEADER)
        return Header.from_map(record.map, record.offset)
    except VersionError:
        raise
    except FormatError as error:
        damages.append(
            Damage(
                "HEADER does not verify: who wrote it is lost", error.offset or MAGIC_SIZE
            )
        )
    return None


def _uuid(source: Source) -> bytes | None:
    """From the last COMMIT that stands where it says, else from any."""
    moved = None
    for found in commits_before(source, source.size, None):
        if found.shift == 0:
            return found.commit.uuid
        moved = moved or found.commit.uuid
    return moved


def _last(
    source: Source, uuid: bytes, damages: list[Damage]
) -> tuple[Placed | None, int, bool, tuple[int, int] | None]:
    """The COMMIT that counts, where what was committed ends; sealed; what follows."""
    last, end, sealed, rest = None, MAGIC_SIZE, False, None
    try:
        tail = find_tail(source, uuid, source.size)
        last, end = Placed(tail.commit, tail.commit.offset), tail.valid_until
        sealed = tail.sealed
        if tail.damage is not None:
            damages.append(Damage.of(tail.damage))
            rest = (tail.commit.end, end) if sealed else None
    except FormatError:
        pass
    if sealed:
        return last, end, sealed, rest
    moved = _moved(source, uuid, last)
    if moved is not None:
        return moved, moved.end, False, None
    return last, end, sealed, rest


def _moved(source: Source, uuid: bytes, last: Placed | None) -> Placed | None:
    """The newest COMMIT behind `last` that lost or added bytes have moved.

    A copy of older bytes at the end moves COMMITs, too; these have lower numbers.
    """
    number, start = (0, 0) if last is None else (last.commit.commits, last.place)
    best: Placed | None = None
    for found in commits_before(source, source.size, uuid):
        if found.place <= start:
            break
        if last is not None and found.shift == 0:
            continue  # torn, as opening the file has found
        if found.commit.commits > number:
            number, best = found.commit.commits, found
    if best is None or sound_transaction(source, best):
        return best
    earlier, _ = before(source, uuid, best)
    least = 0 if last is None else last.commit.commits
    if earlier is not None and earlier.commit.commits > least:
        return earlier
    return best if last is None else None


def _schema(
    source: Source, last: Placed | None, like: Opened | None, damages: list[Damage]
) -> Schema | None:
    """The SCHEMA of the file; None where it is damaged and another file is given."""
    try:
        if last is None:
            place = read_record(source, MAGIC_SIZE, RecordType.HEADER).end
        else:
            place = last.commit.schema
        record = read_record(source, place, RecordType.SCHEMA)
        return Schema.from_map(record.map, place)
    except FormatError as error:
        if like is None:
            raise DamagedError(
                "SCHEMA, which says what the bytes mean,",
                offset=error.offset or 0,
                advice="nothing can be decoded without it; `--like OTHER.son` takes it "
                "from a file with the same fields and atoms, such as another replica",
            ) from error
        damages.append(Damage("SCHEMA does not verify", error.offset))
    return None


def _metadata(
    source: Source, last: Placed | None, damages: list[Damage]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What is sound of the metadata, and the keys that are not."""
    if last is None:
        return {}, ("all",)
    place = last.commit.metadata
    try:
        lazy = Lazy(source, read_record(source, place, RecordType.METADATA))
    except FormatError as error:
        damages.append(Damage.of(error, what="METADATA does not verify"))
        return {}, ("all",)
    found, missing = {}, []
    for key in lazy:
        try:
            found[key] = lazy[key]
        except UNREADABLE as error:
            missing.append(key)
            damages.append(Damage.of(error, field=f"metadata[{key!r}]"))
    return found, tuple(missing)
