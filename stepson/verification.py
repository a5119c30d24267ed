"""What a check of a file found: how much is sound, and everything that is not."""

from dataclasses import dataclass, field

from stepson.damage import Damage
from stepson.errors import StepsonError

__all__ = ["Verification", "note"]


@dataclass
class Verification:
    """What was checked, and what is wrong."""

    commits: int = 0
    records: int = 0
    frames: int = 0
    """Of the commits that are sound."""
    bytes: int = 0
    damages: list[Damage] = field(default_factory=list)
    """What is wrong, in the order of the file; each names byte, field and steps."""
    broken_footer: int = 0
    """Bytes of a FOOTER at the end that does not verify: the file was not closed to its
    end, or is damaged there; nothing is lost with it."""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.damages

    @property
    def damaged_bytes(self) -> int:
        """Bytes of the records and chunks that do not verify."""
        return sum(each.bytes for each in self.damages)

    @property
    def damaged_steps(self) -> int:
        """Steps that a damage touches, each counted once."""
        spans = sorted(
            (each.first_step, each.last_step + 1)
            for each in self.damages
            if each.first_step is not None and each.last_step is not None
        )
        count, done = 0, 0
        for first, end in spans:
            count += max(0, end - max(first, done))
            done = max(done, end)
        return count

    def __str__(self) -> str:
        found = (
            f"{self.commits:,} commits, {self.records:,} records, {self.frames:,} frames, "
            f"{self.bytes:,} bytes: "
        )
        if self.ok:
            return found + "sound"
        return "\n".join([found + f"{len(self.damages)} damaged", *map(str, self.damages)])


def note(result: Verification, error: StepsonError) -> None:
    """Note an error, unless the place is known."""
    damage = Damage.of(error)
    if damage.offset is None or damage.offset not in {d.offset for d in result.damages}:
        result.damages.append(damage)
