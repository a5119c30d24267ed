"""Checks of the series themselves: sampled well, conserved, in equilibrium.

Each gives a status (pass, warn, fail) and a message with the numbers it looked at and,
where it does not pass, what to do.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite, nan, sqrt
from typing import Literal

import numpy as np

from gkflux.analysis import Analysis
from gkflux.correlate import Float
from gkflux.estimators.estimate import quantile
from gkflux.moments import Drift
from gkflux.reduce import Reduced
from gkflux.survey import Survey
from gkflux.verdict import written
from stepson.units import BOLTZMANN

__all__ = [
    "Check",
    "Status",
    "aliasing",
    "diffusion",
    "energy",
    "finite",
    "formulation",
    "lattice",
    "mean_flux",
    "spacing",
    "temperature",
    "thermodynamics",
]

REMOVED = 1e-5
SAME_VOLUME = 1e-2  # relative; below it a volume that was given is that of the cell
"""Mean flux in standard errors, of all components, that chance does not give."""
Status = Literal["pass", "warn", "fail"]


@dataclass(frozen=True)
class Check:
    """One thing looked at."""

    name: str
    status: Status
    message: str


def spacing(data: Reduced) -> Check:
    """Look for gaps."""
    gaps = sum(s.gaps for s in data.surveys)
    every = written(data.spacing)
    if not gaps:
        return Check("spacing", "pass", f"samples are evenly spaced, {every} apart")
    return Check(
        "spacing",
        "warn",
        f"{gaps} {'gap' if gaps == 1 else 'gaps'} in the series, {every} apart elsewhere; "
        "no correlation is taken across a gap, and what follows it counts as another run",
    )


def restarts(data: Reduced) -> Check | None:
    """Name what does not count because a run went on from an earlier state."""
    found = [line for s in data.surveys for line in s.run.facts.get("restarts", ())]
    if not found:
        return None
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return Check("restarts", "warn", f"{found[0]}; what is behind is left out{more}")


def finite(data: Reduced) -> Check:
    """Count the samples that are not finite."""
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
        f"THz), density at the edge {100 * edge:.1f} % of the maximum"
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
        fit = found.moments.drift(name, found.run.timestep)
        if isfinite(fit.slope):
            yield found, fit


def energy(data: Reduced) -> Check | None:
    """Drift of the total energy, as the change of temperature that it amounts to.

    dE = g kB dT, half of it kinetic: the same measure as the drift that a run shows.
    """
    worst, where, relative = 0.0, "", 0.0
    known = False
    for found, fit in _fits(data, "energy"):
        known = True
        freedom = float(found.run.facts.get("degrees_of_freedom") or nan)
        kelvin = fit.change / (freedom * BOLTZMANN)
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


def temperature(data: Reduced) -> Check | None:
    """Look for a temperature that goes up or down beyond its noise."""
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


def mean_flux(data: Reduced, found: Analysis) -> Check:
    """Mean of J against its error, sqrt(S(0)/length), over all runs and in each.

    Bonferroni over components and runs: replicas may each have a momentum of their own.
    """
    z = _mean_sigma(data.lags.mean, sum(s.samples for s in data.surveys), data, found)
    tries, worst = found.components, z
    if len(data.surveys) > 1:
        tries *= 1 + len(data.surveys)
        for one in data.surveys:
            names = [f"flux_{a}" for a in range(data.components)]
            mean = one.scale * np.array([one.total(name).mean for name in names])
            worst = max(worst, _mean_sigma(mean, one.samples, data, found))
    limit = quantile(1 - 0.01 / tries, np.inf)
    if z < REMOVED:
        return Check(
            "mean flux",
            "warn",
            "the mean was taken off the flux before: give the flux as it is, kappa needs "
            "the fluctuations of the mean and removes what is left of it",
        )
    if worst <= limit:
        return Check("mean flux", "pass", f"the mean flux is zero within {worst:.1f} sigma")
    return Check(
        "mean flux",
        "warn",
        f"the mean flux is {worst:.1f} sigma from zero: a momentum that was not removed, "
        "hopping "
        "atoms, or a system out of equilibrium; the mean is removed before integrating",
    )


def _mean_sigma(mean: Float, samples: int, data: Reduced, found: Analysis) -> float:
    """Largest component of a mean flux, in standard errors of so many samples."""
    error = sqrt(found.cepstrum.zero / (samples * data.spacing))
    return float(np.abs(mean).max() / error)


def thermodynamics(data: Reduced) -> Check:
    """Say which temperature and volume were used: measured, never the target."""
    t = [s.temperature for s in data.surveys]
    source = "measured" if data.surveys[0].total("temperature").count else "as given"
    volume = np.mean([s.volume for s in data.surveys])
    cells = [
        s.run.facts["cell_volume"] for s in data.surveys if "cell_volume" in s.run.facts
    ]
    if cells and abs(volume / np.mean(cells) - 1) > SAME_VOLUME:
        return Check(
            "temperature and volume",
            "warn",
            f"V = {volume:.1f} Å³ as given, but the cell of the files has "
            f"{np.mean(cells):.1f} Å³: right for a layer or a wire with vacuum around it; "
            "else leave the volume out",
        )
    return Check(
        "temperature and volume",
        "pass",
        f"T = {np.mean(t):.2f} K ({source}), V = {volume:.1f} Å³, those of the frames "
        "analysed",
    )


def diffusion(data: Reduced) -> Check | None:
    """Look for diffusing mixtures whose mass currents were not given."""
    moving = [s.run for s in data.surveys if s.run.facts.get("diffusing")]
    if not moving:
        return None
    if data.channels > data.components:
        source = str(moving[0].facts.get("currents_from")).replace("_", " ")
        words = f"species diffuse; their mass currents were taken into account ({source})"
        return Check("diffusion", "pass", words)
    return Check(
        "diffusion",
        "warn",
        "species diffuse and no mass currents were given: kappa of a mixture is then too "
        "large (molten NaCl: 0.644 instead of 0.498); record them with the flux, "
        "heat_flux = { mass_currents = true }, or velocities at each of its samples",
    )


def lattice(data: Reduced) -> Check | None:
    """Look for atoms that left their sites on the reference lattice of the flux."""
    watched = [s.run.facts["hop"] for s in data.surveys if "hop" in s.run.facts]
    hops = [hop for hop in watched if hop]
    if not watched:
        return None
    if not hops:
        words = "every atom stayed at its site on the reference lattice"
        return Check("lattice", "pass", words)
    where = ", ".join(f"atom {h['atom']} at step {h['step']} of {h['file']}" for h in hops)
    return Check(
        "lattice",
        "fail",
        f"atoms left their sites on the reference lattice, first {where}: from there on "
        "the flux in this gauge is not the heat flux; leave those runs out, or record it "
        "with gauge = 'none'",
    )


def formulation(data: Reduced) -> Check | None:
    """Look for the virial form of the flux of a potential with several layers."""
    for found in data.surveys:
        layers = found.run.facts.get("layers")
        if found.run.facts.get("formulation") == "local" and (layers or 1) > 1:
            return Check(
                "formulation",
                "fail",
                f"the flux of {found.run.name} is the virial form, which leaves out the "
                f"power that the messages of {layers} interaction layers carry: record it "
                "with formulation = 'semilocal'",
            )
    return None
