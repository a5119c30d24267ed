"""Every method, block and replica beside the value that is quoted."""

from typing import TYPE_CHECKING

import numpy as np

from gkflux.estimators.estimate import Estimate
from gkflux.figures.canvas import ONE, THREE, TWO, Picture, axes_of, finish

if TYPE_CHECKING:
    from gkflux.green_kubo import GreenKubo

__all__ = ["scatter"]


def scatter(result: "GreenKubo") -> Picture:
    """Draw every estimator with its interval, then single blocks and replicas."""
    rows = _rows(result)
    figure, (axis,) = axes_of(height=1.2 + 0.34 * (len(rows) + 1))
    for y, (_, one) in enumerate(rows):
        half = one.half_width()
        error = [half] if np.isfinite(half) else None
        axis.errorbar([one.kappa], [y], xerr=error, fmt="o", color=ONE, ms=5, capsize=3)
    low, high = result.interval(0.95)
    axis.axvline(result.kappa, color=TWO, lw=1.2)
    if np.isfinite(low):
        axis.axvspan(low, high, color=TWO, alpha=0.15, lw=0)
    generator = np.random.default_rng(0)
    labels = [name for name, _ in rows]
    for values, name in ((result.blocks, "each block"), (result.replicas, "each replica")):
        if len(values) < 2:
            continue
        y = len(labels)
        jitter = generator.uniform(-0.2, 0.2, len(values))
        axis.plot(values, y + jitter, ".", color=THREE, ms=5, alpha=0.8)
        labels.append(name)
    axis.set_yticks(range(len(labels)), labels)
    axis.set_ylim(len(labels) - 0.4, -0.6)
    axis.set_xlabel("κ, W/(m K)")
    axis.grid(axis="y", visible=False)
    caption = (
        "Every estimator with its 95 % interval, and the values of single blocks and "
        "replicas; the line is the value quoted, the shade its 95 % interval."
    )
    return finish("scatter", "Methods, blocks and replicas", caption, figure)


def _rows(result: "GreenKubo") -> list[tuple[str, Estimate]]:
    return [
        (name.replace("_", " "), one)
        for name, one in result.methods.items()
        if np.isfinite(one.kappa)
    ]
