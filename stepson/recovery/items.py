"""What a recovery takes, in the order in which it is taken.

A run that was killed and went on has written some blocks twice: the torn one stands in
front of the one that counts. Where the chain of COMMITs is whole it tells them apart; in a
break of it, the later one counts.
"""

from collections.abc import Container
from typing import NamedTuple

__all__ = ["Item", "in_order", "without_torn_checkpoints"]


class Item(NamedTuple):
    """Something that goes into the new file, or is missing there."""

    place: int
    kind: str
    """block, lost (a block), checkpoint, note, end (of a transaction)."""
    first: int = 0
    end: int = 0
    certain: bool = True
    """On the chain, or named by a TABLE or INDEX on it."""


def in_order(items: list[Item], bad: Container[int]) -> tuple[list[Item], int]:
    """Without blocks that a later one repeats, and those that come too late.

    Args:
        items: by their place.
        bad: places of blocks that have damaged chunks.

    Returns:
        what is left, and how many blocks were left out.
    """
    kept: list[Item] = []
    blocks: list[int] = []
    repeated = 0
    for item in items:
        if item.kind == "block":
            while blocks and kept[blocks[-1]].end > item.first:
                last = kept[blocks[-1]]
                if last.certain and not _whole_copy(last, item, bad):
                    break
                kept[blocks.pop()] = last._replace(kind="torn")
                repeated += 1
            if blocks and kept[blocks[-1]].end > item.first:
                repeated += 1
                continue
            blocks.append(len(kept))
        kept.append(item)
    return [item for item in kept if item.kind != "torn"], repeated


def _whole_copy(last: Item, item: Item, bad: Container[int]) -> bool:
    """Whether a block is there twice, and only the second time whole."""
    same = (last.first, last.end) == (item.first, item.end)
    return same and last.place in bad and item.place not in bad


def without_torn_checkpoints(items: list[Item]) -> tuple[list[Item], set[int]]:
    """Without those of a run that was repeated from before them; their steps ascend.

    Returns:
        what is left, and the steps of those left out.
    """
    later, last = 2**63, 2**63
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
