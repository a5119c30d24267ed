"""What a recovery takes, in the order in which it is taken.

A run that was killed and went on has written some blocks twice: the torn one stands in
front of the one that counts. Where the chain of COMMITs is whole it tells them apart; in a
break of it, the later one counts, and none counts beside a block that is known to be lost:
what was never committed must not stand in for what was.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Container, Iterable, Sequence
from typing import NamedTuple

__all__ = ["Chosen", "Item", "arranged", "choose", "gaps", "trimmed"]

END = 2**63


class Item(NamedTuple):
    """Something that goes into the new file, or is missing there."""

    place: int
    kind: str
    """block, lost (a block), checkpoint, note, scalars, end (of a transaction); stray: a
    block where another one was; torn, foreign: what does not count."""
    first: int = 0
    end: int = 0
    certain: bool = True
    """On the chain, or named by a TABLE or INDEX on it."""
    frames: int = 0
    sequence: int = 0


class Chosen(NamedTuple):
    """What counts."""

    blocks: list[Item]
    """By their steps; no two of them overlap."""
    scalars: list[Item]
    repeated: int
    """Blocks that were left out."""


def choose(items: Iterable[Item], lost: Sequence[Item], bad: Container[int]) -> Chosen:
    """Leave out blocks that are there twice, or were never committed.

    Args:
        items: all.
        lost: blocks that are known to be lost, by their steps.
        bad: places of blocks that have damaged chunks.
    """
    ordered = sorted(items, key=lambda each: each.place)
    blocks = [item for item in ordered if item.kind == "block"]
    kept: list[Item] = []
    for item in sorted((b for b in blocks if b.certain), key=lambda b: (b.first, b.place)):
        if not kept or kept[-1].end <= item.first:
            kept.append(item)
        elif _better(kept[-1], item, bad):
            kept[-1] = item
    sure = len(kept)
    scalars: list[Item] = []
    later = END
    for item in reversed(ordered):
        if item.kind == "scalars" and (item.certain or item.end <= later):
            scalars.append(item)
        if item.kind != "block":
            continue
        if not item.certain:
            number = _overlapping(kept, item, sure)
            if number is not None and _better(kept[number], item, bad):
                kept[number] = item
            if number is not None or item.end > later or _replaced(item, lost):
                continue
            kept.append(item)
        later = min(later, item.first)
    kept.sort(key=lambda each: each.first)
    return Chosen(kept, scalars[::-1], len(blocks) - len(kept))


def _overlapping(kept: list[Item], item: Item, sure: int) -> int | None:
    """The number of a block among the first ones that has some of the same steps."""
    number = bisect_left(kept, item.end, hi=sure, key=lambda each: each.first) - 1
    return number if number >= 0 and kept[number].end > item.first else None


def _better(last: Item, item: Item, bad: Container[int]) -> bool:
    """Whether one is a copy of a damaged one, and whole; only a copy has its number."""
    same = (last.first, last.end, last.sequence) == (item.first, item.end, item.sequence)
    return same and last.place in bad and item.place not in bad


def _replaced(item: Item, lost: Sequence[Item]) -> bool:
    """Whether a lost block was committed in place of one; a torn one stands before it."""
    number = bisect_left(lost, item.end, key=lambda each: each.first) - 1
    if number < 0 or lost[number].end <= item.first:
        return False
    gone = lost[number]
    copy = (gone.first, gone.end) == (item.first, item.end) and gone.place < item.place
    return not copy


def trimmed(lost: Iterable[Item], blocks: Sequence[Item] = ()) -> list[Item]:
    """Lost blocks by their steps, each step once, without those that blocks have."""
    found: list[Item] = []
    for item in sorted(lost, key=lambda each: (each.first, each.end)):
        first = max(item.first, found[-1].end if found else 0)
        found += [item._replace(first=a, end=b) for a, b in gaps(first, item.end, blocks)]
    return found


def gaps(first: int, end: int, known: Sequence[Item]) -> list[tuple[int, int]]:
    """The parts of a range of steps that none of some items has; these are in order."""
    found = []
    number = bisect_right(known, first, key=lambda each: each.end)
    while first < end:
        stop = known[number].first if number < len(known) else end
        if first < stop:
            found.append((first, min(stop, end)))
        first = max(first, known[number].end) if number < len(known) else end
        number += 1
    return found


def arranged(
    items: Iterable[Item], blocks: list[Item], lost: list[Item]
) -> tuple[list[Item], set[int]]:
    """Everything in the order of the new file: by steps, else by place.

    Returns:
        the items, and the steps of checkpoints that were left out.
    """
    rest = [item for item in items if item.kind in ("checkpoint", "note", "end")]
    placed = sorted([*rest, *blocks], key=lambda each: each.place)
    placed, dropped = _without_torn_checkpoints(placed)
    keys: list[tuple[int, int, int]] = []
    anchor = -1
    for item in placed:
        if item.kind == "block":
            anchor = item.first
            keys.append((anchor, 0, item.place))
        elif item.kind == "checkpoint":
            number = bisect_right(blocks, item.first, key=lambda each: each.first)
            keys.append((blocks[number - 1].first if number else -1, 1, item.place))
        else:
            keys.append((anchor, 1, item.place))
    keyed = [*zip(keys, placed, strict=True), *(((x.first, 0, x.place), x) for x in lost)]
    return [item for _, item in sorted(keyed)], dropped


def _without_torn_checkpoints(items: list[Item]) -> tuple[list[Item], set[int]]:
    """Without those of a run that was repeated from before them; their steps ascend.

    Returns:
        what is left, and the steps of those left out.
    """
    later, last = END, END
    kept: list[Item] = []
    dropped: set[int] = set()
    for item in reversed(items):
        if item.kind == "block":
            later = item.end
        if item.kind == "checkpoint":
            if item.first > last or (not item.certain and item.first >= later):
                dropped.add(item.first)
                continue
            last = item.first
        kept.append(item)
    return kept[::-1], dropped
