"""Which number is quoted, and with which error: the rule that is calibrated.

The value is the cepstral one, at K = 2 K_AIC. Its asymptotic error is right where the
cepstrum is resolved; where it is not, errors *measured* between segments, replicas or
blocks are larger. So the measured error replaces the claimed one when it is larger beyond
chance (one-sided F-test, 1 %), and then Student's t makes the interval as wide as its few
degrees of freedom demand. An error is never made smaller.

How often the 95 % (68 %) interval covers the exact integral, 400 replicas of 16 384
samples of three components each, correlation time tau in samples
(``benchmarks/calibration.py``):

===============================  ==============  ==============  ===============
process                          composed        cepstral alone  at K_AIC
===============================  ==============  ==============  ===============
exponential, tau 5               94.2 (74.0) %   92.8 (68.2) %   75.0 (46.5) %
two damped oscillators           95.2 (71.5) %   95.2 (70.0) %   93.0 (67.5) %
slow tau 20 and two oscillators  94.0 (72.2) %   93.5 (68.5) %   91.5 (61.8) %
Ornstein-Uhlenbeck, tau 20       91.8 (72.8) %   87.8 (60.5) %   39.5 (18.2) %
===============================  ==============  ==============  ===============

The bias is at most 0.20 standard errors. With 8 replicas of 4096 samples 93.5 to 97 % are
covered (200 replicas), with one run of 65 536 samples 92 to 98 % (100). Known excess: the
integral of white noise up to a late cut is noisier than its cepstrum, so blocks widen the
interval there (98.5 to 100 %); a flux that white fails the check for aliasing anyway.

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
