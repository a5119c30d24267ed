"""Second pass of a reduction: fill the exact accumulators of `correlate` and `segments`.

Each run's flux is scaled by its own 1/(T sqrt V) at the very end, so runs at slightly
different temperatures pool, and the prefactor left is one constant.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import reduce

import numpy as np

from gkflux.correlate import Float, PooledLags
from gkflux.leaves import Tally, fold
from gkflux.parallel import Pool
from gkflux.plan import Plan
from gkflux.spectrum import Spectrum
from gkflux.states import States
from gkflux.sums import Summation, Sums
from gkflux.survey import Survey

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
    states: States | None = None,
    tell: Callable[[str], Tally] | None = None,
) -> Reduced:
    """Read every run a second time and fill the accumulators.

    Args:
        surveys: the first pass.
        spectrum: that of the first pass.
        chosen: `plan` of them.
        where: a pool that reads the leaves.
        states: what was read before, and where to keep what is read now.
        tell: makes what counts the leaves that are done.
    """
    first = surveys[0].run
    components = min(3, first.channels)
    passes = [Summation(found.run, found.pieces, chosen, components) for found in surveys]
    sums = fold(passes, where=where, states=states, tally=tell and tell("reduced"))
    closed = [one.close() for one in sums]
    result = Reduced(
        plan=chosen,
        surveys=surveys,
        survey_spectrum=spectrum,
        spacing=first.spacing,
        channels=first.channels,
        components=components,
        lags=_added(surveys, closed),
    )
    mean = _mean(surveys, components)
    for number, (found, done) in enumerate(zip(surveys, closed, strict=True)):
        _pool(result, found, done, mean, number)
    return result


def _added(surveys: Sequence[Survey], closed: Sequence[Sums]) -> PooledLags:
    """Lag sums of all runs, scaled."""
    parts = (one.lags.scaled(s.scale) for s, one in zip(surveys, closed, strict=True))
    return reduce(PooledLags.merge, parts)


def remove_offsets(data: Reduced) -> None:
    """Take means that are no fluctuations out of the spectra."""
    data.survey_spectrum = data.survey_spectrum.without_offset()
    for skip, spectrum in data.spectra.items():
        data.spectra[skip] = clean = spectrum.without_offset()
        if skip == data.plan.skip and clean is not spectrum:
            for power in data.run_powers:
                power[:1] = power[1:2]


def _curves(terms: Float, mean: Float, scale: float, data: Reduced) -> list[Float]:
    """Running integral of every block of a run, mean of the components, scaled."""
    times = np.arange(terms.shape[2]) * data.plan.curve_stride * data.spacing
    linear = np.einsum("a,nap->np", mean, terms[:, 1:])
    curves = scale**2 * terms[:, 0] - scale * linear + float(mean @ mean) * times
    return list(curves / data.components)


def _pool(result: Reduced, found: Survey, done: Sums, mean: Float, number: int) -> None:
    """Add one run, scaled, to the sums over all."""
    for skip, spectrum in zip(result.plan.skips, done.spectra, strict=True):
        part = spectrum.scaled(found.scale)
        known = result.spectra.get(skip)
        result.spectra[skip] = part if known is None else known.merge(part)
        if skip == result.plan.skip:
            result.run_powers.append(part.groups.sum(axis=0))
            result.run_segments.append(part.segments)
    curves = _curves(done.terms, mean, found.scale, result)
    result.block_curves += curves
    result.block_runs += [number] * len(curves)


def _mean(surveys: Sequence[Survey], components: int) -> Float:
    """Mean of the scaled flux over all runs, shape (components,)."""
    total, count = np.zeros(components), 0
    for found in surveys:
        parts = [found.total(f"flux_{a}") for a in range(components)]
        total += found.scale * np.array([p.mean * p.count for p in parts])
        count += parts[0].count
    return total / count
