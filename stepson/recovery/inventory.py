"""What there is in a file of which anything may be damaged, and what is missing there.

`stepson.recovery.survey` fills it, `stepson.recovery.account` puts it in order. Nothing in
it is decoded. Memory is about 300 bytes for each block.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from stepson.damage import Damage
from stepson.recovery.items import Item
from stepson.recovery.salvage import Filler
from stepson.schema import Schema

__all__ = ["Claim", "Inventory"]


class Claim(NamedTuple):
    """What a COMMIT says of the frames since the one before."""

    first: int
    end: int
    frames: int
    place: int


@dataclass
class Inventory:
    """See the module."""

    schema: Schema
    """Of the file, or of one with the same fields."""
    filler: Filler
    items: list[Item] = field(default_factory=list)
    bad: dict[int, frozenset[int]] = field(default_factory=dict)
    """By the place of a block: numbers of its chunks that do not verify."""
    damages: list[Damage] = field(default_factory=list)
    checkpoints_lost: set[int] = field(default_factory=set)
    skipped: int = 0
    """Bytes without a sound head, in what was committed."""
    repeated: int = 0
    """Blocks of interrupted writes that were repeated later."""
    unaccounted: int = 0
    """Frames that COMMITs count, neither here nor known to be lost."""
    claims: list[Claim] = field(default_factory=list)
    vacant: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Steps of transactions with a stray, by the number of the record that is missing."""
    points: set[int] = field(default_factory=set)
    """Steps of checkpoints that are here."""
