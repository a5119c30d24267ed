"""What an estimator returns: a number, its standard error, how well that is known."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf, isfinite, nan, sqrt

import numpy as np
from scipy import stats

from gkflux.correlate import Float

__all__ = ["Estimate", "mean_estimate", "quantile"]


@dataclass(frozen=True)
class Estimate:
    """One method's value of kappa."""

    method: str
    kappa: float
    """W/(m K)."""
    std: float
    """Standard error, W/(m K); nan where the data give none."""
    dof: float = inf
    """Degrees of freedom of the standard error: Student's t is used for the interval."""
    details: Mapping[str, float | int | str] = field(default_factory=dict)
    """What the method decided: cut-off, f*, l, K ..."""

    def half_width(self, level: float = 0.95) -> float:
        """Half the width of the interval that covers the truth with probability `level`."""
        return quantile(level, self.dof) * self.std if isfinite(self.std) else nan

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the interval that covers the true value with probability `level`."""
        half = self.half_width(level)
        return self.kappa - half, self.kappa + half


def quantile(level: float, dof: float) -> float:
    """Two-sided quantile: of Student's t, of the normal distribution for infinite `dof`."""
    upper = 0.5 + level / 2
    if np.isinf(dof):
        return float(stats.norm.ppf(upper))
    return float(stats.t.ppf(upper, dof)) if dof > 0 else nan


def mean_estimate(method: str, values: Float, **details: float | int | str) -> Estimate:
    """Return mean and standard error of independent values, Student's t with len - 1."""
    values = np.asarray(values, dtype=np.float64)
    count = len(values)
    mean = float(values.mean()) if count else nan
    std = float(values.std(ddof=1)) / sqrt(count) if count > 1 else nan
    return Estimate(
        method, mean, std, float(max(0, count - 1)), {"values": count, **details}
    )
