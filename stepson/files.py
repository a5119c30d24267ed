"""The two ways to a file, `open` and `create`; `start` and `resume` do it on any sink."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack, overload
from uuid import uuid4

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stepson.errors import FormatError, SchemaError, TornError, VersionError, WriterError
from stepson.follow import Follower
from stepson.lock import Newborn, lock, sweep, unlock
from stepson.opening import READ_COMPATIBLE, Header, open_named
from stepson.records import MAJOR
from stepson.schema import Field, Schema, as_fields
from stepson.source import LocalFile, LocalSink, Sink, Source
from stepson.trajectory import Trajectory
from stepson.transaction import Appender
from stepson.writer import Writer

__all__ = ["create", "open", "resume", "start"]

PathLike = str | os.PathLike[str]
Array = NDArray[Any]
RESERVED = ("numbers", "masses", "cell", "pbc", "timestep")


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


@overload
def open(
    path: PathLike,
    mode: Literal["r"] = "r",
    *,
    strict: bool = False,
    storage_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> Trajectory: ...
@overload
def open(
    path: PathLike, mode: Literal["r"] = "r", *, follow: Literal[True], **options: Any
) -> Follower: ...
@overload
def open(
    path: PathLike, mode: Literal["a"], *, strict: bool = False, **options: Any
) -> Writer: ...
def open(
    path: PathLike,
    mode: Literal["r", "a"] = "r",
    *,
    strict: bool = False,
    follow: bool = False,
    storage_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> Trajectory | Follower | Writer:
    """Open a `.son`, whatever its size, in milliseconds.

    Args:
        path: of the file, or a URL that fsspec knows (https, s3, gs ...), to read only.
        mode: "r" to read; "a" to go on after the last commit, whatever happened to the
            tail.
        strict: refuse a file that ends in uncommitted bytes.
        follow: iterate over the frames of a run in progress as they are committed.
        storage_options: of the file system of a URL: credentials, headers; see fsspec.
        **options: of a writer: commit, commit_seconds, verify, threaded, break_lock; as
            `create`. Of following: timeout, poll; as `Follower`.

    Raises:
        FormatError: it is no `.son`.
        DamagedError: what was committed does not verify.
        TornError: uncommitted bytes, and `strict`.
        WriterError: another process writes to it.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise SchemaError(f"open() takes the name of one file, not {type(path).__name__}")
    where = _named(path)
    if isinstance(where, Path) and where.is_dir():
        raise FormatError(f"{where} is a folder, not a .son file")
    if mode == "a":
        return _open_append(_local(where, "appended to"), **options)
    if mode != "r":
        raise SchemaError(f"mode is 'r' or 'a', not {mode!r}; use create() for a new file")
    if follow:
        return Follower(_source(where, storage_options), where, **options)
    if options:
        raise SchemaError(f"reading takes no option {next(iter(options))!r}")
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


def _source(name: Path | str, storage_options: Mapping[str, Any] | None = None) -> Source:
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
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
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
            sink, opened, program=_program(), verify=verify, name=str(path)
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
        parent: the trajectory that this file continues.
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
    schema = Schema(as_fields(fields), len(_numbers(numbers)))
    content = _metadata(_numbers(numbers), masses, cell, pbc, timestep, metadata or {})
    newborn = Newborn(where)
    try:
        header = _header(parent)
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


def _numbers(numbers: ArrayLike) -> Array:
    found = np.asarray(numbers)
    if found.ndim != 1 or (found.size and found.dtype.kind not in "iu"):
        raise SchemaError("numbers are the atomic numbers of all atoms, shape (n,)")
    return found.astype(np.int64)


def _metadata(
    numbers: Array,
    masses: ArrayLike | None,
    cell: ArrayLike | None,
    pbc: bool | Sequence[bool],
    timestep: float | None,
    rest: Mapping[str, Any],
) -> dict[str, Any]:
    """The tree of METADATA: what `create` names, and the rest."""
    for key in RESERVED:
        if key in rest:
            raise SchemaError(
                f"metadata cannot hold {key!r}: it is an argument of create()"
            )
    return {
        "numbers": numbers,
        "masses": None if masses is None else _floats("masses", masses, numbers.shape),
        "cell": None if cell is None else _floats("cell", cell, (3, 3)),
        "pbc": _periodic(pbc),
        "timestep": None if timestep is None else _duration(timestep),
        **rest,
    }


def _floats(name: str, values: ArrayLike, shape: tuple[int, ...]) -> Array:
    try:
        found = np.asarray(values).astype(np.float64, casting="same_kind")
    except (TypeError, ValueError):
        raise SchemaError(f"{name} are real numbers of shape {shape}") from None
    if found.shape != shape:
        raise SchemaError(f"{name} have shape {shape}, not {found.shape}")
    if not np.isfinite(found).all():
        raise SchemaError(f"{name} are not finite")
    return found


def _periodic(pbc: object) -> list[bool]:
    found = np.asarray(pbc)
    if found.dtype.kind not in "biu" or found.shape not in ((), (3,)):
        raise SchemaError(f"pbc is True, False, or three of them, not {pbc!r}")
    return [bool(each) for each in np.broadcast_to(found, 3)]


def _duration(timestep: object) -> float:
    if not isinstance(timestep, (int, float, np.number)) or not 0 < timestep < np.inf:
        raise SchemaError(f"timestep is a positive number of fs, not {timestep!r}")
    return float(timestep)


def _header(parent: Trajectory | Mapping[str, Any] | None) -> Header:
    if isinstance(parent, Trajectory):
        last = parent.opened.tail.commit.end_step - 1
        parent = {"uuid": parent.uuid, "digest": parent.digest, "step": last}
    created = datetime.now(UTC).isoformat(timespec="seconds")
    return Header(uuid4().bytes, created, _program(), parent=parent)


def _program() -> str:
    from stepson import __version__

    return f"stepson {__version__}"
