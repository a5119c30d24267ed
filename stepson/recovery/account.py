"""Accounts for every frame that was committed: it is here, or known to be lost, or told.

Each COMMIT says how many frames there are up to it, so between two of them a number of
frames is due, at steps that they tell, too. What is not here of them is lost, even where
nothing else tells.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

from stepson.damage import Damage
from stepson.recovery.inventory import Inventory
from stepson.recovery.items import Item, arranged, choose, gaps, trimmed
from stepson.schema import Schema

__all__ = ["settle"]


def settle(found: Inventory) -> None:
    """Put an inventory in order: drop what was repeated, name what is missing."""
    _return_strays(found)
    lost = trimmed(item for item in found.items if item.kind == "lost")
    chosen = choose(found.items, lost, found.bad)
    blocks = chosen.blocks
    found.repeated = chosen.repeated
    for item in chosen.scalars:
        found.filler.add(item.first, item.end, item.place)
    lost = [item for item in trimmed(lost, blocks) if _any_due(found.schema, item)]
    lost = trimmed([*lost, *_missing(found, blocks, lost)])
    found.items, dropped = arranged(found.items, blocks, lost)
    found.points -= dropped
    found.checkpoints_lost -= found.points
    _name(found, lost)


def _return_strays(found: Inventory) -> None:
    """A block that stands in place of another one may be the one missing elsewhere."""
    for number, item in enumerate(found.items):
        first, end = found.vacant.get(item.sequence, (0, 0))
        if item.kind == "stray" and first <= item.first and item.end <= end:
            found.items[number] = item._replace(kind="block", certain=True)


def _missing(found: Inventory, blocks: Sequence[Item], lost: Sequence[Item]) -> list[Item]:
    """Steps at which frames are due that are neither here nor named lost."""
    counts = [0, *accumulate(each.frames for each in blocks)]
    known = sorted([*blocks, *lost], key=lambda each: each.first)
    missing: list[Item] = []
    for claim in found.claims:
        low = bisect_left(blocks, claim.first, key=lambda each: each.first)
        high = bisect_left(blocks, claim.end, key=lambda each: each.first)
        short = claim.frames - (counts[high] - counts[low])
        if short <= 0:
            continue
        open_ = gaps(claim.first, claim.end, known)
        new = [Item(claim.place, "lost", first, end) for first, end in open_]
        new = [item for item in new if _any_due(found.schema, item)]
        missing += new
        told = len(gaps(claim.first, claim.end, blocks))
        if not new and not told:
            found.unaccounted += short
            what = f"{short} frames that were committed are not accounted for"
            found.damages.append(
                Damage(what, claim.place, 0, None, claim.first, claim.end - 1)
            )
    return missing


def _any_due(schema: Schema, item: Item) -> bool:
    """Whether a regular field has samples at steps of an item, or any field may."""
    regular = [each for each in schema.cadences if each.every is not None]
    if not regular:
        return item.first < item.end
    first = item.first
    return any(first + (c.offset - first) % (c.every or 1) < item.end for c in regular)


def _name(found: Inventory, lost: Sequence[Item]) -> None:
    """Say which steps a hole took, or that a block is missing."""
    places = {
        each.offset: number
        for number, each in enumerate(found.damages)
        if each.offset is not None and each.first_step is None
    }
    for item in lost:
        number = places.pop(item.place, None)
        steps = item.first, item.end - 1
        if number is None:
            found.damages.append(Damage("a block is lost", None, 0, None, *steps))
        else:
            first, last = steps
            named = replace(found.damages[number], first_step=first, last_step=last)
            found.damages[number] = named
