"""Whether a trajectory is sound, and if not, what is damaged."""

from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.text import Text

from stepson_cli.quantities import plural, size
from stepson_cli.views.damages import table

if TYPE_CHECKING:
    from stepson.verify import Verification

__all__ = ["verdict", "verdict_facts"]


def verdict(result: "Verification", *, path: str, torn: int) -> RenderableType:
    """Say whether a file is sound, and list what is damaged.

    Args:
        result: of the check.
        path: of the file.
        torn: bytes that were never committed.
    """
    state = ("sound", "good") if result.ok else ("damaged", "bad")
    text = Text.assemble((path, "title"), ": ", state)
    text.append(f", {size(result.bytes)} in {plural(result.commits, 'commit')}")
    text.append(f", {plural(result.frames, 'frame')}")
    if not result.ok:
        text.append(" in those that are sound")
    if result.broken_footer:
        text.append(f"\nthe last {plural(result.broken_footer, 'byte')} are a FOOTER that ")
        text.append("does not verify: killed while closing, or damaged; nothing is lost")
    elif torn:
        text.append(f"\n{plural(torn, 'byte')} at the end were never committed: no damage")
    if result.ok:
        return text
    text.append(f"\n{plural(len(result.damages), 'damage')}")
    if result.damaged_bytes:
        text.append(f" in {size(result.damaged_bytes)}")
    if result.damaged_steps:
        text.append(f", touching {plural(result.damaged_steps, 'step')}")
    text.append("\n")
    advice = Text("\neverything else stays readable; to save it in a new file:\n  ")
    advice.append(f"stepson recover {path} OUT.son", "command")
    return Group(text, table(result.damages), advice)


def verdict_facts(result: "Verification", *, path: str, torn: int) -> dict[str, Any]:
    """The same as numbers and strings."""
    return {
        "path": path,
        "ok": result.ok,
        "commits": result.commits,
        "records": result.records,
        "frames": result.frames,
        "bytes": result.bytes,
        "torn_bytes": torn,
        "broken_footer": result.broken_footer,
        "damaged_bytes": result.damaged_bytes,
        "damaged_steps": result.damaged_steps,
        "damages": [damage.to_map() for damage in result.damages],
    }
