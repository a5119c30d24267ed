"""Reading ahead over a slow link: what comes next is on its way while this is decoded.

Reading an item takes two round trips, one for the head of its record, which says where the
chunks are, and one for the chunks. `ahead` looks further along: heads of up to 32 items
are asked for at once, then the chunks of as many as fit into a window: 4 MiB before the
first item is used, so that a look at the start of a stream costs little, then 16 MiB. Where
chunks make up most of what stands between the heads, everything is asked for in one piece.
For a source that is not far nothing of this is done.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from stepson.errors import RemoteError, StepsonError
from stepson.source import Source, expect

__all__ = ["ahead"]

HEADS = 32
FIRST_WINDOW = 2**22
LAST_WINDOW = 2**24
DENSE = 0.5
Range = tuple[int, int]
T = TypeVar("T")


def ahead(
    source: Source,
    items: Iterator[T],
    head: Callable[[T], Range],
    body: Callable[[T], Iterable[Range]],
) -> Iterator[T]:
    """The same items, where ranges that they need are expected beforehand.

    Args:
        source: what they are read from.
        items: in order.
        head: the range (offset, length) that `body` of an item reads.
        body: the ranges that reading an item takes.
    """
    if not getattr(source, "far", False):
        return items
    return iter(_Ahead(source, items, head, body))


class _Ahead(Generic[T]):
    def __init__(
        self,
        source: Source,
        items: Iterator[T],
        head: Callable[[T], Range],
        body: Callable[[T], Iterable[Range]],
    ) -> None:
        self._source = source
        self._items = items
        self._head = head
        self._body = body
        self._heads: deque[T] = deque()
        """Whose heads were asked for."""
        self._ready: deque[tuple[T, int]] = deque()
        """Whose chunks were, with their bytes."""
        self._window = FIRST_WINDOW
        self._last: Range | None = None
        """The head that was asked for last."""
        self._extent = 0
        """Bytes from one item to the next, where that is mostly chunks; else 0."""
        self._end: Exception | None = None

    def __iter__(self) -> Iterator[T]:
        held = 0
        while True:
            if len(self._heads) <= self._most() // 2 and self._end is None:
                self._look()
            while self._heads and (held < self._window or not self._ready):
                held += self._prepare(self._heads.popleft())
            if not self._ready:
                break
            item, size = self._ready.popleft()
            yield item
            held -= size
            self._window = min(4 * self._window, LAST_WINDOW)
        if self._end is not None and not isinstance(self._end, StopIteration):
            raise self._end

    def _most(self) -> int:
        """Heads to ask for: few at first; where all is wanted, what the window holds."""
        if self._extent:
            return max(1, min(HEADS, self._window // self._extent))
        return min(HEADS, 8 * self._window // FIRST_WINDOW)

    def _look(self) -> None:
        """Ask for more heads; what ends the items is raised when its turn comes."""
        found: list[T] = []
        try:
            while len(self._heads) + len(found) < self._most():
                found.append(next(self._items))
        except (StepsonError, StopIteration) as error:
            self._end = error
        ranges = [self._head(item) for item in found]
        if not ranges:
            return
        if self._extent and self._last is not None and ranges[0][0] > self._last[0]:
            start, (offset, length) = self._last[0], ranges[-1]
            expect(self._source, [(start, offset + length - start)])
        else:
            expect(self._source, ranges)
        self._last = ranges[-1]
        self._heads.extend(found)

    def _prepare(self, item: T) -> int:
        """Ask for the chunks of an item; return their bytes."""
        try:
            ranges = list(self._body(item))
        except RemoteError as error:  # it would take the next ones as long to fail
            self._heads.clear()
            self._end = error
            return 0
        except StepsonError:  # a damaged one is reported when its turn comes
            ranges = []
        expect(self._source, ranges)
        size = sum(length for _, length in ranges)
        self._ready.append((item, size))
        if self._heads:
            extent = self._head(self._heads[0])[0] - self._head(item)[0]
            self._extent = extent if 0 < extent <= size / DENSE else 0
        return size
