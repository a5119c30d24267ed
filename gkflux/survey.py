"""First pass of a reduction: what is in the runs, and how the flux behaves.

Every run is read once: moments of temperature, energy, volume and flux over blocks of
time (for means and drifts), samples that are not finite, gaps, and a spectrum over short
segments from which `plan` chooses the settings of the second pass.

A run is read in leaves, ranges of samples that do not depend on who reads them; what is
found in one and in the next merges to what is found in both, so leaves may be read side by
side, and one that was read before need not be read again when the run has grown.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gkflux.correlate import Float
from gkflux.errors import FluxError
from gkflux.leaves import LEAF, Leaf, Tally, fold
from gkflux.moments import Moments, TimeMoments
from gkflux.parallel import Pool
from gkflux.pieces import Breaks
from gkflux.runs import Chunk, Run
from gkflux.spectrum import Spectrum, SpectrumAccumulator
from gkflux.states import States

__all__ = ["Survey", "check_temperatures", "survey_all"]

SEGMENT = 4096
"""Samples of a segment of the spectrum."""
MOMENT_BLOCKS = 64
"""Blocks of time at most whose moments are kept apart: drift is a line through their
means."""


@dataclass(frozen=True)
class Survey:
    """What the first pass found out about one run."""

    run: Run
    pieces: tuple[tuple[int, int], ...]
    """Contiguous, finite ranges of samples."""
    bad: int
    """Samples that are not finite."""
    gaps: int
    """Places where the spacing of the samples is not that of the run."""
    moments: TimeMoments
    """Of temperature, energy, volume and the flux components; the flux is that of
    `pieces`."""

    def total(self, name: str) -> Moments:
        """Moments of a quantity over the whole run."""
        return self.moments.total(name)

    @property
    def temperature(self) -> float:
        """Mean kinetic temperature of the frames analysed, K."""
        found = self.total("temperature")
        return found.mean if found.count else float(self.run.temperature or 0.0)

    @property
    def volume(self) -> float:
        """Mean volume of the frames analysed, Å³."""
        found = self.total("volume")
        return found.mean if found.count else float(self.run.volume or 0.0)

    @property
    def samples(self) -> int:
        """Samples in `pieces`."""
        return sum(stop - start for start, stop in self.pieces)

    @property
    def scale(self) -> float:
        """1/(T sqrt V): the flux times this pools with that of other runs."""
        return 1.0 / (self.temperature * sqrt(self.volume))


def survey_all(
    runs: Sequence[Run],
    *,
    where: Pool | None = None,
    states: States | None = None,
    tell: Callable[[str], Tally] | None = None,
) -> tuple[list[Survey], Spectrum]:
    """Read every run once.

    Args:
        runs: at least one.
        where: a pool that reads the leaves.
        states: what was read before, and where to keep what is read now.
        tell: makes what counts the leaves that are done.

    Returns:
        what was found out about each run, and the spectrum of all, each scaled by its
        1/(T sqrt V).

    Raises:
        FluxError: a run without finite samples, temperature or volume.
    """
    if not runs:
        raise FluxError("no runs to reduce")
    length = min(SEGMENT, max(run.samples for run in runs))
    seen = _survey_all(runs, length, where, states, tell)
    found = [_checked(run, one) for run, one in zip(runs, seen, strict=True)]
    if not any(one.spectrum.segments for one in seen):
        # gaps everywhere: any stretch holds a segment of half its length
        longest = max(stop - start for one in found for start, stop in one.pieces)
        seen = _survey_all(runs, (longest + 1) // 2, where, None, None)
    pooled = seen[0].spectrum.scaled(found[0].scale)
    for one, state in zip(found[1:], seen[1:], strict=True):
        pooled = pooled.merge(state.spectrum.scaled(one.scale))
    return found, pooled


class Seen(NamedTuple):
    """What consecutive samples of a run hold; what follows them is merged to it."""

    breaks: Breaks
    moments: TimeMoments
    spectrum: Spectrum


class _Look(NamedTuple):
    """The first pass over one run; travels to where its leaves are read."""

    run: Run
    length: int

    @property
    def leaves(self) -> list[Leaf]:
        """Whole segments each, but for what is left over."""
        size = max(1, LEAF // self.length) * self.length
        edges = [*range(0, self.run.samples, size), self.run.samples]
        return [Leaf(a, b, b - a == size) for a, b in pairwise(edges)]

    def read(self, leaf: Leaf) -> Seen:
        """Read one leaf."""
        run, at = self.run, leaf.start
        breaks = Breaks(at, at)
        moments = TimeMoments(_span(run))
        spectrum = _GridSpectrum(run, self.length, at)
        for chunk in run.read(leaf.start, leaf.stop):
            finite: NDArray[np.bool_] = np.all(np.isfinite(chunk.flux), axis=1)
            part = Breaks.of(at, chunk.steps, finite, run.every)
            breaks = breaks.merge(part, run)
            moments = moments.merge(TimeMoments.of(_span(run), _series(chunk, finite, run)))
            spectrum.update(chunk.flux, breaks.cuts())
            at += len(chunk.steps)
        return Seen(breaks, moments, spectrum.state())

    def merge(self, first: Seen, second: Seen) -> Seen:
        """What is in both; `second` follows."""
        return Seen(
            first.breaks.merge(second.breaks, self.run),
            first.moments.merge(second.moments),
            first.spectrum.merge(second.spectrum),
        )

    def key(self) -> dict[str, object]:
        """What a state of this pass depends on, beside the run."""
        return {"pass": "survey", "segment": self.length}


def _survey_all(
    runs: Sequence[Run],
    length: int,
    where: Pool | None,
    states: States | None,
    tell: Callable[[str], Tally] | None,
) -> list[Seen]:
    looks = [_Look(run, length) for run in runs]
    return fold(looks, where=where, states=states, tally=tell and tell("surveyed"))


def _span(run: Run) -> int:
    """Steps of a block of time: a power of two samples, so that blocks merge in pairs."""
    least = -(-run.samples // MOMENT_BLOCKS)
    return int(run.every) << max(0, least - 1).bit_length()


def _series(
    chunk: Chunk, finite: NDArray[np.bool_], run: Run
) -> dict[str, tuple[NDArray[np.int64], Float]]:
    series = {
        name: (steps - run.origin, values)
        for name, (steps, values) in chunk.scalars.items()
    }
    steps, flux = chunk.steps - run.origin, chunk.flux
    if not finite.all():
        steps, flux = steps[finite], flux[finite]
    for component in range(run.channels):
        series[f"flux_{component}"] = (steps, flux[:, component])
    return series


class _GridSpectrum:
    """Spectrum of the segments of a grid that no gap and no bad sample interrupts."""

    def __init__(self, run: Run, length: int, start: int) -> None:
        self._length, self._at = length, start
        self._rest = np.zeros((0, run.channels))
        self._sums = SpectrumAccumulator(length, run.channels, run.spacing)

    def update(self, flux: Float, cuts: NDArray[np.int64]) -> None:
        """Take the samples that follow; pieces end before the samples `cuts`."""
        rows, length = np.concatenate([self._rest, flux]), self._length
        count = len(rows) // length
        whole = np.ones(count, dtype=bool)
        inside = cuts[(cuts - self._at) % length > 0]  # not at the beginning of a segment
        hit = (inside - self._at) // length
        whole[hit[(hit >= 0) & (hit < count)]] = False
        channels = rows.shape[1]
        segments = rows[: count * length].reshape(count, length, channels)
        self._sums.update(segments[whole].reshape(-1, channels))
        self._rest = rows[count * length :].copy()
        self._at += count * length

    def state(self) -> Spectrum:
        """Return the sum over all segments so far."""
        return self._sums.state()


def _checked(run: Run, seen: Seen) -> Survey:
    breaks = seen.breaks
    found = Survey(
        run, breaks.pieces(run), len(breaks.holes), len(breaks.jumps), seen.moments
    )
    _refuse_incomplete(found)
    return found


def check_temperatures(surveys: Sequence[Survey]) -> None:
    """Refuse runs whose mean temperatures differ by more than five standard deviations.

    Runs that name a target temperature were compared by that. One frame of g degrees of
    freedom fluctuates by sqrt(2/g) T, so 5 sqrt(2/g) T between means is another state,
    not noise.

    Raises:
        FluxError: naming the two runs.
    """
    free = [s for s in surveys if s.run.facts.get("target_K") is None]
    freedom = [s.run.facts.get("degrees_of_freedom") for s in free]
    if len(free) < 2 or not all(freedom):
        return
    low, high = min(free, key=_temperature), max(free, key=_temperature)
    limit = 5 * sqrt(2 / min(float(g) for g in freedom if g)) * low.temperature
    if high.temperature - low.temperature > limit:
        raise FluxError(
            f"{low.run.name} has T = {low.temperature:.1f} K, {high.run.name} has "
            f"{high.temperature:.1f} K; runs at different temperatures are not pooled: "
            "reduce them one by one"
        )


def _temperature(found: Survey) -> float:
    return found.temperature


def _refuse_incomplete(found: Survey) -> None:
    name = found.run.name
    if found.samples < 16:
        raise FluxError(
            f"{name}: fewer than 16 evenly spaced, finite samples of the heat flux"
        )
    if not found.temperature > 0:
        known = found.total("temperature").count > 0
        what = (
            f"a mean temperature of {found.temperature:g} K"
            if known
            else ("no kinetic temperature")
        )
        how = "record it in K" if known else "give temperature= (--temperature), in K"
        raise FluxError(f"{name}: {what}; kappa goes with 1/T²: {how}")
    if not found.volume > 0:
        raise FluxError(f"{name}: no volume (a cluster?); give volume= (--volume), in Å³")
