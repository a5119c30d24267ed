"""Which number is quoted, and with which error: the rule that is calibrated.

The value is the cepstral one, at K = 3 K_AIC, its error that of `cepstral`, with what
kappa still changes with K. Where the cepstrum is not resolved, errors *measured* between
segments, replicas or blocks are larger. So a measured error replaces the claimed one when
it is larger beyond chance (one-sided F-test, 1 %), and then Student's t makes the interval
as wide as its few degrees of freedom demand. An error is never made smaller.

How often the 95 % (68 %) interval covers the exact integral, in percent, 100 replicas of
16 384 samples of three components each, tau in samples, beside the rules of SporTran and
FHI-vibes as the modes of these names apply them (``benchmarks/calibration.py``):

===============================  ========  ==========  ==========  ==========
process                          composed  at K_AIC    SporTran    FHI-vibes
===============================  ========  ==========  ==========  ==========
exponential, tau 5               98 (81)   79 (48)     88 (54)     70 (41)
two damped oscillators           98 (83)   93 (63)     93 (68)     48 (25)
slow tau 20 and two oscillators  97 (74)   90 (55)     91 (53)     70 (37)
Ornstein-Uhlenbeck, tau 20       94 (84)   42 (20)     41 (14)     63 (39)
tail t^-1.5 up to 64             92 (81)   19 (5)      21 (5)      84 (55)
slow tau 30 under strong bands   97 (72)   93 (62)     94 (67)     69 (38)
===============================  ========  ==========  ==========  ==========

Over 48 cases (4096 to 65 536 samples, one and three components, one and eight runs) 96.0 %
of 3717 intervals cover that the verdict calls sound: 96.8 to 99.0 % of those of five
processes, 88.6 % of those of the slow tail, whose bias (0.6 standard errors) the error
allows for only where it can be seen. The bias of the others is at most 0.2 standard errors.

Where the components differ beyond chance (an anisotropic crystal) the mean of their
spectra is not distributed as the mean of equal ones, so kappa is the mean of the
components, each analysed alone. Where the point group is known nothing is tested: classes
of equivalent components are analysed one by one, and averaged (`gkflux.tensor`).
"""

from collections.abc import Mapping, Sequence
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
    if "symmetry" in methods:
        claimed, words = methods["symmetry"], "mean of the classes of components"
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


def isotropy(
    values: Float, errors: Float, classes: Sequence[tuple[int, ...]] = ((0, 1, 2),)
) -> float:
    """Return the chance that components as different as these are equal.

    A chi-square test of the logarithms, whose errors do not grow with the value.

    Args:
        values: kappa_xx, kappa_yy ..., shape (C,).
        errors: their standard errors, shape (C,).
        classes: which of them should be equal; by default all.
    """
    if len(values) < 2 or not np.all(np.isfinite(errors)):
        return 1.0
    weights, logs = (values / errors) ** 2, np.log(values)
    total, freedom = 0.0, 0
    for members in classes:
        chosen = [a for a in members if a < len(values)]
        mine = weights[chosen]
        centre = float(mine @ logs[chosen] / mine.sum())
        total += float(mine @ (logs[chosen] - centre) ** 2)
        freedom += len(chosen) - 1
    return float(stats.chi2.sf(total, freedom)) if freedom else 1.0


def component_mean(values: Float, errors: Float) -> Estimate:
    """Return the mean of components that were analysed one by one."""
    std = sqrt(float(errors @ errors)) / len(errors)
    return Estimate(
        "components", float(values.mean()), std, details={"values": len(values)}
    )
