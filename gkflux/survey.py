"""First pass of a reduction: what is in the runs, and how the flux behaves.

Every run is read once: moments of temperature, energy, volume and flux over blocks of
time (for means and drifts), samples that are not finite, gaps, and a spectrum over short
segments from which `plan` chooses the settings of the second pass.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from gkflux.correlate import Float
from gkflux.errors import FluxError
from gkflux.moments import Moments
from gkflux.parallel import Pool, in_order
from gkflux.pieces import Pieces
from gkflux.runs import Chunk, Run
from gkflux.spectrum import Spectrum, SpectrumAccumulator

__all__ = [
    "MOMENT_BLOCKS",
    "Progress",
    "Survey",
    "check_temperatures",
    "survey",
    "survey_all",
]

SEGMENT = 4096
"""Samples of a segment of the spectrum."""
MOMENT_BLOCKS = 32
"""Stretches of time whose moments are kept apart: drift is a line through their means."""
Progress = Callable[[str, int, int], None]
"""Called with what was done, how many are done, and of how many."""


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
    moments: dict[str, tuple[Moments, ...]]
    """Of temperature, energy, volume and the flux components, in blocks of time; the flux
    is that of `pieces`."""

    def total(self, name: str) -> Moments:
        """Moments of a quantity over the whole run."""
        result = Moments()
        for block in self.moments.get(name, ()):
            result = result.merge(block)
        return result

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
    runs: Sequence[Run], *, where: Pool | None = None, progress: Progress | None = None
) -> tuple[list[Survey], Spectrum]:
    """Read every run once.

    Args:
        runs: at least one.
        where: a pool that takes one run each.
        progress: called after every run.

    Returns:
        what was found out about each run, and the spectrum of all, each scaled by its
        1/(T sqrt V).

    Raises:
        FluxError: a run without finite samples, temperature or volume.
    """
    length = min(SEGMENT, max(run.samples for run in runs))
    found, pooled = _survey_all(runs, length, where, progress)
    if not pooled.segments:  # gaps everywhere: segments as long as the longest stretch
        longest = max(stop - start for one in found for start, stop in one.pieces)
        found, pooled = _survey_all(runs, longest, where, None)
    return found, pooled


def _survey_all(
    runs: Sequence[Run], length: int, where: Pool | None, progress: Progress | None
) -> tuple[list[Survey], Spectrum]:
    found: list[Survey] = []
    pooled: Spectrum | None = None
    for one, spectrum in in_order(partial(survey, length=length), runs, where):
        found.append(one)
        part = spectrum.scaled(one.scale)
        pooled = part if pooled is None else pooled.merge(part)
        if progress is not None:
            progress(f"surveyed {one.run.name}", len(found), len(runs))
    if pooled is None:
        raise FluxError("no runs to reduce")
    return found, pooled


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


def survey(run: Run, length: int = SEGMENT) -> tuple[Survey, Spectrum]:
    """Read a run once.

    Args:
        run: the run.
        length: samples of a segment of the spectrum.

    Raises:
        FluxError: no finite samples, too many gaps, or no temperature or volume.
    """
    spectrum = _PieceSpectrum(run, length)
    moments: dict[str, list[Moments]] = {}
    tracker = Pieces(run)
    first: int | None = None
    for chunk in run.chunks():
        if first is None and len(chunk.steps):
            first = int(chunk.steps[0])
        cuts, finite = tracker.update(chunk)
        spectrum.update(chunk.flux, cuts, finite)
        _add_moments(moments, _series(chunk, finite, run.channels), first or 0, run)
    result = Survey(
        run,
        tracker.pieces(),
        tracker.bad,
        tracker.gaps,
        {name: tuple(blocks) for name, blocks in moments.items()},
    )
    _refuse_incomplete(result)
    return result, spectrum.state()


def _series(
    chunk: Chunk, finite: NDArray[np.bool_], channels: int
) -> dict[str, tuple[NDArray[np.int64], Float]]:
    series = dict(chunk.scalars)
    steps, flux = chunk.steps, chunk.flux
    if not finite.all():
        steps, flux = steps[finite], flux[finite]
    for component in range(channels):
        series[f"flux_{component}"] = (steps, flux[:, component])
    return series


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


class _PieceSpectrum:
    """Spectrum of the segments that no gap and no bad sample interrupts."""

    def __init__(self, run: Run, length: int) -> None:
        self._run, self._length = run, length
        self._current = self._new()
        self._total: Spectrum | None = None

    def _new(self) -> SpectrumAccumulator:
        return SpectrumAccumulator(self._length, self._run.channels, self._run.spacing)

    def update(self, flux: Float, cuts: Sequence[int], finite: NDArray[np.bool_]) -> None:
        """Take a chunk that falls into pieces before the rows `cuts`."""
        for start, stop in pairwise([0, *cuts, len(flux)]):
            if start in cuts:
                self._total = self.state()
                self._current = self._new()
            rows = flux[start:stop]
            self._current.update(rows if finite[start:stop].all() else rows[:0])

    def state(self) -> Spectrum:
        """Return the sum over all pieces so far."""
        part = self._current.state()
        return part if self._total is None else self._total.merge(part)


def _add_moments(
    moments: dict[str, list[Moments]],
    series: Mapping[str, tuple[NDArray[np.int64], Float]],
    first: int,
    run: Run,
) -> None:
    span = max(1, run.samples * run.every)
    for name, (steps, values) in series.items():
        blocks = moments.setdefault(name, [Moments()] * MOMENT_BLOCKS)
        where = np.clip((steps - first) * MOMENT_BLOCKS // span, 0, MOMENT_BLOCKS - 1)
        cuts = [0, *(np.flatnonzero(np.diff(where)) + 1).tolist(), len(where)]
        for start, stop in pairwise(cuts if len(where) else []):
            index = int(where[start])
            blocks[index] = blocks[index].merge(Moments.of(values[start:stop]))
