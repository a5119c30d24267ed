"""One line on what the data are worth: converged, how much more is needed, or no error bar.

What counts is the length of the data in correlation times, times the independent
components. From 1000 the error bar is taken for sound; on the processes of
``benchmarks/calibration.py`` it is from some 150 on, but a flux may have slower parts than
its spectrum shows yet. Below 50 it means nothing, and none is given.
"""

from math import ceil, isfinite

import numpy as np

from gkflux.analysis import Analysis
from gkflux.estimators.estimate import quantile
from gkflux.plan import Settings
from gkflux.reduce import Reduced

__all__ = ["CONVERGED", "NO_ERROR", "correlation_times", "more", "verdict", "written"]

CONVERGED = 1000.0
"""Independent components x length, in correlation times, from where the error bar is
calibrated."""
NO_ERROR = 50.0
"""Below it no error bar is given at all."""


def correlation_times(data: Reduced, found: Analysis) -> float:
    """Independent components x length of all runs, in correlation times.

    Where components differ by symmetry, those of the smallest class count: its analysis
    must be sound, too.
    """
    samples = sum(s.samples for s in data.surveys)
    return found.equivalent * samples * data.spacing / found.tau


def verdict(data: Reduced, found: Analysis, settings: Settings) -> tuple[str, str]:
    """Return status and one line: converged, how much more data, or why no error bar."""
    length = correlation_times(data, found)
    tau = f"tau = {written(found.tau)}"
    if length < NO_ERROR:
        return "no error bar", (
            f"no error bar: the data are {length:.0f} correlation times long ({tau}), "
            f"at least {NO_ERROR:.0f} are needed for one, {CONVERGED:.0f} for a sound one"
        )
    relative = found.record.half_width() / quantile(0.95, np.inf) / abs(found.record.kappa)
    wanted = (relative / settings.relative_error) ** 2
    if length < CONVERGED:
        # the larger of what the error bar needs to be sound and to be small
        times = more(max(CONVERGED / length, wanted if isfinite(wanted) else 0.0))
        return "error too small", (
            f"error bar perhaps too small: the data are {length:.0f} correlation times "
            f"long ({tau}), it is sound from {CONVERGED:.0f}; "
            f"{100 * settings.relative_error:.3g} % needs about {times} as much data"
        )
    percent = f"{100 * relative:.{0 if relative > 0.095 else 1}f} %"
    if not isfinite(relative):
        return (
            "no error bar",
            f"no error bar: {found.record.method} gives none from these data",
        )
    if relative > settings.relative_error * 1.005:
        times = more(wanted)
        return "more data needed", (
            f"more data needed: the error bar is sound but {percent} of kappa; "
            f"{100 * settings.relative_error:.3g} % needs about {times} as much data "
            f"({tau}, {length:.0f} correlation times)"
        )
    return "converged", (
        f"converged: {percent} error from {length:.0f} correlation times ({tau})"
    )


def more(factor: float) -> str:
    """Write a factor of at least one, rounded up: fewer data would not do."""
    tenths = ceil(10 * factor) / 10
    return f"{tenths:.1f} times" if tenths < 10 else f"{ceil(factor)} times"


def written(value: float) -> str:
    """Write a time in fs or ps."""
    return f"{value:.3g} fs" if value < 1000 else f"{value / 1000:.3g} ps"
