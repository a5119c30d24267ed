"""What a URL stands for, as fsspec understands it: a file to read, or many."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stepson.errors import RemoteError
from stepson.remote.file import RemoteFile
from stepson.remote.filesystem import Filed
from stepson.remote.http import Http
from stepson.source import Followed, LocalFile

__all__ = ["match_url", "open_url"]


def open_url(url: str, storage_options: Mapping[str, Any] | None = None) -> Followed:
    """A source that reads a URL.

    Args:
        url: any that fsspec knows.
        storage_options: of its file system.

    Raises:
        RemoteError: it cannot be read.
    """
    system, path = _file_system(url, storage_options or {})
    protocols = system.protocol
    names = {protocols} if isinstance(protocols, str) else {*protocols}
    if "file" in names:
        return LocalFile(Path(path))
    return RemoteFile(Http(system, path) if "http" in names else Filed(system, path, url))


def match_url(pattern: str, storage_options: Mapping[str, Any] | None = None) -> list[str]:
    """The URLs that a URL with ``*`` in it matches, sorted.

    Raises:
        RemoteError: the file system cannot list them.
    """
    from fsspec.core import url_to_fs

    try:
        system, path = url_to_fs(pattern, **(storage_options or {}))
        found = [str(system.unstrip_protocol(each)) for each in system.glob(path)]
    except Exception as error:  # of any file system, which may do anything here
        reason = str(error) or type(error).__name__
        raise RemoteError(
            pattern, f"cannot be listed: {reason}; check URL and storage_options"
        ) from error
    return sorted(found)


def _file_system(url: str, options: Mapping[str, Any]) -> tuple[Any, str]:
    """The file system of a URL, and the path in it; nothing is fetched yet.

    Raises:
        RemoteError: unknown protocol, a missing package, options that do not fit.
    """
    from fsspec import filesystem
    from fsspec.core import url_to_fs

    try:
        if re.match(r"https?://[^/]*\[", url):  # "::" in it joins no two file systems
            system, path = filesystem("http", **options), url
        else:
            system, path = url_to_fs(url, **options)
    except ImportError as error:
        need = "stepson[remote]" if url.startswith("http") else "the package it names"
        raise RemoteError(url, f"{error}; install {need}") from error
    except Exception as error:  # of any file system, which may do anything here
        raise RemoteError(
            url, f"cannot be opened: {error}; check URL and storage_options"
        ) from error
    return system, path
