"""What a command takes for the name of a trajectory: a path of this machine, or a URL."""

from pathlib import Path

__all__ = ["short", "trajectory"]


def trajectory(text: str) -> Path | str:
    """A `Path`, or text that a `Path` would mangle: a URL, or nothing at all."""
    return text if "://" in text or not text else Path(text)


def short(name: Path | str) -> str:
    """The last part, for a progress line."""
    return str(name).rstrip("/").rpartition("/")[2]
