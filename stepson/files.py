"""The ways to files: `open` whatever there is, as one thing or as an ensemble."""

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, TypedDict, Unpack, overload

from stepson.errors import SchemaError, SeriesWarning, TornError
from stepson.follow import Follower
from stepson.series.assemble import assemble
from stepson.series.ensemble import Ensemble
from stepson.series.names import Name, PathLike, expand, find, is_pattern
from stepson.source import Followed, LocalFile
from stepson.trajectory import Trajectory
from stepson.writer import Writer
from stepson.writing import Options, append

__all__ = ["open", "open_many"]

StorageOptions = Mapping[str, Any] | None


class Reading(TypedDict, total=False):
    """How to read, beside `join`."""

    strict: bool
    storage_options: StorageOptions


class Following(TypedDict, total=False):
    """How to follow; see `Follower`."""

    timeout: float | None
    poll: float | None
    patience: float


class Appending(Options, total=False):
    """How to go on with a file."""

    break_lock: bool


READING = ("join", *Reading.__annotations__)
FOLLOWING = tuple(Following.__annotations__)
APPENDING = tuple(Appending.__annotations__)


@overload
def open(
    path: PathLike,
    mode: Literal["r"] = "r",
    *,
    follow: Literal[True],
    storage_options: StorageOptions = None,
    **options: Unpack[Following],
) -> Follower: ...
@overload
def open(path: PathLike, mode: Literal["a"], **options: Unpack[Appending]) -> Writer: ...
@overload
def open(
    path: PathLike | Iterable[PathLike],
    mode: Literal["r"] = "r",
    *,
    join: Literal[False],
    **options: Unpack[Reading],
) -> Ensemble: ...
@overload
def open(
    path: PathLike,
    mode: Literal["r"] = "r",
    *,
    join: Literal[True] | None = None,
    **options: Unpack[Reading],
) -> Trajectory: ...
@overload
def open(
    path: Iterable[PathLike],
    mode: Literal["r"] = "r",
    *,
    join: Literal[True],
    **options: Unpack[Reading],
) -> Trajectory: ...
@overload
def open(
    path: Iterable[PathLike],
    mode: Literal["r"] = "r",
    *,
    join: None = None,
    **options: Unpack[Reading],
) -> Trajectory | Ensemble: ...
def open(
    path: PathLike | Iterable[PathLike],
    mode: Literal["r", "a"] = "r",
    *,
    join: bool | None = None,
    strict: bool = False,
    follow: bool = False,
    storage_options: StorageOptions = None,
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
            `create`. Of following: timeout, poll, patience; as `Follower`.

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
    if isinstance(path, (str, os.PathLike)):
        if mode == "a":
            return append(path, **options)
        if join is not False and not is_pattern(path):
            (where,) = expand(path)
            source = _source(where, storage_options)
            if follow:
                return Follower(source, where, **options)
            return _trajectory(source, where, strict)
    if mode == "a" or follow:
        raise SchemaError(_one_only(mode, path))
    found = _together(path, join, strict, True, storage_options)
    return found.runs[0].open() if len(found) == 1 and join is not False else found


def open_many(
    path: PathLike | Iterable[PathLike],
    *,
    join: Literal[False] | None = None,
    strict: bool = False,
    warn: bool = True,
    storage_options: StorageOptions = None,
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
    storage_options: StorageOptions,
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
    known: tuple[str, ...]
    ignored: tuple[str, ...]
    way, known, ignored = "reading", READING, ()
    if mode == "a":
        way, known, ignored = "mode 'a'", APPENDING, (*READING, "follow")
    elif "follow" in given:
        way, known, ignored = "follow=True", FOLLOWING, ("join", "strict")
    for name in given:
        if name in ignored:
            raise SchemaError(f"{way} takes no {name}: leave out one of the two")
    for name in sorted(set(options) - set(known)):
        raise SchemaError(f"{way} takes no option {name!r}; it has {', '.join(known)}")


def _one_only(mode: str, path: object) -> str:
    """Why several files, a folder or a glob cannot be opened in this way."""
    if mode == "a":
        several = isinstance(path, (list, tuple, set))
        given = "several; give the one to go on with" if several else type(path).__name__
        return f"mode {mode!r} takes the name of one file, not {given}"
    return "follow=True takes the name of one file; only the last one of a run grows"


def _source(name: Name, storage_options: StorageOptions) -> Followed:
    """What reads a local file or a URL.

    Raises:
        FormatError: it cannot be opened.
    """
    if isinstance(name, str):
        from stepson.remote import open_url

        return open_url(name, storage_options)
    if storage_options is not None:
        raise SchemaError(f"storage_options are for URLs, and {name} is none")
    return LocalFile(name)


def _trajectory(source: Followed, where: Name, strict: bool) -> Trajectory:
    found = Trajectory(source, where)
    if strict and found.torn_bytes:
        found.close()
        raise TornError(valid_until=found.opened.tail.valid_until, size=found.size)
    return found
