"""The ways to files, `open` and `create`; `start` and `resume` do it on any sink."""

import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack, overload

from numpy.typing import ArrayLike

from stepson.errors import (
    FormatError,
    SchemaError,
    SeriesWarning,
    TornError,
    VersionError,
    WriterError,
)
from stepson.follow import Follower
from stepson.heading import atomic_numbers, new_header, new_metadata, program
from stepson.lock import Newborn, lock, sweep, unlock
from stepson.opening import READ_COMPATIBLE, Header, open_named
from stepson.records import MAJOR
from stepson.schema import Field, Schema, as_fields
from stepson.series.ensemble import Ensemble, assemble
from stepson.series.names import PathLike, expand, find, is_pattern
from stepson.source import Followed, LocalFile, LocalSink, Sink, open_regular
from stepson.trajectory import Trajectory
from stepson.transaction import Appender
from stepson.writer import Writer

__all__ = ["create", "open", "open_many", "resume", "start"]


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


READING: tuple[str, ...] = ("join", "strict", "storage_options")
APPENDING = (*Options.__annotations__, "break_lock")
FOLLOWING = ("timeout", "poll", "patience")


@overload
def open(
    path: PathLike, mode: Literal["r"] = "r", *, follow: Literal[True], **options: Any
) -> Follower: ...
@overload
def open(path: PathLike, mode: Literal["a"], **options: Any) -> Writer: ...
@overload
def open(
    path: PathLike | Iterable[PathLike],
    mode: Literal["r"] = "r",
    *,
    join: Literal[False],
    strict: bool = False,
    storage_options: Mapping[str, Any] | None = None,
) -> Ensemble: ...
@overload
def open(
    path: PathLike,
    mode: Literal["r"] = "r",
    *,
    join: Literal[True] | None = None,
    strict: bool = False,
    storage_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> Trajectory: ...
@overload
def open(
    path: Iterable[PathLike],
    mode: Literal["r"] = "r",
    *,
    join: Literal[True],
    strict: bool = False,
    storage_options: Mapping[str, Any] | None = None,
) -> Trajectory: ...
@overload
def open(
    path: Iterable[PathLike],
    mode: Literal["r"] = "r",
    *,
    join: None = None,
    strict: bool = False,
    storage_options: Mapping[str, Any] | None = None,
) -> Trajectory | Ensemble: ...
def open(
    path: PathLike | Iterable[PathLike],
    mode: Literal["r", "a"] = "r",
    *,
    join: bool | None = None,
    strict: bool = False,
    follow: bool = False,
    storage_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> Trajectory | Ensemble | Follower | Writer:
    """Open a `.son`, or many, whatever their size, in milliseconds each.

    One file is a `Trajectory`. So are files that continue one another: each names its
    parent, and the order in which they are given does not matter. Independent runs make an
    `Ensemble`. What a folder or a glob holds is only known when it is looked at, and type
    checkers take one name for a trajectory: where runs are wanted, `open_many` always gives
    an ensemble.

    Args:
        path: a file, a URL that fsspec knows (https, s3, gs ...), a glob, a folder with
            files anywhere below it, or a list of these. URLs are for reading only.
        mode: "r" to read; "a" to go on after the last commit, whatever happened to the
            tail.
        join: True: read all files as one trajectory, in the order of their steps, even if
            they name no parent (imported ones); an error where steps overlap. False: give
            each file by itself, in an ensemble.
        strict: refuse a file that ends in uncommitted bytes; with several files, whatever
            would be a `SeriesWarning`.
        follow: iterate over the frames of a run in progress as they are committed.
        storage_options: of the file system of a URL: credentials, headers; see fsspec.
        **options: of a writer: commit, commit_seconds, verify, threaded, break_lock; as
            `create`. Of following: timeout, poll, patience; as
            `Follower`.

    Raises:
        FormatError: it is no `.son`, or there is none.
        DamagedError: what was committed does not verify.
        TornError: uncommitted bytes, and `strict`.
        SchemaError: files that cannot be read together.
        WriterError: another process writes to it.

    Warns:
        SeriesWarning: gaps or overlaps between files that continue one another, files that
            were left out, or are apart though they name one another.
    """
    given = {"join": join is not None, "strict": strict, "follow": follow}
    given["storage_options"] = storage_options is not None
    _refuse_ignored(mode, [name for name, is_given in given.items() if is_given], options)
    single = isinstance(path, (str, os.PathLike)) and (mode == "a" or not is_pattern(path))
    if not isinstance(path, (str, os.PathLike)) or not single or join is False:
        if mode == "a" or follow:
            raise SchemaError(_one_only(mode))
        found = _together(path, join, strict, True, storage_options)
        return found.runs[0].open() if len(found) == 1 and join is not False else found
    return _open_one(path, mode, strict, follow, storage_options, options)


def open_many(
    path: PathLike | Iterable[PathLike],
    *,
    join: Literal[False] | None = None,
    strict: bool = False,
    warn: bool = True,
    storage_options: Mapping[str, Any] | None = None,
) -> Ensemble:
    """Open what `open` opens, always as an ensemble, even of a single run.

    Args:
        path: as in `open`.
        join: False: each file by itself.
        strict: as in `open`.
        warn: False: what there is to say stands in ``remarks``, and no warning is given.
        storage_options: as in `open`.

    Raises:
        StepsonError: as `open`.

    Warns:
        SeriesWarning: as `open`.
    """
    return _together(path, join, strict, warn, storage_options)


def _together(
    path: PathLike | Iterable[PathLike],
    join: bool | None,
    strict: bool,
    warn: bool,
    storage_options: Mapping[str, Any] | None,
) -> Ensemble:
    """What `open` and `open_many` share; the warnings are of their caller."""
    source_of = partial(_source, storage_options=storage_options)
    found = assemble(find(path, storage_options), source_of, join=join, strict=strict)
    for remark in found.remarks if warn else ():
        warnings.warn(remark, SeriesWarning, stacklevel=3)
    return found


def _refuse_ignored(mode: str, given: Sequence[str], options: Mapping[str, Any]) -> None:
    """Refuse what would change nothing: an option of another way to open, or of none.

    Args:
        mode: as in `open`.
        given: names of arguments of `open` that are not at their defaults.
        options: as in `open`.
    """
    if mode not in ("r", "a"):
        raise SchemaError(f"mode is 'r' or 'a', not {mode!r}; use create() for a new file")
    way, known = "reading", READING
    ignored: tuple[str, ...] = ()
    if mode == "a":
        way, known, ignored = "mode 'a'", APPENDING, (*READING, "follow")
    elif "follow" in given:
        way, known, ignored = "follow=True", FOLLOWING, ("join", "strict")
    for name in given:
        if name in ignored:
            raise SchemaError(f"{way} takes no {name}: leave out one of the two")
    for name in sorted(set(options) - (set() if known is READING else set(known))):
        raise SchemaError(f"{way} takes no option {name!r}; it has {', '.join(known)}")


def _one_only(mode: str) -> str:
    """Why several files, a folder or a glob cannot be opened in this way."""
    if mode == "a":
        return f"mode {mode!r} takes the name of one file, not several"
    return "follow=True takes the name of one file; only the last one of a run grows"


def _open_one(
    path: PathLike,
    mode: str,
    strict: bool,
    follow: bool,
    storage_options: Mapping[str, Any] | None,
    options: Mapping[str, Any],
) -> Trajectory | Follower | Writer:
    (where,) = expand(path) if mode == "r" else [_named(path)]
    if isinstance(where, Path) and os.path.isdir(where):
        raise FormatError(f"{where} is a folder, not a .son file")
    if mode == "a":
        return _open_append(_local(where, "appended to"), **options)
    if follow:
        return Follower(_source(where, storage_options), where, **options)
    found = Trajectory(_source(where, storage_options), where)
    if strict and found.torn_bytes:
        found.close()
        raise TornError(valid_until=found.opened.tail.valid_until, size=found.size)
    return found


def _named(path: PathLike) -> Path | str:
    """URLs stay text: a `Path` would swallow one of their slashes."""
    text = os.fspath(path)
    return text if "://" in text else Path(text)


def _local(where: Path | str, verb: str) -> Path:
    if isinstance(where, str):
        raise WriterError(
            f"{where} is a URL, which cannot be {verb}: write a local file, then upload it"
        )
    return where


def _source(name: Path | str, storage_options: Mapping[str, Any] | None = None) -> Followed:
    """What reads a local file (a `Path`) or a URL (text).

    Raises:
        FormatError: it cannot be opened.
    """
    if isinstance(name, str):
        from stepson.remote import open_url

        return open_url(name, storage_options)
    if storage_options is not None:
        raise SchemaError(f"storage_options are for URLs, and {name} is none")
    return LocalFile(name)


def _open_append(path: Path, *, break_lock: bool = False, **options: Any) -> Writer:
    """Lock first, so that nobody else moves the tail; then `resume`."""
    try:
        descriptor = open_regular(path, os.O_RDWR | os.O_APPEND)
    except FileNotFoundError:
        raise FormatError(f"{path}: there is no such file; use create()") from None
    except OSError as error:
        raise WriterError(
            f"{path} cannot be opened for append: {error.strerror}"
        ) from error
    sink = LocalSink(descriptor)
    try:
        lock(descriptor, path, break_lock=break_lock)
        sweep(path.parent, descriptor)
        try:
            return resume(sink, path, on_close=lambda: unlock(path), **options)
        except BaseException:
            unlock(path)
            raise
    except BaseException:
        sink.close()
        raise


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
        sink.forget()
    except OSError as error:
        raise WriterError(f"{path} cannot be synced: {error.strerror or error}") from error
    try:
        opened = open_named(sink, path)
        for feature in opened.header.read_compatible:
            if feature not in READ_COMPATIBLE:
                raise VersionError(found=MAJOR, supported=MAJOR, feature=feature)
        appender = Appender.resume(
            sink, opened, program=program(), verify=verify, name=str(path)
        )
    except OSError as error:
        raise WriterError(f"{path} cannot be read: {error.strerror or error}") from error
    return Writer(path, appender, opener=open, **options)


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
    where = _local(_named(path), "created")
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
        writer = start(
            newborn.sink,
            where,
            header,
            schema,
            content,
            on_close=newborn.release,
            **options,
        )
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
    on_close: Callable[[], None] = lambda: None,
    **options: Unpack[Options],
) -> Writer:
    """Write everything up to the first COMMIT on an empty sink, and go on from there.

    Raises:
        SchemaError: the metadata cannot be stored.
        WriterError: the sink failed.
    """
    verify = options.get("verify", True)
    appender = Appender.create(
        sink, header, schema, metadata, verify=verify, name=str(path)
    )
    return Writer(
        path,
        appender,
        opener=open,
        on_close=on_close,
        commit=options.get("commit", "auto"),
        commit_seconds=options.get("commit_seconds", 30.0),
        threaded=options.get("threaded", True),
    )
