"""The ways to a `Writer`: `create` a file, or `append` to one.

`start` and `resume` do the same on any sink.
"""

import errno
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

from numpy.typing import ArrayLike

from stepson.errors import FormatError, SchemaError, VersionError, WriterError
from stepson.heading import atomic_numbers, new_header, new_metadata, program
from stepson.lock import Newborn, lock, sweep, unlock
from stepson.opening import READ_COMPATIBLE, Header, Opened, named, open_named
from stepson.records import MAGIC_SIZE, MAJOR, RecordType
from stepson.scan import find_commit, read_record
from stepson.schema import Field, Schema, as_fields
from stepson.series.names import PathLike, as_name, is_pattern
from stepson.source import LocalFile, LocalSink, Sink, open_regular
from stepson.trajectory import Trajectory
from stepson.transaction import Appender
from stepson.writer import Writer

__all__ = ["Options", "append", "create", "resume", "start"]


class Options(TypedDict, total=False):
    """How a writer works."""

    commit: Literal["auto", "manual"]
    """"auto" (default) commits full blocks by itself; "manual" only at `Writer.commit`."""
    commit_seconds: float
    """In auto mode, the longest that a frame waits for its commit while frames come; 30."""
    verify: bool
    """Decompress and compare every chunk; True."""
    threaded: bool
    """Encode and write beside the caller; True."""


def create(
    path: PathLike,
    *,
    fields: Iterable[Field],
    numbers: ArrayLike,
    masses: ArrayLike | None = None,
    cell: ArrayLike | None = None,
    pbc: bool | Sequence[bool] = True,
    timestep: float | None = None,
    metadata: Mapping[str, Any] | None = None,
    parent: Trajectory | Mapping[str, Any] | None = None,
    **options: Unpack[Options],
) -> Writer:
    """Start a new file; an existing one is never overwritten.

    Args:
        path: of the file, in a folder that exists.
        fields: what is recorded.
        numbers: atomic numbers, shape ``(n,)``; they also say how many atoms there are.
        masses: shape ``(n,)``, amu.
        cell: rows are lattice vectors, shape ``(3, 3)``, Å; None for a cluster or where it
            is a field.
        pbc: periodic along each lattice vector.
        timestep: fs, so that time = step * timestep.
        metadata: anything else worth knowing: nested dicts of numbers, text, lists, arrays.
        parent: the trajectory that this file continues: it goes on from its last commit,
            with later steps; or a dict with "uuid", "digest", and "step", the last step of
            it that counts.
        **options: how to write, see `Options`.

    Raises:
        SchemaError: fields or metadata cannot be stored.
        WriterError: the file exists, or cannot be created.
    """
    where = _local(path, "created", "write a local file, then upload it")
    unknown = set(options) - set(Options.__annotations__)
    if unknown:
        known = ", ".join(Options.__annotations__)
        raise SchemaError(f"create() takes no option {min(unknown)!r}; it has {known}")
    atoms = atomic_numbers(numbers)
    schema = Schema(as_fields(fields), len(atoms))
    content = new_metadata(atoms, masses, cell, pbc, timestep, metadata or {})
    newborn = Newborn(where)
    try:
        header = new_header(parent)
        sink, release = newborn.sink, newborn.release
        writer = start(sink, where, header, schema, content, on_close=release, **options)
    except BaseException:
        newborn.discard()
        raise
    try:
        newborn.publish()
    except BaseException:
        writer.abandon()
        raise
    return writer


def start(
    sink: Sink,
    path: Path,
    header: Header,
    schema: Schema,
    metadata: Mapping[str, Any],
    *,
    verify: bool = True,
    **options: Any,
) -> Writer:
    """Write everything up to the first COMMIT on an empty sink, and go on from there.

    Args:
        sink: where to.
        path: what the file is called.
        header: of the file.
        schema: of the file.
        metadata: of the file.
        verify: as in `Options`.
        **options: the others of `Writer`.

    Raises:
        SchemaError: the metadata cannot be stored.
        WriterError: the sink failed.
    """
    appender = Appender.create(
        sink, header, schema, metadata, verify=verify, name=str(path)
    )
    return Writer(path, appender, opener=_reader, **options)


def append(path: PathLike, *, break_lock: bool = False, **options: Any) -> Writer:
    """Go on after the last commit of a file.

    Locked first, so that nobody else moves the tail.

    Args:
        path: of the file, whatever happened to its tail.
        break_lock: do not believe the lock of another host; see `stepson.lock`.
        **options: how to write, see `Options`.

    Raises:
        FormatError: it is no `.son`, or what was committed does not verify.
        WriterError: another process writes to it, or it cannot be written.
    """
    where = _local(path, "appended to", "download it, append to the copy, upload that")
    if not os.fspath(path):
        raise FormatError("an empty name; mode 'a' takes the name of a file")
    if os.path.isdir(where):
        raise FormatError(
            f"{where} is a folder, not a .son file; mode 'a' takes the name of a file in it"
        )
    try:
        descriptor = open_regular(where, os.O_RDWR | os.O_APPEND)
    except FileNotFoundError:
        raise FormatError(f"{where}: {_missing(where)}") from None
    except OSError as error:
        rights = isinstance(error, PermissionError) or error.errno == errno.EROFS
        advice = (
            "get the right to write, or append to a copy" if rights else "check the name"
        )
        raise WriterError(
            f"{where} cannot be opened for append: {error.strerror}; {advice}"
        ) from error
    with ExitStack() as undo:
        sink = LocalSink(descriptor)
        undo.callback(sink.close)
        lock(descriptor, where, break_lock=break_lock)
        sweep(where.parent, descriptor)
        undo.callback(unlock, where)
        writer = resume(sink, where, on_close=partial(unlock, where), **options)
        undo.pop_all()
    return writer


def resume(sink: Sink, path: Path, *, verify: bool = True, **options: Any) -> Writer:
    """Go on with a file on any sink whose lock is held; ``spec/son-1.md`` 3.

    What is found may not have reached the disk, so it is synced and read back before it is
    believed.

    Raises:
        FormatError: it is no `.son`, or what was committed does not verify.
        VersionError: it has a feature that must be kept up and is not known here.
        WriterError: the sink failed.
    """
    try:
        sink.sync()
    except OSError as error:
        raise WriterError(
            f"{path} cannot be synced: {error.strerror or error}; check the disk before "
            "more is written to it"
        ) from error
    try:
        opened = _read_back(sink, path)
        with named(path):
            for feature in opened.header.read_compatible:
                if feature not in READ_COMPATIBLE:
                    raise VersionError(found=MAJOR, supported=MAJOR, feature=feature)
            appender = Appender.resume(
                sink, opened, program=program(), verify=verify, name=str(path)
            )
    except OSError as error:
        raise WriterError(
            f"{path} cannot be read: {error.strerror or error}; check the disk before "
            "more is written to it"
        ) from error
    return Writer(path, appender, opener=_reader, **options)


def _read_back(sink: Sink, path: Path) -> Opened:
    """Open a file as the disk has it, which after a failed sync is not what is cached.

    Only the last transaction can be missing there, so to drop what is behind the COMMIT in
    front of it is enough, and costs the same whatever the size of the file. Where anything
    fails, or an earlier transaction turns out to count, nothing cached is believed.
    """
    start = _surely_synced(sink)
    sink.forget(start)
    with suppress(FormatError):
        opened = open_named(sink, path)
        commit = opened.tail.commit
        # what the writer will ask for, some of which may stand far in front
        opened.instead.settled(opened.table, opened.tree.roots, commit)
        if commit.start > start:
            return opened
    sink.forget()
    return open_named(sink, path)


def _surely_synced(sink: Sink) -> int:
    """The COMMIT in front of the last that is found; 0 where none is.

    No byte behind it was written before its sync had returned.
    """
    size = sink.size
    with suppress(FormatError):
        head = read_record(sink, MAGIC_SIZE, RecordType.HEADER, size)
        uuid = Header.from_map(head.map, head.offset).uuid
        return find_commit(sink, uuid, size).previous
    return 0


def _reader(path: Path) -> Trajectory:
    """What `Writer.trajectory` gives."""
    return Trajectory(LocalFile(path), path)


def _local(path: PathLike, verb: str, advice: str) -> Path:
    """The path of a local file; refuse a URL, and say what to do instead."""
    where = as_name(path)
    if isinstance(where, str):
        if where.startswith("file:"):
            advice = "give the path of the file instead"
        raise WriterError(f"{where} is a URL, which cannot be {verb}: {advice}")
    return where


def _missing(path: Path) -> str:
    """What to say of a name that is none of a file."""
    if is_pattern(path):
        return "there is no such file, and mode 'a' takes no glob; give one name"
    return "there is no such file; check the name, or use create() for a new one"
