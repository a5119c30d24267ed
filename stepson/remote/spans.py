"""The ranges of a file that are here or under way, by their places and by their age.

They do not overlap. The oldest is dropped first: what a stream has used is older than what
it will use. Nothing here waits or locks.
"""

from bisect import bisect_right, insort
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from typing import NamedTuple, Self

__all__ = ["Range", "Span", "Spans", "joined"]

Range = tuple[int, int]


class Span(NamedTuple):
    """A range, and the bytes that are in it or will be."""

    start: int
    stop: int
    data: Future[bytes]

    @classmethod
    def of(cls, start: int, data: bytes) -> Self:
        """Bytes that are here already."""
        done: Future[bytes] = Future()
        done.set_result(data)
        return cls(start, start + len(data), done)


class Spans:
    """See the module."""

    def __init__(self) -> None:
        self.held = 0
        """Bytes in all of them."""
        self._starts: list[int] = []
        self._spans: OrderedDict[int, Span] = OrderedDict()

    def __iter__(self) -> Iterator[Span]:
        """From old to new."""
        return iter(self._spans.values())

    def add(self, span: Span) -> None:
        """Take the newest one."""
        self._spans[span.start] = span
        insort(self._starts, span.start)
        self.held += span.stop - span.start

    def drop(self, span: Span) -> None:
        """Let go of one, if it is still here."""
        if self._spans.get(span.start) is span:
            del self._spans[span.start]
            del self._starts[bisect_right(self._starts, span.start) - 1]
            self.held -= span.stop - span.start

    def evict(self, most: int, used: Iterable[Span] = ()) -> None:
        """Drop the oldest until at most so many bytes are held, but none that is in use."""
        kept = {span.start for span in used}
        for span in list(self):
            if self.held <= most:
                return
            if span.start not in kept:
                self.drop(span)

    def renew(self, start: int, stop: int) -> None:
        """Let those with any byte of a range count as new: they will be used soon."""
        for span in list(self.covering(start, stop)):
            self._spans.move_to_end(span.start)

    def covering(self, start: int, stop: int) -> Iterator[Span]:
        """Those with any byte of a range, by their places."""
        place = max(bisect_right(self._starts, start) - 1, 0)
        for each in self._starts[place:]:
            if each >= stop:
                return
            if self._spans[each].stop > start:
                yield self._spans[each]

    def missing(self, start: int, stop: int) -> Iterator[Range]:
        """The parts of a range that are in none."""
        for span in self.covering(start, stop):
            if span.start > start:
                yield start, span.start
            start = max(start, span.stop)
        if start < stop:
            yield start, stop

    def clear(self) -> None:
        """Let go of all."""
        self._spans.clear()
        self._starts.clear()
        self.held = 0


def joined(ranges: Iterable[Range], gap: int) -> list[Range]:
    """Ranges (start, stop) in order, those joined that are at most `gap` bytes apart."""
    found: list[Range] = []
    for start, stop in sorted(ranges):
        if found and start - found[-1][1] <= gap:
            found[-1] = found[-1][0], max(stop, found[-1][1])
        elif start < stop:
            found.append((start, stop))
    return found
