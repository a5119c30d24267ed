"""Where a series is contiguous: correlations are taken within such pieces only.

A sample that is not finite, or whose step is not the one expected, ends a piece. What
follows it counts as another run: nothing is filled in, nothing is correlated across.
"""

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from gkflux.errors import FluxError
from gkflux.runs import Run

__all__ = ["Breaks"]

MAX_PIECES = 256
"""Contiguous pieces that one run may fall into."""
Integers = NDArray[np.int64]
_NONE: Integers = np.zeros(0, np.int64)


@dataclass(frozen=True)
class Breaks:
    """The breaks within consecutive samples of a run; what follows is merged to it."""

    start: int = 0
    """Number of the first sample."""
    stop: int = 0
    """Behind the last one."""
    first: int = 0
    """Step of the first sample."""
    last: int = 0
    """Step of the last one."""
    jumps: Integers = field(default_factory=lambda: _NONE)
    """Samples whose step is not the one expected after the sample before them."""
    holes: Integers = field(default_factory=lambda: _NONE)
    """Samples that are not finite."""

    @classmethod
    def of(
        cls, start: int, steps: Integers, finite: NDArray[np.bool_], every: int
    ) -> "Breaks":
        """Find those of a chunk, the first of whose samples has the number `start`."""
        if not len(steps):
            return cls(start, start)
        return cls(
            start,
            start + len(steps),
            int(steps[0]),
            int(steps[-1]),
            np.flatnonzero(np.diff(steps) != every) + 1 + start,
            np.flatnonzero(~finite) + start,
        )

    def merge(self, other: "Breaks", run: Run) -> "Breaks":
        """Return the breaks of both; `other` are the samples behind these.

        Raises:
            FluxError: far more breaks than a run may have.
        """
        if self.stop == self.start or other.stop == other.start:
            return other if self.stop == self.start else self
        seam = other.first != self.last + run.every
        between = np.array([other.start] if seam else [], np.int64)
        both = Breaks(
            self.start,
            other.stop,
            self.first,
            other.last,
            np.concatenate([self.jumps, between, other.jumps]),
            np.concatenate([self.holes, other.holes]),
        )
        if len(both.jumps) + len(both.holes) > 64 * MAX_PIECES:
            both.refuse(run)
        return both

    def cuts(self) -> Integers:
        """Samples before which a piece ends."""
        return np.unique(np.concatenate([self.jumps, self.holes, self.holes + 1]))

    def pieces(self, run: Run) -> tuple[tuple[int, int], ...]:
        """Return the ranges of at least two samples.

        Raises:
            FluxError: too many of them, or none in what is not finite.
        """
        edges = np.unique([self.start, *self.cuts(), self.stop]).tolist()
        holes = set(self.holes.tolist())
        found = [(a, b) for a, b in pairwise(edges) if a not in holes and b - a > 1]
        if len(found) > MAX_PIECES or (holes and not found):
            self.refuse(run)
        return tuple(found)

    def refuse(self, run: Run) -> None:
        """Say how uneven the series is.

        Raises:
            FluxError: always.
        """
        raise FluxError(
            f"{run.name}: {len(self.holes)} samples are not finite and {len(self.jumps)} "
            f"are not {run.every} steps after the one before; keep the evenly spaced, "
            "finite ones"
        )
