"""Reading ahead over a slow link: what comes next is on its way while this is decoded.

Reading an item takes two round trips, one for the head of its record, which says where the
chunks are, and one for the chunks. `ahead` looks further along: heads of up to 32 items
are asked for at once, then the chunks of as many as fit into a window, which starts with
1 MiB, so that one sample costs little more than itself, and doubles up to 32 MiB. For a
source that is not far nothing of this is done.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from stepson.errors import StepsonError
from stepson.source import Source, expect

__all__ = ["ahead"]

HEADS = 32
FIRST_WINDOW = 2**20
LAST_WINDOW = 2**25
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
    if getattr(source, "far", False):
        return _ahead(source, items, head, body)
    return items


def _ahead(
    source: Source,
    items: Iterator[T],
    head: Callable[[T], Range],
    body: Callable[[T], Iterable[Range]],
) -> Iterator[T]:
    heads: deque[T] = deque()
    ready: deque[tuple[T, int]] = deque()
    held, window, failure = 0, FIRST_WINDOW, None
    while True:
        if len(heads) <= HEADS // 2 and failure is None:
            failure = _fill(source, items, head, heads, window)
        while heads and (held < window or not ready):
            ranges = _ranges(body, heads[0])
            expect(source, ranges)
            held += (size := sum(length for _, length in ranges))
            ready.append((heads.popleft(), size))
        if not ready:
            break
        item, size = ready.popleft()
        yield item
        held -= size
        window = min(2 * window, LAST_WINDOW)
    if failure is not None and not isinstance(failure, StopIteration):
        raise failure


def _fill(
    source: Source,
    items: Iterator[T],
    head: Callable[[T], Range],
    heads: deque[T],
    window: int,
) -> Exception | None:
    """Ask for more heads; return what ended the items: its turn comes later."""
    found: list[T] = []
    end: Exception | None = None
    limit = min(HEADS, max(2, window // FIRST_WINDOW * 2))
    try:
        while len(heads) + len(found) < limit:
            found.append(next(items))
    except (StepsonError, StopIteration) as error:
        end = error
    expect(source, [head(item) for item in found])
    heads.extend(found)
    return end


def _ranges(body: Callable[[T], Iterable[Range]], item: T) -> list[Range]:
    """What an item needs; a damaged one is reported when its turn comes."""
    try:
        return list(body(item))
    except StepsonError:
        return []
