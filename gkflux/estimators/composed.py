"""Which number is quoted, and with which error: the rule that is calibrated.

The value is the cepstral one, at K = 2 K_AIC. Its asymptotic error is right where the
cepstrum is resolved; where it is not, errors *measured* between segments, replicas or
blocks are larger. So the measured error replaces the claimed one when it is larger beyond
chance (one-sided F-test, 5 %), and then Student's t makes the interval as wide as its few
degrees of freedom demand. An error is never made smaller.

CALIBRATION
Where the components differ beyond chance (an anisotropic crystal) the mean of their
spectra is not distributed as the mean of equal ones, so kappa is the mean of the
components, each analysed alone.
"""

from collections.abc import Mapping
from math import sqrt

import numpy as np
from scipy import stats

from gkflux.correlate import Float
from gkflux.errors import FluxError
from gkflux.estimators.blocks import excess
from gkflux.estimators.estimate import Estimate

__all__ = ["ANISOTROPIC", "component_mean", "compose", "isotropy", "named"]

ANISOTROPIC = 0.01
"""Chance below which components are said to differ."""


def compose(methods: Mapping[str, Estimate], chance: float) -> tuple[Estimate, str]:
    """Choose value and error.

    Args:
        methods: every estimate made; `cepstral` is among them.
        chance: `isotropy` of the components.

    Returns:
        the estimate to quote, and why, in words.
    """
    claimed, words = methods["cepstral"], "cepstral"
    if "components" in methods and chance < ANISOTROPIC:
        claimed, words = methods["components"], "mean of the components, which differ"
    measured = [methods[m] for m in ("segments", "replicas", "blocks") if m in methods]
    larger = [one for one in measured if excess(one, claimed)]
    if not larger:
        return claimed, f"{words}; no measured error is larger beyond chance"
    worst = max(larger, key=lambda one: one.half_width())
    quoted = Estimate(claimed.method, claimed.kappa, worst.std, worst.dof, claimed.details)
    return (
        quoted,
        f"{words}; its error is that between {worst.method}, larger beyond chance",
    )


def named(methods: Mapping[str, Estimate], method: str) -> tuple[Estimate, str]:
    """Return the estimate that was asked for.

    Raises:
        FluxError: the data do not give it.
    """
    if method not in methods:
        known = ", ".join(methods)
        raise FluxError(
            f"method {method!r} is not to be had from these data; known: {known}"
        )
    return methods[method], f"{method}, as asked for"


def isotropy(values: Float, errors: Float) -> float:
    """Return the chance that components as different as these are equal.

    A chi-square test of the logarithms, whose errors do not grow with the value.

    Args:
        values: kappa_xx, kappa_yy ..., shape (C,).
        errors: their standard errors, shape (C,).
    """
    if len(values) < 2 or not np.all(np.isfinite(errors)):
        return 1.0
    weights, logs = (values / errors) ** 2, np.log(values)
    centre = float(weights @ logs / weights.sum())
    return float(stats.chi2.sf(float(weights @ (logs - centre) ** 2), len(values) - 1))


def component_mean(values: Float, errors: Float) -> Estimate:
    """Return the mean of components that were analysed one by one."""
    std = sqrt(float(errors @ errors)) / len(errors)
    return Estimate(
        "components", float(values.mean()), std, details={"values": len(values)}
    )
