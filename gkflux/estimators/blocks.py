r"""Values of independent stretches of data, and whether their scatter is more than chance.

Blocks give the running integral of the autocorrelation
each; all are read at the *common* cut of the mean, so that they differ by statistics
only, and their mean has a standard error with Student's t. Groups of segments, or
replicas, give a logarithm of S(0) each, at the common number K of cepstral coefficients;
what is averaged is the logarithm, whose noise is symmetric, and whose scatter tests the
asymptotic error of the cepstral estimate with nothing assumed.
"""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from gkflux.correlate import Float
from gkflux.estimators.cepstral import cepstrum
from gkflux.estimators.estimate import Estimate, mean_estimate
from gkflux.estimators.first_dip import smooth

__all__ = [
    "block_values",
    "excess",
    "log_estimate",
    "log_zeros",
    "z_halves",
]


def block_values(curves: Sequence[Float], *, index: float, window: int) -> Float:
    """Read the running integral of every block at the common cut.

    Args:
        curves: of each block, mean of the components, shape (points,).
        index: the cut, in points; between two it is interpolated.
        window: of the filter, points.

    Returns:
        shape (blocks,); blocks shorter than the cut and half a filter are left out.
    """
    values = []
    for curve in curves:
        known = curve[np.isfinite(curve)]  # a lag as long as the block has no pairs
        if len(known) <= index + window / 2 + 1:
            continue
        filtered = smooth(known, window) if window > 1 else known
        low = int(index)
        part = index - low
        values.append((1 - part) * filtered[low] + part * filtered[low + 1])
    return np.array(values, dtype=np.float64)


def log_zeros(powers: Float, dofs: Float, *, length: int, cutoff: int) -> Float:
    """Return L0 of every group of segments at a common cut-off.

    Args:
        powers: mean density of each group, shape (groups, bins).
        dofs: l of each group, shape (groups,).
        length: N_s.
        cutoff: K.
    """
    return np.array(
        [
            cepstrum(power, dof=float(dof), length=length, cutoff=cutoff).log_zero()
            for power, dof in zip(powers, dofs, strict=True)
        ]
    )


def log_estimate(method: str, logs: Float, weights: Float, scale: float) -> Estimate:
    """Return exp of the weighted mean of logarithms, its error from their scatter.

    Args:
        method: name of the estimate.
        logs: L0 of each group, shape (groups,).
        weights: of each, for example its number of segments.
        scale: kappa = scale * exp(L0).
    """
    share = weights / weights.sum()
    mean = float(share @ logs)
    kappa = scale * float(np.exp(mean))
    if len(logs) < 2:
        return mean_estimate(method, np.array([kappa]))
    spread = float(share @ (logs - mean) ** 2) / (1 - float(share @ share))
    std = np.sqrt(spread * float(share @ share))
    return Estimate(
        method, kappa, kappa * float(std), len(logs) - 1.0, {"values": len(logs)}
    )


def excess(measured: Estimate, claimed: Estimate, *, level: float = 0.01) -> bool:
    """Say whether a measured error is larger than a claimed one beyond chance.

    A one-sided F-test of the ratio of their squares: Student's degrees of freedom of the
    measured error against those of the claimed one (infinite for an asymptotic error).
    """
    if not (measured.std > 0 and claimed.std > 0 and measured.dof >= 2):
        return False
    ratio = (measured.std / claimed.std) ** 2
    if np.isinf(claimed.dof):
        limit = stats.chi2.ppf(1 - level, measured.dof) / measured.dof
    else:
        limit = stats.f.ppf(1 - level, measured.dof, claimed.dof)
    return bool(ratio > limit)


def z_halves(values: Float) -> float:
    """Difference between the means of the first and second half over its standard error."""
    count = len(values) // 2
    first, second = values[:count], values[-count:]
    if count < 2:
        return float("nan")
    error = np.sqrt((first.var(ddof=1) + second.var(ddof=1)) / count)
    return float((second.mean() - first.mean()) / error) if error > 0 else 0.0
