"""From what a user names to files: a file, a URL, a glob, a folder, or a list of these.

A name that exists is a file, whatever signs are in it; otherwise ``*``, ``?`` and ``[``
make it a glob. A folder stands for every ``.son`` below it, and so does a folder that a
glob matches. Only what a glob or a folder brought may be left out when it turns out to be
no trajectory: a file that was named must be one. In a URL only ``*`` makes a glob.
"""

import glob
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from stepson.errors import FormatError, SchemaError

__all__ = ["Name", "Named", "PathLike", "as_name", "expand", "find", "is_pattern", "labels"]

PathLike = str | os.PathLike[str]
Name = Path | str
"""A URL is text: a `Path` would swallow one of its slashes."""
SUFFIX = ".son"


class Named(NamedTuple):
    """A file that was found."""

    where: Name
    asked: bool
    """Named by itself, not matched by a glob or found in a folder."""
    label: str
    """Short, and unlike all others: ``production/00``."""


def find(
    given: PathLike | Iterable[PathLike], storage_options: Mapping[str, Any] | None = None
) -> list[Named]:
    """All files that are meant, in the order given, sorted within each folder and glob.

    Args:
        given: a name, or several.
        storage_options: of the file system of URLs.

    Raises:
        FormatError: a folder or a glob without any file.
        SchemaError: what is given is no name, or an empty list.
    """
    single = isinstance(given, (str, os.PathLike))
    entries = _list([given] if single else given)
    found: list[tuple[Name, bool]] = []
    for entry in entries:
        matches, asked = expand(entry, storage_options), not is_pattern(entry)
        if not matches:
            raise FormatError(_nothing(entry))
        found += [(each, asked) for each in matches]
    root = entries[0] if single and _is_folder(entries[0]) else None
    known = labels([where for where, _ in found], root)
    return [Named(*each, label) for each, label in zip(found, known, strict=True)]


def expand(entry: PathLike, storage_options: Mapping[str, Any] | None = None) -> list[Name]:
    """The files that one name stands for; a name that is no pattern stands for itself."""
    text = os.fspath(entry)
    if not text:
        raise FormatError("an empty name; give a file, a glob or a folder")
    if not is_pattern(entry):
        return [as_name(entry)]
    if "://" in text:
        from stepson.remote import match_url

        return list(match_url(text, storage_options))
    if _is_folder(text):
        return list(_below(Path(text)))
    found: list[Name] = []
    for match in sorted(glob.glob(text, recursive=True)):
        path = Path(match)
        found += _below(path) if path.is_dir() else [path]
    return list(dict.fromkeys(found))


def as_name(entry: PathLike) -> Name:
    """A URL as text, anything else as a `Path`."""
    text = os.fspath(entry)
    return text if "://" in text else Path(text)


def _list(given: object) -> list[PathLike]:
    if isinstance(given, (bytes, bytearray)) or not isinstance(given, Iterable):
        raise SchemaError(
            f"open() takes a file, a URL, a glob, a folder, or a list of these, not "
            f"{type(given).__name__}"
        )
    found = list(given)
    for each in found:
        if not isinstance(each, (str, os.PathLike)):
            raise SchemaError(f"a list of names holds {type(each).__name__}, no name")
    if not found:
        raise SchemaError("an empty list of files; give at least one name")
    return found


def is_pattern(entry: PathLike) -> bool:
    """Whether it is a folder, or a glob and not the name of a file."""
    text = os.fspath(entry)
    if "://" in text:
        return "*" in text
    return _is_folder(text) or (glob.has_magic(text) and not os.path.lexists(text))


def _is_folder(entry: PathLike) -> bool:
    # `Path.is_dir` raises at names that no file can have.
    return "://" not in os.fspath(entry) and os.path.isdir(entry)


def _below(folder: Path) -> list[Path]:
    """Files of a folder; like a glob it does not look into what is hidden."""
    found = (path for path in folder.rglob(f"*{SUFFIX}") if not path.is_dir())
    return sorted(path for path in found if not _is_hidden(path.relative_to(folder)))


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _nothing(entry: PathLike) -> str:
    if _is_folder(entry):
        return f"{entry} is a folder without any {SUFFIX} file"
    return f"{entry}: no such file, and nothing matches it as a glob"


def labels(names: Sequence[Name], root: PathLike | None = None) -> list[str]:
    """Names as short as they can be and still tell one from another.

    Args:
        names: of files.
        root: the folder that they are below; default: the nearest that they share.
    """
    parts = [_parts(name) for name in names]
    shared = _shared([each[:-1] for each in parts]) if root is None else len(_parts(root))
    parts = [each[shared:] for each in parts]
    if len({each[-1] for each in parts}) == 1 and all(len(each) > 1 for each in parts):
        parts = [each[:-1] for each in parts]
    found = ["/".join(each).removesuffix(SUFFIX) for each in parts]
    return found if len(set(found)) == len(names) else [str(name) for name in names]


def _parts(name: PathLike) -> Sequence[str]:
    text = os.fspath(name)
    return text.split("/") if "://" in text else Path(text).parts


def _shared(folders: Sequence[Sequence[str]]) -> int:
    """How many components all folders start with."""
    same = (len(set(column)) == 1 for column in zip(*folders, strict=False))
    return next((i for i, each in enumerate(same) if not each), min(map(len, folders)))
