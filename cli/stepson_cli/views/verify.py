"""Whether a trajectory is sound, and if not, what is damaged."""

from typing import TYPE_CHECKING, Any

from rich.text import Text

from stepson_cli.quantities import plural, size

if TYPE_CHECKING:
    from stepson.verify import Verification

__all__ = ["verdict", "verdict_facts"]


def verdict(result: "Verification", *, path: str, torn: int) -> Text:
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
    if torn:
        text.append(f"\n{plural(torn, 'byte')} at the end were never committed: no damage")
    for damage in result.damages:
        text.append(f"\n  {damage}", "bad")
    return text


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
        "damages": [str(damage) for damage in result.damages],
    }
