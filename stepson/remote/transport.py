"""One range of a URL, fetched, and tried again: what `stepson.remote` asks of a transport.

`insist` repeats what may go away by itself: connections that break, time-outs, the statuses
408, 425, 429 and 5xx, answers that end too early. Anything else is one clear line at once.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple, Protocol, TypeVar

from stepson.errors import RemoteError

__all__ = ["Passing", "Reply", "Transport", "folder_hint", "insist"]

WAITS = (0.2, 0.6, 1.8)
"""Seconds before the second, third and fourth attempt."""
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
    for wait in WAITS:
        with suppress(Passing):
            return call()
        time.sleep(wait)
    try:
        return call()
    except Passing as error:
        tried = f"tried {len(WAITS) + 1} times"
        raise RemoteError(
            url, f"{error} ({tried}); try again later", offset=offset
        ) from error


def folder_hint(url: str) -> str:
    """What to say of a URL that stands for a folder."""
    return f"this is a folder; {url.rstrip('/')}/*.son means the files in it"
