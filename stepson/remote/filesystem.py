"""Ranges of any file system of fsspec but HTTP, through its ``cat_file``.

S3, Google and Azure retry and sign by themselves there.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from stepson.errors import RemoteError
from stepson.remote.transport import Passing, Reply, folder_hint

__all__ = ["Filed"]

T = TypeVar("T")


class Filed:
    """A path of any other file system of fsspec."""

    def __init__(self, system: Any, path: str, url: str) -> None:
        self.url = url
        self._system = system
        self._path = path

    def fetch(self, start: int, length: int) -> Reply:
        """At most `length` bytes from `start` on; the last ones where it is negative."""
        if start < 0:
            return self._last(length)
        data = self._ask(lambda: self._part(start, start + length))
        return Reply(data, None, None)

    def _part(self, start: int, end: int) -> bytes:
        try:
            return bytes(self._system.cat_file(self._path, start=start, end=end))
        except OSError as error:
            if "not satisfiable" in str(error):  # S3, of a range behind the end
                return b""
            raise

    def _last(self, length: int) -> Reply:
        """A file system that takes no negative start is told the place instead."""
        try:
            data = self._system.cat_file(self._path, start=-length)
        except (FileNotFoundError, PermissionError) as error:
            raise self._explained(error) from error
        except Exception:
            size = self.size()
            found = self.fetch(max(0, size - length), length)
            return Reply(found.data, size, None)
        return Reply(bytes(data), len(data) if len(data) < length else None, None)

    def size(self) -> int:
        """Bytes there are, as of now."""

        def ask() -> int:
            self._system.invalidate_cache(self._path)
            return int(self._system.size(self._path))

        return self._ask(ask)

    def _ask(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except Exception as error:
            raise self._explained(error) from error

    def _explained(self, error: Exception) -> Exception:
        text = str(error) or type(error).__name__
        if isinstance(error, (FileNotFoundError, IsADirectoryError)):
            missing = "there is no such file; check the URL"
            return RemoteError(
                self.url, folder_hint(self.url) if self._is_folder() else missing
            )
        if isinstance(error, PermissionError) or "credentials" in text.lower():
            return RemoteError(
                self.url,
                f"access is refused ({text}); pass credentials in storage_options, or "
                '{"anon": True} for public data',
            )
        if isinstance(error, OSError):
            return Passing(text)
        if isinstance(error, (MemoryError, RecursionError)):
            return error
        return RemoteError(self.url, f"{text}; check the URL")

    def _is_folder(self) -> bool:
        try:
            return bool(self._system.isdir(self._path))
        except Exception:  # of any file system, which may do anything here
            return False
