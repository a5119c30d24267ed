"""What could make a thermal conductivity wrong, looked for every time, and said in words.

A check never raises and never withholds the number. Each gives a status (pass, warn,
fail) and a message with the numbers it looked at and, where it does not pass, what to do.
"""

from math import isfinite, sqrt

import numpy as np

from gkflux.analysis import Analysis
from gkflux.estimators.blocks import z_halves
from gkflux.estimators.composed import ANISOTROPIC
from gkflux.plan import Settings
from gkflux.reduce import Reduced
from gkflux.rounding import rounded
from gkflux.series_checks import (
    Check,
    Status,
    aliasing,
    diffusion,
    energy,
    finite,
    formulation,
    lattice,
    mean_flux,
    restarts,
    spacing,
    temperature,
    thermodynamics,
)
from gkflux.verdict import CONVERGED, NO_ERROR, correlation_times, more, written

__all__ = ["Check", "Status", "aliasing", "make_checks"]


def make_checks(data: Reduced, found: Analysis, settings: Settings) -> tuple[Check, ...]:
    """Make every check."""
    checks = [
        spacing(data),
        restarts(data),
        finite(data),
        aliasing(found.curves["survey_spectrum"], found.curves["survey_frequency"]),
        energy(data),
        temperature(data),
        mean_flux(data, found),
        _halves(found),
        _length(data, found),
        _isotropy(found),
        _agreement(found),
        _scan(found),
        thermodynamics(data),
        diffusion(data),
        lattice(data),
        formulation(data),
        _aic(found),
        _mode(settings),
    ]
    return tuple(check for check in checks if check is not None)


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
        f"{more(CONVERGED / times)} as long",
    )


def _isotropy(found: Analysis) -> Check | None:
    if found.components < 2 or not np.all(np.isfinite(np.diag(found.inside.std))):
        return None
    if found.classes:
        return _within_classes(found)
    values, errors = np.diag(found.plain.kappa), np.diag(found.plain.std)
    words = "components " + ", ".join(
        rounded(v, e) for v, e in zip(values, errors, strict=True)
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
        f"{words}: they differ beyond chance (p = {found.chance:.1e}); right for "
        "an anisotropic crystal, otherwise a sign of too little data; kappa is their mean",
    )


def _within_classes(found: Analysis) -> Check:
    """Compare the components that the point group makes equal."""
    shared = [one for one in found.classes if len(one.members) > 1]
    if not shared:
        words = ", ".join(one.name for one in found.classes)
        return Check("isotropy", "pass", f"no components are equal by symmetry: {words}")
    values, errors = np.diag(found.inside.kappa), np.diag(found.inside.std)
    words = "; ".join(
        f"{one.name}: " + ", ".join(rounded(values[a], errors[a]) for a in one.members)
        for one in shared
    )
    if found.chance >= ANISOTROPIC:
        words = f"{words}: equal within their errors (p = {found.chance:.2f})"
        return Check("isotropy", "pass", words)
    return Check(
        "isotropy",
        "warn",
        f"{words}: they differ beyond chance (p = {found.chance:.1e}), though the symmetry "
        "of the crystal makes them equal: too little data, or another structure than was "
        "found; symmetry = 'none' takes every component for itself",
    )


def _agreement(found: Analysis) -> Check | None:
    if "first_dip" not in found.methods:
        return None
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


def _aic(found: Analysis) -> Check | None:
    plain, more = found.methods["cepstral_aic"], found.methods["cepstral"]
    fit = found.cepstrum
    if plain.kappa == more.kappa or fit.cutoff <= fit.cutoff_aic:
        return None
    noise = sqrt(fit.log_zero_std() ** 2 - fit.log_zero_std(fit.cutoff_aic) ** 2)
    step = abs(fit.log_zero() - fit.log_zero(fit.cutoff_aic)) / noise
    words = (
        f"K = {fit.cutoff} gives {more.kappa:.3g}, K_AIC = {fit.cutoff_aic} gives "
        f"{plain.kappa:.3g}"
    )
    if step < 2.5:
        return Check("cut-off", "pass", words)
    return Check(
        "cut-off",
        "warn",
        f"{words}: kappa still changes with the cut-off, by which its error is widened; "
        "see kappa against K",
    )


def _mode(settings: Settings) -> Check | None:
    """Say what the error bars of other programs are worth: measured on exact processes."""
    worth = {
        "vibes": "FHI-vibes', the spread of three components: it covers 6 to 84 %",
        "sportran": "SporTran's, at K_AIC: it covers 11 to 97 %",
    }.get(settings.mode)
    if worth is None:
        return None
    return Check(
        "error bar",
        "warn",
        f"the error is {worth} where 95 % are claimed; that of the default mode is "
        "calibrated",
    )
