"""A file behind a URL as a `Source`: few, large, concurrent requests.

Theory of operation. What costs is the round trip, so

- the first 64 KiB and the last 256 KiB are fetched at once when the file is opened; the
  size comes with the answer, or follows from the last COMMIT, which carries its own offset;
- ranges that are needed soon are named beforehand (`RemoteFile.expect`); those closer than
  256 KiB to each other become one request of at most 8 MiB, several are under way at once,
  and the caller goes on meanwhile;
- a single read fetches at least 64 KiB, reads that follow one another fetch more and
  more, up to 16 MiB, and a search backwards from the end takes 1 MiB, then 8 MiB
  at a time; the end comes once more with the first, as its COMMIT may have come broken;
- what came stays for a while: at most 64 MiB, the oldest goes first.

So a reader holds 64 MiB of fetched bytes beside what a reader of a local file holds.

A `.son` only grows, so nothing fetched ever gets old. Where the server names a version
(``ETag``) and it changes, the start of the file is fetched again: with another start the
file was replaced, and that is an error. Where it names none, this is done when something
does not verify (`RemoteFile.forget`).
"""

import os
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache, partial
from threading import Lock
from typing import Any

from stepson.errors import FormatError, RemoteError
from stepson.records import COMMIT_SIZE, MAGIC_SIZE, Commit, RecordType
from stepson.remote.spans import Range, Span, Spans, joined
from stepson.remote.transport import Passing, Reply, Transport, insist
from stepson.scan import read_record
from stepson.source import EDGE, MAX_EDGE, Bytes

__all__ = ["RemoteFile"]

START = EDGE
TAIL = MAX_EDGE
GAP = 2**18
LARGEST = 2**23
SMALLEST = 2**16
KEPT = 2**26
EXPECTED = 2**25
"""What is announced beforehand is fetched up to here."""
BACKWARDS = (2**20, LARGEST)
AT_ONCE = 8
IDENTITY = 4096
"""Bytes at the start that tell one file from another: HEADER has a random uuid."""


@cache
def _pool(process: int) -> ThreadPoolExecutor:
    """The threads that wait for answers; a child of a fork has none and gets its own."""
    return ThreadPoolExecutor(AT_ONCE, "stepson-fetch")


class RemoteFile:
    """Ranges of a URL; several threads may read at once."""

    far = True
    """A read costs a round trip, so it pays to read ahead."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._lock = Lock()
        self._identity: bytes | None = None
        self._versions: set[str | None] = set()
        self._reach = 0
        self._look()

    @property
    def url(self) -> str:
        """Where it is."""
        return self._transport.url

    @property
    def size(self) -> int:
        """Bytes there were at the last look; `forget` takes another one."""
        return self._size

    def _look(self) -> None:
        """Fetch both ends at once."""
        self._spans = Spans()
        self._next = self._window = 0
        pool = _pool(os.getpid())
        last = pool.submit(self._ask, -1, TAIL)
        first = self._start()
        tail, self._size = self._end_of(first, last)
        self._reach = max(self._reach, self._size)
        begin = self._size - len(tail)
        self._identify(first.data)
        self._versions.add(first.version)
        for place, data in ((0, first.data[:begin]), (begin, tail)):
            if data:
                self._spans.add(Span.of(place, data))
        self._tail = begin
        self._end = tail

    def _end_of(self, first: Reply, last: "Future[Reply]") -> tuple[bytes, int]:
        """The last bytes, and the size of the file."""
        try:
            data, size, _ = last.result()
        except RemoteError:  # some servers know ranges, but none from the end
            size = self._transport.size() if first.size is None else first.size
            begin = max(0, size - TAIL)
            data = self._ask(begin, size - begin).data if size else b""
            return data, begin + len(data)
        if size is None and len(data) == TAIL:
            size = _size_from(first.data, data)
        if size is None:
            size = len(data) if len(data) < TAIL else self._sized()
        return data, size

    def _sized(self) -> int:
        return insist(self.url, None, self._transport.size)

    def _start(self) -> Reply:
        """The first bytes; once more where they changed into nothing that verifies."""

        def same() -> Reply:
            found = self._transport.fetch(0, START)
            known = self._identity or b""
            if found.data[: len(known)] != known and _uuid(found.data) is None:
                raise Passing("the file does not start as it did")
            return found

        return insist(self.url, 0, same)

    def _identify(self, start: bytes) -> None:
        """Refuse another file at the same URL."""
        if self._identity and start[: len(self._identity)] != self._identity:
            raise RemoteError(
                self.url, "another file has taken its place meanwhile; open it again"
            )
        if _uuid(start) is not None:  # else it may have changed on its way
            self._identity = start[:IDENTITY]

    def _ask(self, start: int, length: int) -> Reply:
        offset = None if start < 0 else start
        return insist(self.url, offset, partial(self._transport.fetch, start, length))

    def _fetch(self, start: int, length: int) -> bytes:
        """Exactly these bytes, of the same file as before."""

        def whole() -> Reply:
            found = self._transport.fetch(start, length)
            if len(found.data) != length:
                raise Passing(f"{len(found.data)} bytes came instead of {length}")
            return found

        reply = insist(self.url, start, whole)
        if reply.version not in self._versions:
            self._identify(self._start().data)
            self._versions.add(reply.version)
        return reply.data

    def read_at(self, offset: int, length: int) -> bytes:
        """At most `length` bytes from `offset` on; fewer only where the file ends.

        Raises:
            RemoteError: they cannot be had.
        """
        end = min(offset + length, self._reach)
        if offset >= end:
            return b""
        with self._lock:
            if any(self._spans.missing(offset, end)):
                start, stop = self._widened(offset, end)
                self._order(start, stop)
                self._next = stop
            spans = list(self._spans.covering(offset, end))
            self._spans.evict(KEPT, spans)
        parts = [self._taken(span, offset, end) for span in spans]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _taken(self, span: Span, offset: int, end: int) -> bytes:
        try:
            data = span.data.result()
        except Exception:
            with self._lock:  # the next read tries again
                self._spans.drop(span)
            raise
        return data[max(0, offset - span.start) : end - span.start]

    def _widened(self, offset: int, end: int) -> Range:
        """What to fetch when this is asked for and not at hand; see the module."""
        if end >= self._tail > offset:
            if self._tail == self._size - len(self._end):
                for span in list(self._spans.covering(self._tail, self._size)):
                    self._spans.drop(span)
                end = self._size
            reach = (self._size - each for each in BACKWARDS)
            further = next((r for r in reach if r < self._tail), self._tail - LARGEST)
            self._tail = max(0, min(offset, further))
            return self._tail, end
        follows = offset <= self._next + SMALLEST and end >= self._next
        wider = 2 * max(self._window, end - offset)
        self._window = min(wider, 2 * LARGEST) if follows else SMALLEST
        return offset, min(max(end, offset + self._window), self._reach)

    def _order(self, start: int, stop: int) -> None:
        """Fetch what is missing of a range, in few large requests."""
        pool = _pool(os.getpid())
        for low, high in joined(self._spans.missing(start, stop), GAP):
            for inside in list(self._spans.covering(low, high)):
                self._spans.drop(inside)  # small: fetched again, rather than a request more
            for place in range(low, high, LARGEST):
                end = min(place + LARGEST, high)
                data = pool.submit(self._fetch, place, end - place)
                self._spans.add(Span(place, end, data))

    def expect(self, ranges: Iterable[Range]) -> None:
        """Start to fetch ranges (offset, length) that will be read soon."""
        clipped = ((a, min(a + n, self._reach)) for a, n in ranges if n > 0)
        wanted, room = joined(clipped, GAP), EXPECTED
        with self._lock:
            for start, stop in wanted:
                if room > 0:
                    end = min(stop, start + room)
                    self._order(start, end)
                    self._spans.renew(start, end)
                room -= stop - start
            self._spans.evict(KEPT)

    @property
    def confirmed(self) -> bool:
        """Whether the end was fetched twice since the last look, and came the same."""
        begin = self._size - len(self._end)
        return self._tail < begin and self.read_at(begin, len(self._end)) == self._end

    def look(self) -> None:
        """Fetch both ends anew; what was fetched before is dropped.

        Raises:
            RemoteError: another file has taken its place, or it cannot be read.
        """
        with self._lock:
            self._look()

    def forget(self) -> None:
        """Let the next read tell what is there now: `look`."""
        self.look()

    def glance(self) -> object:
        """The size, for one small request."""
        return self._sized()

    def close(self) -> None:
        """Let go of what was fetched; a later read fetches again."""
        with self._lock:
            self._spans.clear()


def _uuid(start: bytes) -> Any:
    """What HEADER says, if it verifies."""
    try:
        return read_record(Bytes(start), MAGIC_SIZE, RecordType.HEADER).map.get("uuid")
    except FormatError:
        return None


def _size_from(start: bytes, tail: bytes) -> int | None:
    """The size of a file from its last COMMIT in `tail`, which knows where it stands."""
    uuid = _uuid(start)
    if uuid is None:
        return None
    place = len(tail)
    while (place := tail.rfind(b"\xd5SON", 0, place)) >= 0:
        data = tail[place : place + COMMIT_SIZE]
        try:
            offset = int.from_bytes(data[48:56], "little")
            return Commit.unpack(data, offset, uuid).offset + len(tail) - place
        except FormatError:
            continue
    return None
