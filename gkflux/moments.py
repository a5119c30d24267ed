"""Count, mean and variance of scalars, in one pass, mergeable; and their drift.

The pairwise update of Chan, Golub and LeVeque (1979): numerically sound where the
textbook sum of squares is not (a total energy of -1e5 eV that fluctuates by 1e-3 eV). The
drift of a quantity is taken from means over blocks of time, because neighbouring samples
of molecular dynamics are not independent and a plain regression would claim far too small
an error.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf, nan, sqrt

import numpy as np
from numpy.typing import NDArray

from gkflux.correlate import Float

__all__ = ["Drift", "Moments", "TimeMoments", "drift"]


@dataclass(frozen=True)
class Moments:
    """Count, mean, sum of squared deviations, smallest and largest of some samples."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    """Sum of (x - mean)²."""
    low: float = inf
    high: float = -inf

    @classmethod
    def of(cls, samples: Float) -> "Moments":
        """Return the moments of an array; samples that are not finite are left out."""
        values = np.asarray(samples, dtype=np.float64).ravel()
        values = values[np.isfinite(values)]
        if not values.size:
            return cls()
        mean = float(values.mean())
        squares = float(np.square(values - mean).sum())
        return cls(values.size, mean, squares, float(values.min()), float(values.max()))

    def merge(self, other: "Moments") -> "Moments":
        """Return the moments of both sets of samples together."""
        count = self.count + other.count
        if not self.count or not other.count:
            return self if self.count else other
        step = other.mean - self.mean
        return Moments(
            count,
            self.mean + step * other.count / count,
            self.squares + other.squares + step**2 * self.count * other.count / count,
            min(self.low, other.low),
            max(self.high, other.high),
        )

    @property
    def variance(self) -> float:
        """Unbiased variance, nan below two samples."""
        return self.squares / (self.count - 1) if self.count > 1 else nan

    @property
    def std(self) -> float:
        """Square root of the variance."""
        return sqrt(self.variance)


@dataclass(frozen=True)
class Drift:
    """A straight line through block means."""

    slope: float
    """Per fs."""
    slope_std: float
    """Standard error of the slope, from the scatter of the block means about the line."""
    length: float
    """fs, first to last block centre: slope * length is the change over the run."""

    @property
    def change(self) -> float:
        """Change over the run."""
        return self.slope * self.length

    @property
    def significance(self) -> float:
        """Slope over its standard error; nan where there are too few blocks."""
        return abs(self.slope) / self.slope_std if self.slope_std > 0 else nan


@dataclass(frozen=True)
class TimeMoments:
    """Moments of several quantities, each in consecutive blocks of time."""

    span: int
    """Steps of a block."""
    blocks: Mapping[str, Mapping[int, Moments]] = field(default_factory=dict)
    """By quantity and number of the block."""

    @classmethod
    def of(
        cls, span: int, series: Mapping[str, tuple[NDArray[np.int64], Float]]
    ) -> "TimeMoments":
        """Return those of some series: steps since the first one of all, and values."""
        blocks: dict[str, dict[int, Moments]] = {}
        for name, (steps, values) in series.items():
            where = steps // span
            cuts = [0, *(np.flatnonzero(np.diff(where)) + 1).tolist(), len(where)]
            blocks[name] = {
                int(where[start]): Moments.of(values[start:stop])
                for start, stop in pairwise(cuts if len(where) else [])
            }
        return cls(span, blocks)

    def merge(self, other: "TimeMoments") -> "TimeMoments":
        """Return the moments of both sets of samples, in blocks of the larger span.

        One span must be a multiple of the other.
        """
        if self.span != other.span:
            span = max(self.span, other.span)
            return self.coarser(span).merge(other.coarser(span))
        blocks = {name: dict(mine) for name, mine in self.blocks.items()}
        for name, theirs in other.blocks.items():
            mine = blocks.setdefault(name, {})
            for number, one in theirs.items():
                mine[number] = mine.get(number, Moments()).merge(one)
        return TimeMoments(self.span, blocks)

    def coarser(self, span: int) -> "TimeMoments":
        """Return the moments in blocks of `span` steps, a multiple of the present span."""
        times = span // self.span
        blocks: dict[str, dict[int, Moments]] = {}
        for name, mine in self.blocks.items():
            blocks[name] = {}
            for number, one in sorted(mine.items()):
                known = blocks[name].get(number // times, Moments())
                blocks[name][number // times] = known.merge(one)
        return TimeMoments(span, blocks)

    def total(self, name: str) -> Moments:
        """Moments of a quantity over all time."""
        result = Moments()
        for _, block in sorted(self.blocks.get(name, {}).items()):
            result = result.merge(block)
        return result

    def drift(self, name: str, timestep: float) -> Drift:
        """Fit a line to the means of the blocks of a quantity, steps `timestep` fs."""
        mine = sorted(self.blocks.get(name, {}).items())
        times = [(number + 0.5) * self.span * timestep for number, _ in mine]
        return drift([one for _, one in mine], np.array(times))


def drift(blocks: Sequence[Moments], times: Float) -> Drift:
    """Fit a line to the means of consecutive blocks.

    Args:
        blocks: the moments of consecutive stretches of time; empty ones are skipped.
        times: centres of the blocks, fs, shape (len(blocks),).

    Returns:
        the slope with its standard error, both nan below four blocks.
    """
    keep = [index for index, block in enumerate(blocks) if block.count]
    if len(keep) < 4:
        return Drift(nan, nan, nan)
    t = np.asarray(times, dtype=np.float64)[keep]
    means = np.array([blocks[index].mean for index in keep])
    centred = t - t.mean()
    spread = float(centred @ centred)
    slope = float(centred @ (means - means.mean())) / spread
    residual = means - means.mean() - slope * centred
    error = sqrt(float(residual @ residual) / (len(keep) - 2) / spread)
    return Drift(slope, error, float(t[-1] - t[0]))
