"""Files behind a URL, read in ranges through fsspec."""

from collections.abc import Mapping
from typing import Any

from stepson.source import Source

__all__ = ["open_url"]


class _Remote:
    def __init__(self, system: Any, path: str) -> None:
        self._system = system
        self._path = path

    @property
    def size(self) -> int:
        """Bytes there are, as of now."""
        return int(self._system.size(self._path))

    def read_at(self, offset: int, length: int) -> bytes:
        """At most `length` bytes from `offset` on."""
        return bytes(self._system.cat_file(self._path, start=offset, end=offset + length))

    def close(self) -> None:
        """Nothing to let go of."""


def open_url(url: str, storage_options: Mapping[str, Any] | None = None) -> Source:
    """A source that reads a URL."""
    from fsspec.core import url_to_fs

    system, path = url_to_fs(url, **(storage_options or {}))
    return _Remote(system, path)
