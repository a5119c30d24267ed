"""Where bytes come from and go to: the only two things the format asks of a store.

A `Source` reads ranges and knows its size; a local file and plain bytes are here, a URL is
in `stepson.remote`. A `Sink` appends, syncs and reads back; the writer works on it alone,
so faults can be injected without a disk. No byte once written is ever rewritten, so there
is no seek.

Two things a source may know and need not: `expect` tells it what will be read soon, which
saves round trips; `forget` asks it to fetch again what may be stale.
"""

import errno
import mmap
import os
import re
import stat
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol, TypeVar

from stepson.errors import FormatError

__all__ = [
    "Bytes",
    "Edges",
    "Followed",
    "LocalFile",
    "LocalSink",
    "Sink",
    "Source",
    "expect",
    "forget",
    "insist",
    "open_regular",
]

ALIGNMENT = 64
EDGE = 2**16 + ALIGNMENT
"""A FOOTER with its padding."""
MAX_EDGE = 2**18 + ALIGNMENT
START = 4096
"""Bytes that tell one file from another: HEADER has a random uuid."""
BEYOND = 2**62
"""No file reaches here, and not every system says so."""
FOLIO = 2**11 * mmap.PAGESIZE
"""Linux caches runs of up to so many bytes as one; part of one is never dropped."""
T = TypeVar("T")
Buffer = bytes | bytearray | memoryview


class Source(Protocol):
    """Something that can be read in ranges."""

    @property
    def size(self) -> int:
        """Bytes there are, as of now."""

    def read_at(self, offset: int, length: int) -> bytes:
        """At most `length` bytes from `offset` on; fewer only where the source ends."""

    def close(self) -> None:
        """Let go of it."""


class Followed(Source, Protocol):
    """A source of a file that may grow, seen through caches that may be stale."""

    def glance(self) -> object:
        """Something that differs when there may be something new; costs little."""

    def look(self) -> None:
        """Take the size anew, past every cache that can be passed."""

    def forget(self) -> None:
        """Let the next read tell what is there, not what was cached."""


def expect(source: Source, ranges: Iterable[tuple[int, int]]) -> None:
    """Tell a source which ranges (offset, length) will be read soon."""
    announce = getattr(source, "expect", None)
    if announce is not None:
        announce(ranges)


def forget(source: Source) -> bool:
    """Let the next read tell what is there now; whether it can differ from the last."""
    drop = getattr(source, "forget", None)
    if drop is None:
        return False
    drop()
    return True


def confirmed(source: Source) -> bool:
    """Whether the end came twice, and the same, since the last look."""
    return bool(getattr(source, "confirmed", False))


class Sink(Source, Protocol):
    """Something that can be appended to."""

    def write(self, parts: Sequence[Buffer]) -> None:
        """Append all parts, or raise OSError; what was written then is torn."""

    def sync(self) -> None:
        """Return when everything written is durable."""

    def forget(self, start: int = 0) -> None:
        """Let the next read from `start` on tell what is durable, not what is cached."""


def insist(sink: Sink, start: int, read: Callable[[], T]) -> T:
    """What `read` gives; once more past the cache where that does not verify.

    Args:
        sink: of the file.
        start: nothing in front of this byte is read.
        read: reads it.

    Raises:
        FormatError: it does not verify past the cache either.
    """
    try:
        return read()
    except FormatError:
        sink.forget(start)
    return read()


class Bytes:
    """A file that is already in memory."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    @property
    def size(self) -> int:
        """Bytes there are."""
        return len(self.data)

    def read_at(self, offset: int, length: int) -> bytes:
        """At most `length` bytes from `offset` on."""
        return self.data[offset : offset + length]

    def close(self) -> None:
        """Nothing to let go of."""


class Edges:
    """A source whose start and end are read once and kept: opening asks for little else.

    Bytes of a `.son` never change once written, so what is kept stays true while the file
    grows. A read that reaches the end replaces the end that is kept.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self.size = source.size
        """When this was made; nothing behind it is read."""
        self._start = source.read_at(0, min(self.size, EDGE))
        self._tail = b""
        self._tail_at = self.size

    def read_at(self, offset: int, length: int) -> bytes:
        """At most `length` bytes from `offset` on."""
        end = min(offset + length, self.size)
        if end <= len(self._start):
            return self._start[offset:end]
        if offset >= self.size - EDGE and self._tail_at > self.size - EDGE:
            self._keep(max(0, self.size - EDGE))
        if offset < self._tail_at:
            if end < self.size - ALIGNMENT or self.size - offset > MAX_EDGE:
                return self._source.read_at(offset, end - offset)
            self._keep(offset)
        return self._tail[offset - self._tail_at : end - self._tail_at]

    def _keep(self, start: int) -> None:
        """Read the end from `start` on; it may be shorter than the size promises."""
        self._tail_at, self._tail = start, self._source.read_at(start, self.size - start)

    @property
    def far(self) -> bool:
        """Whether a read costs a round trip."""
        return bool(getattr(self._source, "far", False))

    def expect(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Pass it on."""
        expect(self._source, ranges)

    def forget(self) -> None:
        """Read start and end again; the size stays that of the first look."""
        forget(self._source)
        self._start = self._source.read_at(0, min(self.size, EDGE))
        self._tail, self._tail_at = b"", self.size

    def close(self) -> None:
        """Let go of the source."""
        self._source.close()


class _Descriptor:
    """What reader and writer of a local file share: ``pread`` on their own descriptor."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    @property
    def size(self) -> int:
        """Bytes there are, as of now."""
        return os.fstat(self.descriptor).st_size

    def read_at(self, offset: int, length: int) -> bytes:
        """At most `length` bytes from `offset` on; fewer only at the end of the file."""
        if not 0 <= offset < BEYOND or length <= 0:
            return b""
        data = os.pread(self.descriptor, length, offset)
        if len(data) == length or not data:
            return data
        parts = [data]
        while data and (missing := length - sum(map(len, parts))):
            data = os.pread(self.descriptor, missing, offset + length - missing)
            parts.append(data)
        return b"".join(parts)

    def close(self) -> None:
        """Close the descriptor; a second call does nothing."""
        if self.descriptor >= 0:
            descriptor, self.descriptor = self.descriptor, -1
            os.close(descriptor)

    def __del__(self) -> None:
        self.close()


def open_regular(path: Path, flags: int) -> int:
    """Open a file of this machine; what is none is refused and never waited for.

    Raises:
        FormatError: the name can be no file, or it is a folder, a pipe, a device.
        OSError: it cannot be opened.
    """
    try:
        descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK)
    except ValueError as error:  # a zero byte, or what no encoding knows
        raise FormatError(f"{str(path)!r} is no name of a file; check it") from error
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise FormatError(f"{path} is a folder, not a .son file; give a file in it")
    raise FormatError(f"{path} is no regular file but a pipe or a device; give a file")


def _mangled(path: Path) -> str:
    """What to say of a URL that a `Path` has swallowed a slash of."""
    mangled = re.match(r"[a-z][a-z0-9+.-]+:/(?!/)", str(path))
    return "; give a URL as text, not as a Path" if mangled else ""


def _same_file(known: int, fresh: int) -> bool:
    """Whether a name that was opened again stands for the same file, or a copy of it."""
    if os.path.samestat(os.fstat(known), os.fstat(fresh)):
        return True
    try:
        start = os.pread(known, START, 0)
    except OSError:  # a stale handle: the name is all there is
        return True
    return start == os.pread(fresh, START, 0)


class LocalFile(_Descriptor):
    """A file of this machine, open for reading; no lock is taken."""

    def __init__(self, path: Path) -> None:
        self.descriptor = -1
        self._path = path
        try:
            super().__init__(open_regular(path, os.O_RDONLY))
        except FileNotFoundError:
            raise FormatError(f"{path}: there is no such file{_mangled(path)}") from None
        except OSError as error:
            raise FormatError(f"{path}: cannot be opened: {error.strerror}") from error

    def look(self) -> None:
        """Open the name again: network file systems check their caches at that moment.

        The number of the descriptor stays, so that other threads may be reading.
        """
        fresh = open_regular(self._path, os.O_RDONLY)
        try:
            os.dup2(fresh, self.descriptor, inheritable=False)
        finally:
            os.close(fresh)

    def glance(self) -> object:
        """Identity, size and time of change of what the name now stands for."""
        self.look()
        found = os.fstat(self.descriptor)
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns

    def forget(self) -> None:
        """Open the name again and drop cached pages.

        A file that is gone, or in whose place another one stands, stays open.
        """
        if self.descriptor < 0:
            return
        with suppress(OSError, FormatError):
            fresh = open_regular(self._path, os.O_RDONLY)
            try:
                if _same_file(self.descriptor, fresh):
                    os.dup2(fresh, self.descriptor, inheritable=False)
            finally:
                os.close(fresh)
        with suppress(OSError):
            os.posix_fadvise(self.descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


class LocalSink(_Descriptor):
    """A file of this machine that the caller holds open for reading and appending."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor)
        # Some network file systems count no links at all: there nothing can be told.
        self._linked = os.fstat(descriptor).st_nlink > 0

    @property
    def size(self) -> int:
        """Bytes there are, as of now.

        Raises:
            FileNotFoundError: the file has lost its last name: it ends with this process.
        """
        status = os.fstat(self.descriptor)
        if self._linked and status.st_nlink == 0:
            raise FileNotFoundError(errno.ENOENT, "the file was deleted")
        return status.st_size

    def write(self, parts: Sequence[Buffer]) -> None:
        """Append all parts, going on after short writes."""
        waiting = [memoryview(part).cast("B") for part in parts if len(part)]
        while waiting:
            done = os.writev(self.descriptor, waiting[:512])
            if not done:
                raise OSError(errno.EIO, "nothing can be written")
            while waiting and done >= len(waiting[0]):
                done -= len(waiting.pop(0))
            if waiting:
                waiting[0] = waiting[0][done:]

    def sync(self) -> None:
        """``fdatasync``: the data and the file's length are on the disk when it returns."""
        os.fdatasync(self.descriptor)

    def forget(self, start: int = 0) -> None:
        """Drop cached pages, so that the next read from `start` on is of the disk."""
        first = start // FOLIO * FOLIO
        os.posix_fadvise(self.descriptor, first, 0, os.POSIX_FADV_DONTNEED)
