"""A disk that fails, and keeps the books: what was written, synced, and so promised.

What is written goes to a cache, ``sync`` brings the cache to the platter. When the power
goes, each sector written since the last sync (512 bytes or 4 KiB) is on the platter or not,
in any combination; the file has any length between the old and the new one; what is missing
is zeros, noise, a copy of other sectors of the file, or what an earlier life of the file
had written there. A sync that fails leaves such a mixture too, and the kernel takes the
pages for clean: the cache shows what the platter does not have, until it is dropped.

The books are kept by the bytes that pass, by fixed offsets of the specification: each
COMMIT written is a state, and the sync after it is a promise.
"""

import errno
from collections.abc import Callable, Sequence

from stepson.source import Buffer
from tests.stepson.crashes.model import Rng, State

RECORD = b"\xd5SON"
COMMIT, CHECKPOINT = 6, 7
FRAMES = slice(80, 88)


class Off(BaseException):
    """The machine or the process is gone."""


class Disk:
    """A sink in memory; `arm` says when and how it fails.

    Args:
        rng: decides what a failure leaves.
        image: what is on the platter.
        state: what that shows; None where it has no COMMIT.
        stale: what an earlier life had written, by offset.
    """

    def __init__(
        self, rng: Rng, image: bytes = b"", state: State | None = None, stale: bytes = b""
    ) -> None:
        self.rng = rng
        self.cache = bytearray(image)
        self.platter: bytes | None = None
        """What is there after a failed sync."""
        self.stale = stale
        self.synced = len(image)
        self.states = [] if state is None else [state]
        self.promised = len(self.states) - 1
        """Number of the last state that was promised; -1: none."""
        self._points: tuple[int, ...] = () if state is None else state.points
        self._count = len(self._points)
        self._new: tuple[int, ...] = ()
        self._countdown, self._kind, self._at_sync = -1, "", False
        self.failed = self.abused = False
        """Something failed; the descriptor was written to or synced after that."""
        self.watch: Callable[[], None] = lambda: None
        """Called at every moment: before and after each call, and within a write."""

    def arm(self, calls: int, kind: str) -> None:
        """Fail at this call from now: "short", "enospc", "eio", "power", "kill"."""
        self._countdown, self._kind = calls, kind

    def _now(self, *, sync: bool = False) -> bool:
        if self.failed:
            return True
        self._countdown -= 1
        if self._countdown == 0 and self._kind == "power" and self.rng.random() < 0.5:
            self._at_sync = True  # the moment when most is at stake
        self.failed = (self._countdown == 0 and not self._at_sync) or (
            sync and self._at_sync
        )
        return self.failed

    def _fail(self) -> None:
        if self._kind in ("power", "kill"):
            raise Off
        raise OSError(errno.EIO if self._kind == "eio" else errno.ENOSPC, "fault")

    @property
    def size(self) -> int:
        if not self.failed and self._kind in ("eio", "power", "kill") and self._now():
            self._fail()
        return len(self.cache)

    def read_at(self, offset: int, length: int) -> bytes:
        if not self.failed and self._kind in ("eio", "power", "kill") and self._now():
            self._fail()
        return bytes(self.cache[offset : offset + length])

    def close(self) -> None:
        """Nothing to let go of."""

    def forget(self, start: int = 0) -> None:
        if self.platter is not None:
            kept = self.cache[: min(start, len(self.platter))]
            self.cache = kept + self.platter[start:]
            self.platter = None if self.cache == self.platter else self.platter

    def write(self, parts: Sequence[Buffer]) -> None:
        data = b"".join(parts)
        self.abused |= self.failed
        self.watch()
        if self._now():
            if self._kind != "enospc":
                length = int(self.rng.integers(len(data) + 1))
                self.cache += data[:length]
                if length == len(data):
                    self._note(data)
            self._fail()
        half = int(self.rng.integers(len(data) + 1))
        self.cache += data[:half]
        self._note(data)
        self.watch()
        self.cache += data[half:]
        self.watch()

    def _note(self, data: bytes) -> None:
        if data[:4] == RECORD:
            kind = int.from_bytes(data[4:6], "little")
            if kind == CHECKPOINT:
                self._new, self._count = (self._count,), self._count + 1
            if kind == COMMIT:
                self._points, self._new = self._points + self._new, ()
                frames = int.from_bytes(data[FRAMES], "little")
                self.states.append(State(frames, self._points))

    def sync(self) -> None:
        self.abused |= self.failed
        if self._now(sync=True):
            if self._kind in ("eio", "enospc"):
                self.platter = self.lost()
            elif self.rng.random() < 0.5:
                self.synced = len(self.cache)
            self._fail()
        self.synced = len(self.cache)
        self.promised = len(self.states) - 1
        self.watch()

    def lost(self) -> bytes:
        """The platter after a power loss now."""
        if self.platter is not None:
            return self.platter
        return lose(bytes(self.cache), self.synced, self.rng, self.stale)


def lose(whole: bytes, synced: int, rng: Rng, stale: bytes = b"") -> bytes:
    """What a platter may hold when only the first bytes of `whole` were synced."""
    size = (synced, len(whole), int(rng.integers(synced, len(whole) + 1)))[rng.integers(3)]
    image = bytearray(whole[:synced].ljust(size, b"\0")[:size])
    image[synced:] = _garbage(whole[:synced], size, rng, stale)
    sector = int(rng.choice([512, 4096]))
    kept = rng.choice([0.1, 0.5, 0.9])
    for first in range(synced // sector * sector, size, sector):
        if rng.random() < kept:
            image[first : first + sector] = whole[first : min(first + sector, size)]
    image[:synced] = whole[:synced]
    return bytes(image)


def _garbage(durable: bytes, size: int, rng: Rng, stale: bytes) -> bytes:
    """What stands where nothing arrived."""
    missing = size - len(durable)
    kind = rng.integers(5)
    if kind == 0:
        return rng.bytes(missing)
    if kind == 1 and len(durable) > 64:
        start = int(rng.integers(len(durable) // 64)) * 64
        piece = durable[start:]
        return (piece * (missing // len(piece) + 1))[:missing]
    if kind >= 2 and len(stale) > len(durable):
        return stale[len(durable) : size].ljust(missing, b"\0")
    return bytes(missing)
