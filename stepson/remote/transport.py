"""One range of a URL, fetched: the only module that knows fsspec and HTTP.

`Http` sends range requests itself, through the session of fsspec's own file system, so that
its ``storage_options`` (headers, authentication, certificates) count: it needs the status
and the headers of the answer. A server that ignores ``Range`` is refused before its body is
read, ``Content-Range`` tells the size without a request of its own, and ``ETag`` tells when
the file has changed. `Filed` takes any other file system of fsspec through ``cat_file``;
S3, Google and Azure retry and sign by themselves there.

`insist` repeats what may go away by itself: connections that break, time-outs, the statuses
408, 425, 429 and 5xx, answers that end too early. Anything else is one clear line at once.
"""

import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

from stepson.errors import RemoteError

__all__ = ["Passing", "Reply", "Transport", "insist", "transport_for"]

WAITS = (0.2, 0.6, 1.8)
"""Seconds before the second, third and fourth attempt."""
CONNECT_SECONDS = 20.0
SILENT_SECONDS = 30.0
"""A connection that brings no byte for so long is given up."""
PASSING = frozenset({408, 425, 429, *range(500, 600)}) - {501, 505}
T = TypeVar("T")


class Reply(NamedTuple):
    """What came back."""

    data: bytes
    size: int | None
    """Of the whole file, where the answer tells."""
    version: str | None
    """What changes when the file does (``ETag``), where the answer tells."""


class Transport(Protocol):
    """Fetches ranges of one URL."""

    url: str

    def fetch(self, start: int, length: int) -> Reply:
        """At most `length` bytes from `start` on; the last ones where it is negative."""

    def size(self) -> int:
        """Bytes there are, as of now."""


class Passing(Exception):
    """Something that may go away by itself."""


def insist(url: str, offset: int | None, call: Callable[[], T]) -> T:
    """Call until it succeeds, at most four times.

    Raises:
        RemoteError: it never did.
    """
    for wait in (*WAITS, None):
        try:
            return call()
        except Passing as error:
            if wait is None:
                tried = f"tried {len(WAITS) + 1} times"
                raise RemoteError(
                    url, f"{error} ({tried}); try again later", offset=offset
                ) from error
        time.sleep(wait)
    raise AssertionError


class Http:
    """A URL of the web, through the session of fsspec's ``HTTPFileSystem``."""

    def __init__(self, system: Any, url: str) -> None:
        import aiohttp

        self.url = url
        if url.endswith("/"):
            raise RemoteError(url, _folder(url))
        self._system = system
        self._options = dict(system.kwargs)
        self._headers = dict(self._options.pop("headers", {}))
        if "timeout" not in self._options and "timeout" not in system.client_kwargs:
            self._options["timeout"] = aiohttp.ClientTimeout(
                total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENT_SECONDS
            )
        self._invalid = aiohttp.InvalidURL
        self._broken = (aiohttp.ClientError, OSError, TimeoutError)

    def fetch(self, start: int, length: int) -> Reply:
        """At most `length` bytes from `start` on; the last ones where it is negative."""
        from fsspec.asyn import sync

        try:
            reply: Reply = sync(self._system.loop, self._get, start, length)
        except self._invalid as error:
            raise RemoteError(self.url, "this is no valid URL") from error
        except self._broken as error:
            raise Passing(_reason(error)) from error
        except ValueError as error:  # the port, the host, the signs in it
            raise RemoteError(self.url, f"this is no valid URL: {error}") from error
        except TypeError as error:
            raise RemoteError(self.url, f"{error}; check storage_options") from error
        return reply

    def size(self) -> int:
        """Bytes there are, as of now."""
        size = self.fetch(0, 1).size
        if size is None:
            raise RemoteError(self.url, "the server does not tell the size of the file")
        return size

    async def _get(self, start: int, length: int) -> Reply:
        wanted = f"bytes=-{length}" if start < 0 else f"bytes={start}-{start + length - 1}"
        headers = {**self._headers, "Range": wanted, "Accept-Encoding": "identity"}
        session = await self._system.set_session()
        url = self._system.encode_url(self.url)
        async with session.get(url, headers=headers, **self._options) as answer:
            span = self._check(answer, start, length)
            version = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
            expected = span.end - span.start
            parts, missing = [], expected + 1  # one more would be one too many
            while expected and missing and (part := await answer.content.read(missing)):
                parts.append(part)
                missing -= len(part)
        data, size = b"".join(parts), span.size
        if len(data) != expected:
            raise Passing(f"{expected} bytes are announced, others came")
        if size is None and start < 0 and expected == length:
            size = span.end
        if size is None and expected < length:
            # The file ends here, or this is not all that was asked for.
            size = (await self._get(span.end, 1)).size
            if size != span.end:
                raise Passing(f"{expected} bytes came instead of {length}")
        return Reply(data, size, version)

    def _check(self, answer: Any, start: int, length: int) -> "_Part":
        """Refuse what is not the part that was asked for.

        A server may send less, and says so in ``Content-Range`` alone (RFC 9110, 15.3.7).
        Taken for the end of the file it would hide what was committed last.
        """
        status = answer.status
        part = _content_range(answer.headers.get("Content-Range", ""))
        if status == 206:
            if not part.fits(start, length):
                raise Passing("the server sends other bytes than asked for")
            return part
        if status == 416:
            end = start if part.size is None else part.size
            if end > start >= 0 or (start < 0 and part.size != 0):
                raise Passing("the server refuses bytes that the file has")
            return _Part(end, end, end)
        if status == 200:
            answer.close()
            told = answer.headers.get("Content-Length")
            whole = "all of it" if told is None else f"all {int(told):,} bytes"
            raise NoRangesError(self.url, whole)
        if status in PASSING:
            raise Passing(f"the server answers {status} {answer.reason}")
        raise RemoteError(self.url, _refusal(status, answer.reason))


class NoRangesError(RemoteError):
    """The server sends the whole file, whatever was asked for."""

    def __init__(self, url: str, whole: str) -> None:
        super().__init__(
            url,
            f"the server knows no range requests and would send {whole}; download the "
            "file and open the copy, or put it on a server that does",
        )


def _folder(url: str) -> str:
    return f"this is a folder; {url.rstrip('/')}/*.son means the files in it"


def _refusal(status: int, reason: str) -> str:
    if status in (401, 403):
        return (
            f"access is refused ({status} {reason}); pass credentials, for example "
            'storage_options={"headers": {"Authorization": ...}}'
        )
    if status in (404, 410):
        return "there is no such file; check the URL"
    return f"the server answers {status} {reason}"


class _Part(NamedTuple):
    """What an answer holds of a file."""

    start: int
    end: int
    size: int | None
    """Of the file; None: not told."""

    def fits(self, start: int, length: int) -> bool:
        """Whether it may be all of what was asked for, up to the end of the file."""
        size = self.end if self.size is None else self.size
        if start < 0:
            begin, end = max(0, size - length), size
        else:
            begin, end = start, min(start + length, size)
        return (self.start, self.end) == (begin, end) and begin < end


def _content_range(text: str) -> _Part:
    """Read ``bytes 0-99/1234``, ``bytes 0-99/*`` or ``bytes */1234``; else nothing."""
    found = re.fullmatch(
        r"bytes\s+(?:(\d{1,19})-(\d{1,19})|\*)/(\d{1,19}|\*)", text.strip(), re.ASCII
    )
    if found is None:
        return _Part(0, 0, None)
    first, last, size = found.groups()
    return _Part(
        int(first or 0),
        0 if last is None else int(last) + 1,
        None if size == "*" else int(size),
    )


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "the connection timed out"
    return f"the connection failed: {str(error) or type(error).__name__}"


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
                self.url, _folder(self.url) if self._is_folder() else missing
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


def transport_for(url: str, options: Mapping[str, Any]) -> Transport | Path:
    """What fetches a URL, or the path of a local file; nothing is fetched yet.

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
    protocols = system.protocol
    names = {protocols} if isinstance(protocols, str) else {*protocols}
    if "file" in names:
        return Path(path)
    if "http" in names:
        return Http(system, path)
    return Filed(system, path, url)
