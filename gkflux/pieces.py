"""Where a series is contiguous: correlations are taken within such pieces only.

A sample that is not finite, or whose step is not the one expected, ends a piece. What
follows it counts as another run: nothing is filled in, nothing is correlated across.
"""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from gkflux.errors import FluxError
from gkflux.runs import Chunk, Run

__all__ = ["Pieces"]

MAX_PIECES = 256
"""Contiguous pieces that one run may fall into."""


class Pieces:
    """Finds the contiguous, finite ranges of a run."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._seen = 0
        self._cuts: set[int] = {0}
        self._holes: set[int] = set()
        self._last: int | None = None
        self.bad = 0
        self.gaps = 0

    def update(self, chunk: Chunk) -> tuple[list[int], NDArray[np.bool_]]:
        """Return the rows before which a piece ends, and which rows are finite."""
        finite: NDArray[np.bool_] = np.all(np.isfinite(chunk.flux), axis=1)
        steps = chunk.steps
        before = steps[:1] - self._run.every if self._last is None else [self._last]
        jumps = np.flatnonzero(np.diff(np.concatenate([before, steps])) != self._run.every)
        holes = np.flatnonzero(~finite)
        cuts = np.unique(np.concatenate([jumps, holes, holes + 1]))
        self.gaps += len(jumps)
        self.bad += len(holes)
        self._cuts.update((cuts + self._seen).tolist())
        self._holes.update((holes + self._seen).tolist())
        if len(self._cuts) > 64 * MAX_PIECES:
            self._refuse()
        self._seen += len(steps)
        if len(steps):
            self._last = int(steps[-1])
        return [int(cut) for cut in cuts if cut < len(steps)], finite

    def pieces(self) -> tuple[tuple[int, int], ...]:
        """Return the ranges of at least two samples."""
        edges = sorted(self._cuts | {self._seen})
        found = [(a, b) for a, b in pairwise(edges) if a not in self._holes and b - a > 1]
        if len(found) > MAX_PIECES or (self._holes and not found):
            self._refuse()
        return tuple(found)

    def _refuse(self) -> None:
        raise FluxError(
            f"{self._run.name}: {self.bad} samples are not finite and {self.gaps} are not "
            f"{self._run.every} steps after the one before; keep the evenly spaced, "
            "finite ones"
        )
