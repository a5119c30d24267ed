"""Ranges by HTTP: requests of our own through the session of fsspec's file system.

So its ``storage_options`` (headers, authentication, certificates) count, and status and
headers of the answer are seen. A server that ignores ``Range`` is refused before its body
is read, ``Content-Range`` tells the size without a request of its own, and ``ETag`` tells
when the file has changed.
"""

import re
from typing import Any, NamedTuple

from stepson.errors import RemoteError
from stepson.remote.transport import Passing, Reply, folder_hint

__all__ = ["Http", "NoRangesError"]

CONNECT_SECONDS = 20.0
SILENT_SECONDS = 30.0
"""A connection that brings no byte for so long is given up."""
PASSING = frozenset({408, 425, 429, *range(500, 600)}) - {501, 505}


class Http:
    """A URL of the web, through the session of fsspec's ``HTTPFileSystem``."""

    def __init__(self, system: Any, url: str) -> None:
        import aiohttp

        self.url = url
        if url.endswith("/"):
            raise RemoteError(url, folder_hint(url))
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
