"""A run in progress, seen from outside: temperature, energy, kappa so far.

=============  ============================================================
function       shows
=============  ============================================================
`dashboard`    all of it, as one column
`status`       which run, how far, how long ago it was last committed
=============  ============================================================
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from stepson_cli.plot import plot
from stepson_cli.quantities import count, duration, plural, simulated, size
from stepson_cli.views.gk import cumulative, headline

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from gkflux.green_kubo import GreenKubo
    from gkflux.history import History

    Array = NDArray[np.float64]

__all__ = ["Watched", "dashboard", "status"]

SMALL = 6
"""Rows of a small plot."""


@dataclass(frozen=True)
class Watched:
    """What is known of a run at one moment."""

    title: str
    history: "History"
    age: float
    """Seconds since a file was last written to."""
    result: "GreenKubo | None"
    missing: str | None
    """Why there is no result yet."""


def dashboard(seen: Watched, *, width: int = 80, unicode: bool = True) -> RenderableType:
    """Show everything.

    Args:
        seen: the run.
        width: columns there are.
        unicode: whether braille can be shown.
    """
    parts: list[RenderableType] = [status(seen), "", _scalars(seen, width, unicode)]
    if seen.result is not None:
        parts += ["", cumulative(seen.result, width=width, unicode=unicode)]
        parts += ["", headline(seen.result)]
    elif seen.missing is not None:
        parts += ["", Text(f"no kappa yet: {seen.missing}", "quiet")]
    return Group(*parts)


def status(seen: Watched) -> Text:
    """Say which run it is and how far it has come."""
    history = seen.history
    step = min(history.steps, default=0)
    target = next((f.target for f in history.files if f.target), None)
    timestep = next((f.timestep for f in history.files if f.timestep), 0.0)
    far = f"step {count(step)}" + (f" of {count(target)}" if target else "")
    if timestep:
        far += f", {simulated(step * timestep)}"
    if history.finished:
        state = ("finished", "good")
    else:
        state = (f"last written {duration(seen.age)} ago", "quiet")
    n_bytes = sum(file.size for file in history.files)
    return Text.assemble(
        (seen.title, "title"),
        f"  {plural(len(history.files), 'file')}, {size(n_bytes)}  ",
        state,
        f"\n{far}",
    )


def _scalars(seen: Watched, width: int, unicode: bool) -> RenderableType:
    """Draw temperature and energy, beside each other where there is room."""
    plots = []
    side = width >= 2 * 36
    each = (width - 3) // 2 if side else width
    for name in ("temperature", "energy"):
        times, values = seen.history.curve(name)
        label = "temperature, K"
        if name == "energy" and len(values):
            values, unit = _per_atom(values, seen.history.atoms)
            label = f"total energy, {unit}/atom from its mean"
        if len(values) < 2:
            continue
        plots.append(
            plot(
                times,
                values,
                width=each,
                height=SMALL,
                x_label="ps",
                y_label=label,
                unicode=unicode,
            )
        )
    if not plots:
        return Text("no temperature and no energy recorded yet", "quiet")
    if not side or len(plots) < 2:
        return Group(*plots)
    grid = Table.grid(padding=(0, 3, 0, 0))
    grid.add_row(*plots)
    return grid


def _per_atom(energy: "Array", atoms: int) -> "tuple[Array, str]":
    """Deviation from the mean per atom, in a unit in which it has few digits."""
    values = (energy - energy.mean()) / max(1, atoms)
    largest = abs(values).max()
    scale, unit = next(
        (pair for pair in ((1e3, "meV"), (1e6, "µeV")) if pair[0] * largest >= 0.5),
        (1e9, "neV"),
    )
    return scale * values, unit
