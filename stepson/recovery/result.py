"""What a recovery saved and lost."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from stepson.block import Block, Steps
from stepson.damage import Damage
from stepson.recovery.basis import Basis
from stepson.recovery.inventory import Inventory
from stepson.recovery.items import Item
from stepson.recovery.salvage import Kept, irregular, lost_block, salvage
from stepson.scan import read_record
from stepson.schema import Field
from stepson.source import Source

__all__ = ["Range", "Recovery", "losses"]

Range = tuple[int, int]
"""First and last step."""


@dataclass(frozen=True)
class Recovery:
    """What `stepson.recovery.recover` returns."""

    source: Path | str
    """A URL is text."""
    target: Path
    size: int
    """Of the source, bytes."""
    frames: int = 0
    """In the new file."""
    samples: Mapping[str, int] = field(default_factory=dict)
    """In the new file, of each field."""
    recovered: Mapping[str, tuple[Range, ...]] = field(default_factory=dict)
    """Steps of each field that were saved, from loss to loss."""
    lost: Mapping[str, tuple[Range, ...]] = field(default_factory=dict)
    """Steps of each field whose samples are gone."""
    irregular: tuple[str, ...] = ()
    """Fields that were recorded every k steps and are irregular now; see the module."""
    checkpoints: tuple[int, ...] = ()
    """Their steps."""
    checkpoints_lost: tuple[int, ...] = ()
    metadata_lost: tuple[str, ...] = ()
    """Keys; "all" where none is known."""
    borrowed: tuple[str, ...] = ()
    """What was taken from the file given as `like`: SCHEMA, METADATA."""
    skipped_bytes: int = 0
    """In what was committed, without a sound head."""
    torn_bytes: int = 0
    """Behind what was committed."""
    torn_taken: bool = False
    """Whether whole blocks in them were taken."""
    unaccounted: int = 0
    """Frames that were committed, and are neither here nor among those lost."""
    damages: tuple[Damage, ...] = ()
    """All that does not verify, redundant or not, in the order of the file."""

    @property
    def complete(self) -> bool:
        """Whether nothing was lost that had been committed; damage may be in copies."""
        return not (
            any(self.lost.values())
            or self.checkpoints_lost
            or self.metadata_lost
            or self.header_lost
            or self.unaccounted
        )

    @property
    def header_lost(self) -> bool:
        """Whether who wrote the file, and what it continued, is lost."""
        return any(each.what.startswith("HEADER") for each in self.damages)

    @classmethod
    def draft(
        cls,
        source: Path | str,
        target: Path,
        size: int,
        basis: Basis,
        found: Inventory,
        lost: Mapping[str, tuple[Range, ...]],
        no_longer_regular: set[str],
        torn: bool,
    ) -> "Recovery":
        """What is known before anything is written."""
        return cls(
            source,
            target,
            size,
            lost=lost,
            irregular=tuple(sorted(no_longer_regular)),
            checkpoints_lost=tuple(sorted(found.checkpoints_lost)),
            metadata_lost=basis.missing,
            borrowed=basis.borrowed,
            skipped_bytes=found.skipped,
            torn_bytes=0 if basis.sealed else size - basis.end,
            torn_taken=torn,
            unaccounted=_unaccounted(basis, found),
            damages=tuple(sorted(found.damages, key=lambda each: each.offset or 0)),
        )

    def to_map(self) -> dict[str, Any]:
        """As plain numbers, text, lists and dicts."""
        found = asdict(self)
        return {
            **found,
            "source": str(self.source),
            "target": str(self.target),
            "complete": self.complete,
            "damages": [each.to_map() for each in self.damages],
        }


def _unaccounted(basis: Basis, found: Inventory) -> int:
    """Frames of the COMMIT that counts that are neither here nor at steps that are lost."""
    if basis.last is None:
        return found.unaccounted
    end = basis.last.commit.end_step
    here = sum(i.frames for i in found.items if i.kind == "block" and i.first < end)
    gone = sum(i.end - i.first for i in found.items if i.kind == "lost")
    return max(found.unaccounted, basis.last.commit.frames - here - gone)


def losses(
    source: Source, found: Inventory, fields: Sequence[Field]
) -> tuple[dict[str, tuple[Range, ...]], set[str]]:
    """The steps of each field that are lost, and the fields that are no longer regular.

    Args:
        source: of the file.
        found: what is sound in it.
        fields: those that are wanted.
    """
    lost: dict[str, list[Range]] = {each.name: [] for each in fields}
    broken: set[str] = set()
    for item in found.items:
        if item.kind == "block" and item.place in found.bad:
            record = read_record(source, item.place, aligned=False)
            block = Block(record, found.schema)
            kept = salvage(source, block, found.bad[item.place], found.filler)
            kept = {each.name: kept[each.name] for each in fields}
            broken |= irregular(kept, fields)
            for each in fields:
                lost[each.name] += _lost_in_block(each, block, kept[each.name])
        elif item.kind == "lost":
            broken |= _lost_block(found, item, fields, lost)
    return {name: _joined(each) for name, each in lost.items()}, broken


def _lost_in_block(each: Field, block: Block, kept: Kept) -> list[Range]:
    if len(kept.lost):
        return [(int(kept.lost[0]), int(kept.lost[-1]))]
    samples = block.samples[block.schema.cadence_of[each.name]]
    return [] if len(kept.steps) == samples else [(block.first, block.end - 1)]


def _lost_block(
    found: Inventory, item: Item, fields: Sequence[Field], lost: dict[str, list[Range]]
) -> set[str]:
    """Note what a lost block takes with it; returns fields that are no longer regular."""
    spans, broken = found.filler.spans(item.first, item.end), set()
    saved: dict[str, list[Range]] = {each.name: [] for each in fields}
    for first, end in spans:
        kept = lost_block(found.schema, first, end, found.filler)
        kept = {each.name: kept[each.name] for each in fields}
        broken |= irregular(kept, fields)
        for name, each in kept.items():
            saved[name] += [] if each.values is None else [(first, end)]
    for field_ in fields:
        first = item.first
        for a, b in [*saved[field_.name], (item.end, item.end)]:
            if _any_due(field_, first, a):
                lost[field_.name].append((first, a - 1))
            first = b
    return broken


def _any_due(each: Field, first: int, end: int) -> bool:
    """Whether a field may have a sample in ``[first, end)``."""
    if each.every is None:
        return first < end
    return first + (each.offset - first) % each.every < end


def _joined(ranges: list[Range]) -> tuple[Range, ...]:
    """Neighbours as one."""
    out: list[Range] = []
    for first, last in sorted(ranges):
        if out and first <= out[-1][1] + 1:
            out[-1] = (out[-1][0], max(last, out[-1][1]))
        else:
            out.append((first, last))
    return tuple(out)


def span(steps: Steps) -> Range:
    """First and last of some steps."""
    return int(steps[0]), int(steps[-1])
