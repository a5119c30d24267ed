"""A thermal conductivity: the number, how it was found, and what speaks against it.

==================  ===========================================================
function            shows
==================  ===========================================================
`conductivity`      all of it, as one column
`headline`          kappa with its error, and the verdict
`methods`           every estimator beside the one of record
`tensor`            the components, each with its error
`symmetry`          the point group over which it was averaged
`cumulative`        the running integral against the lag, as a small plot
`checks`            pass, warn or fail, in words
==================  ===========================================================
"""

from collections.abc import Mapping, Sequence
from math import isfinite, sqrt
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gkflux.rounding import rounded, rounded_interval
from gkflux.verdict import written
from stepson_cli.plot import Band, plot

if TYPE_CHECKING:
    from gkflux.checks import Check
    from gkflux.conductivity import GreenKubo
    from gkflux.estimators.estimate import Estimate

__all__ = [
    "checks",
    "conductivity",
    "cumulative",
    "headline",
    "methods",
    "symmetry",
    "tensor",
]

UNIT = "W/(m K)"
STATUS_STYLE = {"pass": "good", "warn": "warning", "fail": "bad"}
PLOT_HEIGHT = 10
MAX_PLOT_WIDTH = 100
CUTS_SHOWN = 3.0  # the plot ends at so many times the lag of the cut
VERDICT_STYLE = {
    "converged": "good",
    "more data needed": "warning",
    "error too small": "warning",
}
SHOWN_DETAILS = {"K": "", "l": "", "values": "", "cut": " fs", "filter": " fs"}
METHOD_NAMES = {"first_dip": "first dip", "cepstral_aic": "cepstral (AIC)"}


def conductivity(
    result: "GreenKubo", *, width: int = 80, unicode: bool = True, details: bool = False
) -> RenderableType:
    """Show a result; the number stands last, where the eye is when a command ends.

    Args:
        result: of a reduction.
        width: columns there are.
        unicode: whether braille can be shown.
        details: say in full also what the passed checks have found.
    """
    parts: list[RenderableType] = [cumulative(result, width=width, unicode=unicode), ""]
    if result.tensor.shape == (3, 3):
        parts += [tensor(result), symmetry(result), ""]
    parts += [
        methods(result),
        "",
        checks(result.checks, details=details),
        "",
        headline(result),
    ]
    return Group(*parts)


def headline(result: "GreenKubo") -> Text:
    """Say the number and what it is worth."""
    low, high = result.interval(0.95)
    text = Text.assemble(
        ("kappa = ", "title"),
        (f"{rounded(result.kappa, result.kappa_std)} {UNIT}", "result"),
    )
    if isfinite(low) and isfinite(high):
        text.append(f"   95 % interval {rounded_interval(low, high)}", "quiet")
    text.append(f"\n{result.verdict}", VERDICT_STYLE.get(result.status, "bad"))
    return text.append(f"\n{result.reason}", "quiet")


def methods(result: "GreenKubo") -> Table:
    """List the estimators; a star marks the one of record."""
    table = _table("method", f"kappa, {UNIT}", "95 % interval", "decided")
    for name, estimate in result.methods.items():
        chosen = name == result.record.method
        table.add_row(
            f"{'*' if chosen else ' '} {METHOD_NAMES.get(name, name.replace('_', ' '))}",
            rounded(estimate.kappa, estimate.std),
            rounded_interval(*estimate.interval(0.95)),
            _details(estimate),
            style="title" if chosen else "",
        )
    return table


def tensor(result: "GreenKubo") -> Table:
    """Show the nine components."""
    table = _table(f"tensor, {UNIT}", "x", "y", "z")
    for column in table.columns[1:]:
        column.justify = "right"
    for axis, values, errors in zip("xyz", result.tensor, result.tensor_std, strict=True):
        table.add_row(axis, *(rounded(v, e) for v, e in zip(values, errors, strict=True)))
    return table


def symmetry(result: "GreenKubo") -> Text:
    """Say over which point group the tensor was averaged, and what is equal by it."""
    found = result.symmetry
    text = Text(f"symmetry: {found.get('words', 'not known')}", "quiet")
    for one in found.get("classes", ()):
        text.append(
            f"\n  {one['components']}  {rounded(one['kappa'], one['std'])}", "quiet"
        )
    return text


def cumulative(result: "GreenKubo", *, width: int = 80, unicode: bool = True) -> Text:
    """Plot the filtered integral with the band of its blocks and the lag of the cut.

    Unfiltered, the integral of a solid swings by many times kappa, and nothing else shows.
    """
    curves = result.curves
    lags = np.asarray(curves["lag_time"], dtype=float) / 1000
    curve = np.asarray(curves["kappa_cumulative_filtered"], dtype=float)
    cut = float(result.methods["first_dip"].details.get("cut", np.nan)) / 1000
    shown = _shown(lags, cut)
    return plot(
        lags[:shown],
        curve[:shown],
        band=_band(curves, lags[:shown], curve[:shown]),
        mark=cut if isfinite(cut) else None,
        width=min(width, MAX_PLOT_WIDTH),
        height=PLOT_HEIGHT,
        x_label="ps",
        y_label=f"cumulative kappa, {UNIT}, filtered; the line marks the first dip",
        unicode=unicode,
    )


def checks(found: "Sequence[Check]", *, details: bool = False) -> Table:
    """List what was looked at: names of what passed, and in words what did not.

    Args:
        found: all of them.
        details: words for those that passed, too.
    """
    table = _table("checks", "")
    passed = [check for check in found if check.status == "pass" and not details]
    if passed:
        names = ", ".join(check.name for check in passed)
        table.add_row(Text("pass", STATUS_STYLE["pass"]), Text(names, "quiet"))
    for check in found:
        if check not in passed:
            words = Text.assemble((check.name, "title"), f": {check.message}")
            table.add_row(Text(check.status, STATUS_STYLE[check.status]), words)
    return table


def _table(*names: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="quiet")
    for i, name in enumerate(names):
        table.add_column(name, no_wrap=i < len(names) - 1)
    return table


def _detail(value: float | int | str, unit: str) -> str:
    if not isinstance(value, float):
        return f"{value}{unit}"
    return written(value) if unit == " fs" else f"{value:.4g}{unit}"


def _details(estimate: "Estimate") -> str:
    """What the method decided, as far as it fits: the rest stands in gk.json."""
    parts = []
    for name, unit in SHOWN_DETAILS.items():
        if name in estimate.details:
            value = estimate.details[name]
            parts.append(f"{name} {_detail(value, unit)}")
    return ", ".join(parts)


def _shown(lags: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]", cut: float) -> int:
    """So many lags are worth showing: some way beyond the cut, or all."""
    if not isfinite(cut) or cut <= 0:
        return len(lags)
    return max(16, int(np.searchsorted(lags, CUTS_SHOWN * cut)))


def _band(
    curves: "Mapping[str, np.ndarray[tuple[int, ...], np.dtype[np.float64]]]",
    lags: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]",
    curve: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]",
) -> Band | None:
    """One standard error of the mean of the blocks, around the curve."""
    blocks = curves.get("block_curves")
    if blocks is None or blocks.ndim != 2 or len(blocks) < 2:
        return None
    error = blocks.std(axis=0, ddof=1) / sqrt(len(blocks))
    stride = max(1, len(curves["lag_time"]) // blocks.shape[1])
    times = np.asarray(curves["lag_time"], dtype=float)[::stride][: blocks.shape[1]] / 1000
    half = np.interp(lags, times, error[: len(times)])
    return Band(curve - half, curve + half)
