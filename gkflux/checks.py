"""What could make a thermal conductivity wrong, looked for every time, and said in words.

A check never raises and never withholds the number. Each gives a status (pass, warn,
fail) and a message with the numbers it looked at and, where it does not pass, what to do.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite, nan, sqrt
from typing import Literal

import numpy as np

from gkflux.analysis import Analysis
from gkflux.correlate import Float
from gkflux.estimators.blocks import z_halves
from gkflux.estimators.composed import ANISOTROPIC
from gkflux.estimators.estimate import quantile
from gkflux.moments import Drift, drift
from gkflux.plan import Settings
from gkflux.reduce import Reduced
from gkflux.survey import MOMENT_BLOCKS, Survey
from gkflux.verdict import CONVERGED, NO_ERROR, correlation_times, written
from stepson.units import BOLTZMANN

__all__ = ["Check", "Status", "aliasing", "make_checks"]

Status = Literal["pass", "warn", "fail"]


@dataclass(frozen=True)
class Check:
    """One thing looked at."""

    name: str
    status: Status
    message: str


def make_checks(data: Reduced, found: Analysis, settings: Settings) -> tuple[Check, ...]:
    """Make every check."""
    checks = [
        _spacing(data),
        _finite(data),
        aliasing(found.curves["survey_spectrum"], found.curves["survey_frequency"]),
        _energy(data),
        _temperature(data),
        _mean_flux(data, found),
        _halves(found),
        _length(data, found),
        _isotropy(found),
        _agreement(found),
        _scan(found),
        _thermodynamics(data),
        _diffusion(data),
        _aic(found),
    ]
    return tuple(check for check in checks if check is not None)


def _spacing(data: Reduced) -> Check:
    gaps = sum(s.gaps for s in data.surveys)
    every = written(data.spacing)
    if not gaps:
        return Check("spacing", "pass", f"samples are evenly spaced, {every} apart")
    return Check(
        "spacing",
        "warn",
        f"{gaps} gaps in the series, {every} apart elsewhere; no correlation is taken "
        "across a "
        "gap, and what follows it counts as another run",
    )


def _finite(data: Reduced) -> Check:
    bad = sum(s.bad for s in data.surveys)
    total = sum(s.run.samples for s in data.surveys)
    if not bad:
        return Check("finite", "pass", f"all {total} samples are finite")
    status: Status = "fail" if bad > 0.01 * total else "warn"
    return Check(
        "finite",
        status,
        f"{bad} of {total} samples are not finite and were left out, the runs cut there; "
        "find out what the simulation did at those steps",
    )


def aliasing(spectrum: Float, frequency: Float) -> Check:
    """Look for power near the Nyquist frequency that has been folded back onto low ones.

    Fails when more than 5 % of the power lies above 0.8 f_Nyquist, or the density at the
    edge is more than 2 % of its maximum. On amorphous silica it passes to 12 fs and trips
    from 13 fs.

    Args:
        spectrum: density of the undecimated flux, shape (bins,).
        frequency: THz, shape (bins,).
    """
    bins = len(spectrum)
    width = max(1, bins // 64)
    smooth = np.convolve(spectrum, np.ones(width) / width, mode="valid")
    high = frequency > 0.8 * frequency[-1]
    share = float(spectrum[high].sum() / spectrum.sum())
    edge = float(smooth[-1] / smooth.max())
    words = (
        f"{100 * share:.1f} % of the power above 0.8 Nyquist ({0.8 * frequency[-1]:.3g} "
        "THz), "
        f"density at the edge {100 * edge:.1f} % of the maximum"
    )
    if share <= 0.05 and edge <= 0.02:
        return Check("aliasing", "pass", words)
    return Check(
        "aliasing",
        "fail",
        words
        + "; the flux is sampled too coarsely and kappa may be far too large: record it "
        "at least twice as often, or as block means",
    )


def _fits(data: Reduced, name: str) -> Iterator[tuple[Survey, Drift]]:
    for found in data.surveys:
        blocks = found.moments.get(name)
        if not blocks:
            continue
        length = found.run.samples * found.run.spacing
        times = (np.arange(MOMENT_BLOCKS) + 0.5) * length / MOMENT_BLOCKS
        fit = drift(blocks, times)
        if isfinite(fit.slope):
            yield found, fit


def _energy(data: Reduced) -> Check | None:
    """Drift of the total energy, as a temperature: what if all of it were kinetic."""
    worst, where, relative = 0.0, "", 0.0
    known = False
    for found, fit in _fits(data, "energy"):
        known = True
        freedom = float(found.run.facts.get("degrees_of_freedom") or nan)
        kelvin = 2 * fit.change / (freedom * BOLTZMANN)
        share = abs(kelvin) / found.temperature
        if share > relative and (fit.significance > 2 or not isfinite(fit.significance)):
            worst, where, relative = kelvin, found.run.name, share
    if not known:
        return Check(
            "energy drift",
            "warn",
            "the total energy was not recorded, its drift is not known",
        )
    words = f"the total energy drifts by {worst:+.3g} K over a run" + (
        f" ({where})" if where else ""
    )
    if relative < 0.005:
        return Check("energy drift", "pass", words)
    return Check(
        "energy drift",
        "fail" if relative > 0.02 else "warn",
        f"{words}, {100 * relative:.1f} % of T; the dynamics do not conserve energy: use a "
        "shorter timestep or float64",
    )


def _temperature(data: Reduced) -> Check | None:
    worst, name, sigma, known = 0.0, "", 0.0, False
    for found, fit in _fits(data, "temperature"):
        known = True
        share = abs(fit.change) / found.temperature
        if fit.significance > 3 and share > abs(worst):
            worst, name, sigma = (
                fit.change / found.temperature,
                found.run.name,
                fit.significance,
            )
    if not known:
        return None
    if abs(worst) < 0.01:
        return Check(
            "temperature drift", "pass", "the temperature is steady within its noise"
        )
    return Check(
        "temperature drift",
        "fail" if abs(worst) > 0.05 else "warn",
        f"the temperature of {name} drifts by {100 * worst:+.1f} % over the run "
        f"({sigma:.1f} sigma); equilibrate longer",
    )


def _mean_flux(data: Reduced, found: Analysis) -> Check:
    """Mean of J against its error, sqrt(S(0)/length), with Bonferroni over components."""
    length = sum(s.samples for s in data.surveys)
    error = sqrt(found.cepstrum.zero / (length * data.spacing))
    z = float(np.abs(data.lags.mean).max() / error)
    limit = quantile(1 - 0.01 / found.components, np.inf)
    if z <= limit:
        return Check("mean flux", "pass", f"the mean flux is zero within {z:.1f} sigma")
    return Check(
        "mean flux",
        "warn",
        f"the mean flux is {z:.1f} sigma from zero: a momentum that was not removed, "
        "hopping "
        "atoms, or a system out of equilibrium; the mean is removed before integrating",
    )


def _halves(found: Analysis) -> Check:
    values = found.blocks if len(found.blocks) >= 4 else found.logs
    z = z_halves(values)
    if not isfinite(z):
        return Check(
            "stationarity", "warn", "too few blocks to compare the halves of the data"
        )
    words = f"the halves of the data differ by {abs(z):.1f} sigma"
    if abs(z) < 3:
        return Check("stationarity", "pass", words)
    return Check(
        "stationarity",
        "warn",
        f"{words}: something changed during the runs; equilibrate longer",
    )


def _length(data: Reduced, found: Analysis) -> Check:
    times = correlation_times(data, found)
    words = f"components x length are {times:.0f} correlation times of {written(found.tau)}"
    if times >= CONVERGED:
        return Check("length", "pass", words)
    return Check(
        "length",
        "warn" if times >= NO_ERROR else "fail",
        f"{words}, {CONVERGED:.0f} are needed for a sound error: run about "
        f"{CONVERGED / times:.1f} times as long",
    )


def _isotropy(found: Analysis) -> Check | None:
    if found.components < 2 or not np.all(np.isfinite(np.diag(found.tensor_std))):
        return None
    values, errors = np.diag(found.tensor), np.diag(found.tensor_std)
    words = "components " + ", ".join(
        f"{v:.3g} ± {e:.2g}" for v, e in zip(values, errors, strict=True)
    )
    if found.chance >= ANISOTROPIC:
        return Check(
            "isotropy",
            "pass",
            f"{words}: equal within their errors (p = {found.chance:.2f})",
        )
    return Check(
        "isotropy",
        "warn",
        f"{words}: they differ beyond chance (p = {found.chance:.1e}); right for an "
        "anisotropic "
        "crystal, otherwise a sign of too little data; kappa is their mean",
    )


def _agreement(found: Analysis) -> Check | None:
    cepstral, dip = found.methods["cepstral"], found.methods["first_dip"]
    if not isfinite(dip.kappa):
        return Check(
            "methods",
            "warn",
            "the filtered autocorrelation has no dip within the longest lag: the first-dip "
            "integral is not converged; run longer, or give a longer lag",
        )
    if not isfinite(dip.std):
        return None
    z = abs(dip.kappa - cepstral.kappa) / sqrt(dip.std**2 + cepstral.std**2)
    words = f"cepstral {cepstral.kappa:.3g}, first dip {dip.kappa:.3g}: {z:.1f} sigma apart"
    if z < 2.5:
        return Check("methods", "pass", words)
    return Check("methods", "warn", f"{words}; look at the spectrum and at the cut")


def _scan(found: Analysis) -> Check | None:
    kappas, stds = found.curves["kappa_of_fstar"], found.curves["kappa_of_fstar_std"]
    known = np.isfinite(kappas)
    if np.count_nonzero(known) < 2:
        return None
    low, high = kappas[known].min(), kappas[known].max()
    spread = (high - low) / np.median(stds[known])
    words = f"kappa is {low:.3g} to {high:.3g} for every f* tried"
    if spread < 3:
        return Check("decimation", "pass", words)
    return Check(
        "decimation", "warn", f"{words}: it depends on f*; look at the scan in the report"
    )


def _thermodynamics(data: Reduced) -> Check:
    t = [s.temperature for s in data.surveys]
    source = "measured" if data.surveys[0].total("temperature").count else "as given"
    volume = np.mean([s.volume for s in data.surveys])
    return Check(
        "temperature and volume",
        "pass",
        f"T = {np.mean(t):.2f} K ({source}), V = {volume:.1f} Å³, those of the frames "
        "analysed",
    )


def _diffusion(data: Reduced) -> Check | None:
    moving = [s.run.name for s in data.surveys if s.run.facts.get("diffusing")]
    if not moving or data.channels > data.components:
        return None
    return Check(
        "diffusion",
        "warn",
        "species diffuse and no mass currents were given: kappa of a mixture is then too "
        "large "
        "(molten NaCl: 0.644 instead of 0.498); give currents=",
    )


def _aic(found: Analysis) -> Check | None:
    plain, twice = found.methods["cepstral_aic"], found.methods["cepstral"]
    if plain.kappa == twice.kappa or found.cepstrum.cutoff <= found.cepstrum.cutoff_aic:
        return None
    step = abs(twice.kappa - plain.kappa) / sqrt(max(twice.std**2 - plain.std**2, 1e-300))
    words = (
        f"K = {found.cepstrum.cutoff} gives {twice.kappa:.3g}, "
        f"K_AIC = {found.cepstrum.cutoff_aic} gives {plain.kappa:.3g}"
    )
    if step < 2.5:
        return Check("cut-off", "pass", words)
    return Check(
        "cut-off",
        "warn",
        f"{words}: kappa still changes with the cut-off, see kappa against K",
    )
