"""Second pass of a reduction: fill the exact accumulators of `correlate` and `spectrum`.

Runs are independent of each other, so they may be reduced by several threads; each is
read in chunks, block by block, and the blocks, which are contiguous, merge exactly into
the run. What is kept does not grow with the length of the runs.

Each run's flux is scaled by its own 1/(T sqrt V), so runs at slightly different
temperatures pool, and the prefactor left is one constant.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from gkflux.correlate import Float, LagAccumulator, LagState, PooledLags, merge
from gkflux.estimators.first_dip import cumulative
from gkflux.parallel import Pool, in_order
from gkflux.plan import Plan
from gkflux.spectrum import Spectrum, SpectrumAccumulator
from gkflux.survey import Progress, Survey

__all__ = ["Reduced", "accumulate", "remove_offsets"]


@dataclass
class Reduced:
    """Everything that the estimators need, of a size that the length does not change."""

    plan: Plan
    surveys: Sequence[Survey]
    survey_spectrum: Spectrum
    """Of the first pass, all runs, scaled."""
    spacing: float
    """Between samples, fs."""
    channels: int
    components: int
    lags: PooledLags
    spectra: dict[int, Spectrum] = field(default_factory=dict)
    """For every decimation, all runs, scaled."""
    run_powers: list[Float] = field(default_factory=list)
    """Power of each run at the decimation of record, summed over segments and
    components."""
    run_segments: list[int] = field(default_factory=list)
    """Segments of each run."""
    block_curves: list[Float] = field(default_factory=list)
    """Running integral of each block, mean of the components, scaled, shape (points,)."""
    block_runs: list[int] = field(default_factory=list)
    """Run of each block."""


def accumulate(
    surveys: Sequence[Survey],
    spectrum: Spectrum,
    chosen: Plan,
    *,
    where: Pool | None = None,
    progress: Progress | None = None,
) -> Reduced:
    """Read every run a second time and fill the accumulators.

    Args:
        surveys: the first pass.
        spectrum: that of the first pass.
        chosen: `plan` of them.
        where: a pool that takes one run each.
        progress: called after every run.
    """
    first = surveys[0].run
    components = min(3, first.channels)
    result = Reduced(
        plan=chosen,
        surveys=surveys,
        survey_spectrum=spectrum,
        spacing=first.spacing,
        channels=first.channels,
        components=components,
        lags=PooledLags(chosen.window, components),
    )
    mean = _mean(surveys, components)
    work = partial(_reduce, chosen=chosen, components=components, mean=mean)
    for number, done in enumerate(in_order(work, surveys, where)):
        _pool(result, done, number)
        if progress is not None:
            progress(f"reduced {done.found.run.name}", number + 1, len(surveys))
    return result


def remove_offsets(data: Reduced) -> None:
    """Take means that are no fluctuations out of the spectra."""
    data.survey_spectrum = data.survey_spectrum.without_offset()
    for skip, spectrum in data.spectra.items():
        data.spectra[skip] = clean = spectrum.without_offset()
        if skip == data.plan.skip and clean is not spectrum:
            for power in data.run_powers:
                power[:1] = power[1:2]


def _reduce(found: Survey, chosen: Plan, components: int, mean: Float) -> "_RunReducer":
    return _RunReducer(found, chosen, components, mean).reduce()


def _pool(result: Reduced, done: "_RunReducer", number: int) -> None:
    """Add one run, scaled, to the sums over all."""
    scale = done.found.scale
    for state in done.states:
        result.lags.add(state, scale)
    for skip, spectrum in done.spectra.items():
        part = spectrum.scaled(scale)
        known = result.spectra.get(skip)
        result.spectra[skip] = part if known is None else known.merge(part)
        if skip == result.plan.skip:
            result.run_powers.append(part.groups.sum(axis=0))
            result.run_segments.append(part.segments)
    result.block_curves += done.curves
    result.block_runs += [number] * len(done.curves)


def _mean(surveys: Sequence[Survey], components: int) -> Float:
    """Mean of the scaled flux over all runs, shape (components,)."""
    total, count = np.zeros(components), 0
    for found in surveys:
        parts = [found.total(f"flux_{a}") for a in range(components)]
        total += found.scale * np.array([p.mean * p.count for p in parts])
        count += parts[0].count
    return total / count


class _RunReducer:
    """The second pass over one run."""

    def __init__(self, found: Survey, chosen: Plan, components: int, mean: Float) -> None:
        self.found = found
        self._plan = chosen
        self._components = components
        self._mean = mean
        self.states: list[LagState] = []
        self.curves: list[Float] = []
        self.spectra: dict[int, Spectrum] = {}

    def reduce(self) -> "_RunReducer":
        """Read the run; the results are attributes."""
        for start, stop in self.found.pieces:
            self._reduce_piece(start, stop)
        return self

    def _reduce_piece(self, start: int, stop: int) -> None:
        window = self._plan.window
        spectra = self._accumulators()
        blocks = max(1, (stop - start) // self._plan.block)
        edges = np.linspace(start, stop, blocks + 1).astype(int)[1:].tolist()
        state = LagState.empty(window, self._components)
        leaf = LagAccumulator(window, self._components)
        for rows, ends_block in self._rows(start, stop, edges):
            leaf.update(rows[:, : self._components])
            for spectrum in spectra.values():
                spectrum.update(rows)
            if ends_block:
                part = leaf.state()
                self.curves.append(self._curve(part))
                state = merge(state, part)
                leaf = LagAccumulator(window, self._components)
        self.states.append(state)
        for skip, spectrum in spectra.items():
            found = spectrum.state()
            known = self.spectra.get(skip)
            self.spectra[skip] = found if known is None else known.merge(found)

    def _accumulators(self) -> dict[int, SpectrumAccumulator]:
        run, chosen = self.found.run, self._plan
        return {
            skip: SpectrumAccumulator(
                length,
                run.channels,
                run.spacing,
                skip,
                chosen.group_every if skip == chosen.skip else 0,
            )
            for skip, length in zip(chosen.skips, chosen.lengths, strict=True)
        }

    def _rows(
        self, start: int, stop: int, edges: list[int]
    ) -> Iterator[tuple[Float, bool]]:
        """Give the samples of a piece, cut at the ends of blocks."""
        at, ends = 0, iter(edges)
        end = next(ends)
        for chunk in self.found.run.chunks():
            low, high = max(start, at), min(stop, at + len(chunk.flux))
            while low < high:
                upto = min(high, end)
                yield chunk.flux[low - at : upto - at], upto == end
                low = upto
                if upto == end:
                    end = next(ends, stop)
            at += len(chunk.flux)
            if at >= stop:
                return

    def _curve(self, block: LagState) -> Float:
        """Running integral of one block, centred by the mean of all data, thinned."""
        pool = PooledLags(block.window, self._components)
        pool.add(block, self.found.scale)
        autocorrelation = pool.finalize(mean=self._mean)
        trace = np.einsum("kaa->k", autocorrelation) / self._components
        thinned: Float = cumulative(trace, self.found.run.spacing)[
            :: self._plan.curve_stride
        ]
        return thinned.copy()
