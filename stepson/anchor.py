"""A source that stays with one file, though its name may come to stand for another.

A BLOCK does not say which file it is of, and those of replicas stand at the same offsets,
each with checksums that are right. So where a file is read by its name again and again,
what was read counts only while a COMMIT that was known still stands where it stood: through
its uuid and the chain of ``link`` it vouches for everything in front of it.
"""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from stepson.errors import FormatError
from stepson.records import COMMIT_SIZE, Commit
from stepson.source import Followed, confirmed, expect

__all__ = ["Anchored"]


class Anchored:
    """Reads of a source, each followed by a look at the COMMIT that is known.

    Args:
        source: of the file.
        path: of the file, for messages.
    """

    def __init__(self, source: Followed, path: Path | str) -> None:
        self._source = source
        self._path = path
        self._offset = 0
        self._commit = b""

    def hold(self, commit: Commit) -> None:
        """From now on, read nothing without this COMMIT in its place."""
        self._offset, self._commit = commit.offset, commit.pack()

    @property
    def size(self) -> int:
        """Bytes there are, as of now."""
        return self._source.size

    @property
    def far(self) -> bool:
        """Whether a read costs a round trip."""
        return bool(getattr(self._source, "far", False))

    @property
    def confirmed(self) -> bool:
        """Whether the end came twice, and the same, since the last look."""
        return confirmed(self._source)

    def read_at(self, offset: int, length: int) -> bytes:
        """At most `length` bytes from `offset` on; fewer only where the source ends.

        Raises:
            FormatError: another file stands there, or this one was written over.
        """
        data = self._source.read_at(offset, length)
        if self._commit and self._source.read_at(self._offset, COMMIT_SIZE) != self._commit:
            raise FormatError(
                f"{self._path}: another file has taken its place, or it was written over: "
                "a COMMIT that was read is gone; open it again",
                offset=self._offset,
            )
        return data

    def expect(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Pass it on."""
        expect(self._source, ranges)

    def forget(self) -> None:
        """Let the next read tell what is there, not what was cached.

        The name may stand for the file again that it stood for when this was made.
        """
        if not self.far:
            with suppress(OSError, FormatError):
                self._source.look()
        self._source.forget()

    def close(self) -> None:
        """Let go of the source."""
        self._source.close()
