r"""Two gauges of one flux: kappa must be the same, and is compared block by block.

What a gauge adds is the time derivative of something bounded, u: its spectrum falls as
:math:`(2 \pi f)^2 S_u` towards zero frequency, where kappa is. So the powers of both fluxes
in the lowest bins of the same segments agree but for a small part of their noise, which is
common to both, and their difference has an error of its own from its scatter. What is left
of u in segments that are short against many of its periods is forgiven up to the standard
error of kappa.
"""

from math import sqrt

import numpy as np

from gkflux.analysis import PREFACTOR
from gkflux.correlate import Float
from gkflux.estimators.estimate import Estimate, quantile
from gkflux.reduce import Reduced
from gkflux.rounding import rounded
from gkflux.series_checks import Check

__all__ = ["LEVEL", "compare"]

LEVEL = 0.99
"""Of the interval that the difference must be in."""
BINS = slice(1, 4)
"""The lowest ones; a mean that was not removed would be in the first."""


def compare(data: Reduced, other: Reduced, error: float) -> Check:
    """Compare kappa of two gauges by the segments of the same times.

    Args:
        data: the flux that is analysed.
        other: the same runs with their flux in another gauge, by the same plan.
        error: standard error of kappa, W/(m K).
    """
    noise = sqrt(_variance(other) / _variance(data))
    words = f"the flux is {noise:.2f} times less noisy than in the other gauge"
    mine, counts = _values(data)
    theirs, others = _values(other)
    if len(mine) < 4 or not np.array_equal(counts, others):
        words += "; too few segments to compare their kappa"
        return Check("gauges", "warn", words)
    paired = _mean(mine - theirs, counts)
    words += f"; kappa differs by {rounded(paired.kappa, paired.std)}, block by block"
    limit = quantile(LEVEL, paired.dof) * paired.std
    if abs(paired.kappa) <= limit + error:
        return Check("gauges", "pass", words)
    return Check(
        "gauges",
        "warn",
        f"{words}, beyond chance: an atom has left its site, or one of the two is not the "
        "heat flux",
    )


def _values(data: Reduced) -> tuple[Float, Float]:
    """Mean density at low frequencies of every group of segments, W/(m K); its segments."""
    spectrum = data.spectra[data.plan.skip]
    counts = spectrum.group_segments.astype(np.float64)
    low = spectrum.groups[:, BINS].mean(axis=1)
    return PREFACTOR / 2 * low / (counts * data.components), counts


def _mean(values: Float, counts: Float) -> Estimate:
    share = counts / counts.sum()
    mean = float(share @ values)
    freedom = len(values) - 1
    spread = float(share**2 @ (values - mean) ** 2) * len(values) / freedom
    return Estimate("gauges", mean, sqrt(spread), float(freedom))


def _variance(data: Reduced) -> float:
    """Of the scaled flux, summed over its components, mean of all samples."""
    total, count = 0.0, 0
    for found in data.surveys:
        for a in range(data.components):
            one = found.total(f"flux_{a}")
            total += found.scale**2 * one.squares
            count += one.count
    return total / count
