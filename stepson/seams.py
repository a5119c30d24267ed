"""Where one file ends and the next goes on: what is missing, and what is there twice."""

from typing import NamedTuple

__all__ = ["Gap", "Overlap"]


class Gap(NamedTuple):
    """Steps that were due between two files and are in none."""

    files: tuple[str, str]
    """The one before and the one behind."""
    first: int
    """The first step missing."""
    last: int
    """The last step missing."""


class Overlap(NamedTuple):
    """Frames of a file that do not count: the one that continues it starts before them."""

    files: tuple[str, str]
    """Whose frames do not count, and whose do."""
    first: int
    """Step of the first frame that does not count."""
    last: int
    """Step of the last."""
