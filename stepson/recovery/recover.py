"""Everything sound of a damaged file, as a new file.

Theory of operation. `stepson.recovery.survey` reads the file once and lists what is
sound. The fields of the new file follow from that, then everything is copied: chunks as
they stand, without decoding them, so a sample of the new file is bit for bit that of the
old one, and the largest error of a bounded chunk stays known.

Nothing sound is dropped and nothing is invented. Where a whole block is lost, its frames
are missing, and the steps tell. Where a frame has lost some of its fields and kept others,
a field that was recorded every k steps would have to have a sample there; so it becomes
irregular (``every=None``, its attribute ``every_before_recovery`` keeps k), and its own
steps tell where its samples are. Each irregular field is a cadence of its own, and a file
has at most 8; where that is not enough, recover some fields into one file and the others
into another.

Bytes behind the last COMMIT that counts were never committed and are left out, unless asked
for with `torn`: then the blocks in them that are whole are taken, too.

The new file has an identity of its own, is sealed, and names the old one in its metadata,
under ``recovered``, with what was lost. It is written under a hidden name and gets its own
when it is complete: an interrupted recovery leaves nothing, and nothing is overwritten.

A file behind a URL is read twice, too, in large pieces, and nothing of it is kept on disk.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from stepson.errors import FormatError, SchemaError, WriterError
from stepson.heading import program
from stepson.lock import Newborn
from stepson.opening import Header, open_named
from stepson.recovery.basis import Basis, find_basis
from stepson.recovery.copying import Copier
from stepson.recovery.inventory import Inventory
from stepson.recovery.lending import check_lender
from stepson.recovery.result import Recovery, losses
from stepson.recovery.survey import take_stock
from stepson.schema import Field, Schema
from stepson.source import LocalFile, Source, expect

__all__ = ["Recovery", "recover"]

PathLike = str | os.PathLike[str]
Name = Path | str
"""A URL is text."""
Progress = Callable[[int, int], None]
MAX_LINES = 1000
"""Of the list of damages in the metadata."""


def recover(
    source: PathLike,
    target: PathLike,
    on_progress: Progress | None = None,
    *,
    like: PathLike | None = None,
    torn: bool = False,
    fields: Iterable[str] | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Recovery:
    """Write everything that is sound of a file, damaged or not, into a new one.

    Args:
        source: the damaged file, or its URL; it is only read.
        target: the new file, on this machine; it must not exist.
        on_progress: called with bytes done and bytes to do.
        like: a file with the same fields and atoms, or its URL; its SCHEMA or METADATA
            stand in for a damaged one.
        torn: take whole blocks behind the last COMMIT, too.
        fields: names of the fields wanted; default: all.
        storage_options: of the file system of URLs; see `stepson.open`.

    Returns:
        what was saved, and what was lost.

    Raises:
        FormatError: nothing sound was found, or its SCHEMA is damaged and `like` is not
            given.
        SchemaError: the fields do not fit into one file.
        RemoteError: a URL cannot be read.
        WriterError: the target exists, or cannot be written.
    """
    old, new = _name(source), _name(target)
    if isinstance(new, str):
        raise WriterError(f"{new} is a URL; give a local file, then upload it")
    if os.path.lexists(new):
        raise WriterError(f"{new} exists and is never overwritten; choose another name")
    if storage_options is not None and not isinstance(old, str):
        raise SchemaError(f"storage_options are for URLs, and {old} is none")
    opener = partial(_source, storage_options=storage_options)
    with closing(opener(old)) as data:
        try:
            basis = _basis(_Still(data), None if like is None else _name(like), opener)
            return _recover(_Still(data), old, new, basis, on_progress, torn, fields)
        except FormatError as error:
            error.args = (f"{old}: {error}",)
            raise


def _name(given: PathLike) -> Name:
    text = os.fspath(given)
    return text if "://" in text else Path(text)


def _source(name: Name, storage_options: Mapping[str, Any] | None) -> Source:
    if isinstance(name, Path):
        return LocalFile(name)
    from stepson.remote import open_url

    return open_url(name, storage_options)


class _Still:
    """A file as long as it was at first: a run may go on writing to it.

    Args:
        source: of the file.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self.size = source.size

    def read_at(self, offset: int, length: int) -> bytes:
        return self._source.read_at(offset, max(0, min(length, self.size - offset)))

    def expect(self, ranges: Iterable[tuple[int, int]]) -> None:
        expect(self._source, ranges)

    def close(self) -> None:
        self._source.close()


def _recover(
    data: Source,
    old: Name,
    new: Path,
    basis: Basis,
    on_progress: Progress | None,
    torn: bool,
    fields: Iterable[str] | None,
) -> Recovery:
    size = data.size

    def report(done: int) -> None:
        if on_progress is not None:
            on_progress(min(done, 2 * size), 2 * size)

    tail = (basis.end, size) if torn and basis.end < size else None
    found = take_stock(
        data,
        basis.uuid,
        basis.schema,
        basis.last,
        rest=basis.rest,
        torn=tail,
        progress=report,
    )
    found.damages = [*basis.damages, *found.damages]
    chosen = _chosen(basis.schema, fields)
    lost, irregular = losses(data, found, chosen)
    schema = _schema(basis.schema, chosen, irregular)
    if not _anything(found) and (found.damages or basis.last is None):
        hint = "; `--torn` looks behind the last COMMIT, too" if not basis.sealed else ""
        raise FormatError("nothing sound was found in it" + hint)
    draft = Recovery.draft(old, new, size, basis, found, lost, irregular, torn)
    newborn = Newborn(new)
    try:
        result = _copy(newborn, data, schema, basis, found, draft, report)
        newborn.publish()
    except BaseException as error:
        newborn.discard()
        if isinstance(error, WriterError) and isinstance(error.__cause__, OSError):
            why = error.__cause__.strerror
            again = "nothing of it is left; make room, then give the same command again"
            raise WriterError(f"{new}: writing failed: {why}; {again}") from error
        raise
    newborn.release()
    newborn.sink.close()
    report(2 * size)
    return result


def _anything(found: Inventory) -> bool:
    """Whether there are frames or checkpoints to be saved."""
    return any(
        found.filler.spans(item.first, item.end)
        if item.kind == "lost"
        else item.kind in ("block", "checkpoint")
        for item in found.items
    )


def _basis(data: Source, like: Name | None, opener: Callable[[Name], Source]) -> Basis:
    if like is None:
        return find_basis(data, None)
    with closing(opener(like)) as lender:
        basis = find_basis(data, open_named(lender, like))
        if "SCHEMA" in basis.borrowed:
            check_lender(data, basis.schema, str(like))
        return basis


def _chosen(schema: Schema, fields: Iterable[str] | None) -> list[Field]:
    """The fields that are wanted, in the order of the file."""
    wanted = list(schema.places) if fields is None else list(fields)
    for name in wanted:
        schema.field(name)
    return [each for each in schema.fields if each.name in wanted]


def _schema(schema: Schema, chosen: list[Field], irregular: set[str]) -> Schema:
    """The fields of the new file."""
    try:
        return Schema(
            tuple(_irregular(each) if each.name in irregular else each for each in chosen),
            schema.n_atoms,
        )
    except SchemaError as error:
        names = ", ".join(sorted(irregular))
        raise SchemaError(
            f"samples of {names} are lost where other fields have some, which makes each a "
            f"cadence of its own: {error}; recover some fields into one file and the "
            "others into another: --fields NAME,NAME"
        ) from error


def _irregular(each: Field) -> Field:
    attributes = {**each.attributes, "every_before_recovery": each.every or 0}
    return replace(each, every=None, offset=0, attributes=attributes)


def _copy(
    newborn: Newborn,
    data: Source,
    schema: Schema,
    basis: Basis,
    found: Inventory,
    draft: Recovery,
    report: Callable[[int], None],
) -> Recovery:
    """Write the new file under its hidden name."""
    parent = None if basis.header is None else basis.header.parent
    created = datetime.now(UTC).isoformat(timespec="seconds")
    header = Header(uuid4().bytes, created, program(), parent=parent)
    metadata = {**basis.metadata, "recovered": _told(draft, basis)}
    copier = Copier(newborn.sink, header, schema, metadata, data, found, str(newborn.path))
    size, reached = data.size, 0
    for item in found.items:
        copier.take(item)
        reached = max(reached, min(item.place, size))
        report(size + reached)
    copier.finish()
    return replace(
        draft,
        frames=copier.frames,
        unaccounted=draft.unaccounted + copier.skipped,
        samples=dict(copier.samples),
        recovered={name: tuple(each) for name, each in copier.ranges(draft.lost).items()},
        checkpoints=tuple(copier.checkpoints),
    )


def _told(draft: Recovery, basis: Basis) -> dict[str, Any]:
    """What the metadata of the new file says about the old one."""
    told: dict[str, Any] = {
        "source": str(draft.source),
        "uuid": basis.uuid.hex(),
        "digest": None if basis.last is None else basis.last.commit.digest.hex(),
        "complete": draft.complete,
        "lost": {name: _pairs(each) for name, each in draft.lost.items() if each},
        "irregular": list(draft.irregular),
        "checkpoints_lost": np.array(draft.checkpoints_lost, np.int64),
        "metadata_lost": list(draft.metadata_lost),
        "borrowed": list(draft.borrowed),
        "torn_bytes": draft.torn_bytes,
        "torn_taken": draft.torn_taken,
        "skipped_bytes": draft.skipped_bytes,
        "unaccounted": draft.unaccounted,
        "damages": "\n".join(str(each) for each in draft.damages[:MAX_LINES]),
    }
    earlier: Mapping[str, Any] | None = basis.metadata.get("recovered")
    return told if earlier is None else {**told, "before": earlier}


def _pairs(ranges: Iterable[tuple[int, int]]) -> Any:
    return np.array(list(ranges), np.int64).reshape(-1, 2)
