"""A run in progress and its end.

=================  ==============================================================
function           shows
=================  ==============================================================
`starting`         that something happens before the first step
`run_frame`        the live frame: header, bar, a row a replica, speed and disk
`stage_line`       a finished stage, in one line
`progress_line`    the state of a run, in one line
`message_line`     a warning or an event
`summary`          what a finished or interrupted run has left, and what to do next
=================  ==============================================================
"""

import shlex
from math import isfinite, nan
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from stepson_cli.quantities import count, duration, nearby, plural, simulated, size

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gkflux.dynamics.progress import Progress, RunSummary

    Drifts = NDArray[np.float64]

__all__ = [
    "message_line",
    "progress_line",
    "run_frame",
    "stage_line",
    "stage_start_line",
    "starting",
    "summary",
]

# Shares of the target temperature by which the drift heats the system until the stage ends:
# where the guards of the dynamics warn, and where they stop.
DRIFT_WARNS = 0.02
DRIFT_STOPS = 0.20
JUDGED_FROM = 10.0  # ps: before that the guards do not judge, either
MINIMUM_ROWS = 2
UNITS = ("K", "K/ns", "W/(m K)")
WIDE = 72  # columns that four columns of numbers need


def starting(title: str, elapsed: float, *, stopping: bool = False) -> Text:
    """Say that libraries and kernels are loading, or that a stop waits for them."""
    text = ("  loading and compiling, slow the first time  ", "")
    if stopping:
        text = ("  stopping as soon as everything is loaded  ", "warning")
    return Text.assemble((title, "title"), text, (duration(elapsed), "quiet"))


def run_frame(
    progress: "Progress",
    *,
    title: str,
    rows: int = 100,
    width: int = 80,
    elapsed: float = 0.0,
    stopping: bool = False,
    earlier: "Drifts | None" = None,
) -> RenderableType:
    """Draw the live frame.

    Args:
        progress: the newest state.
        title: such as the name of the configuration.
        rows: replicas that the terminal has room for; at least two are drawn.
        width: columns of the terminal; a narrow one gets the last lines in two columns.
        elapsed: seconds since the command began.
        stopping: a stop was asked for and has not happened yet.
        earlier: drifts at half the time, ``(replicas,)``: one that has changed much since
            is not judged.
    """
    return Group(
        _header(progress, title),
        _stage(progress, elapsed, stopping),
        Padding(_bar(progress), (0, 0, 1, 0)),
        _replicas(progress, max(rows, MINIMUM_ROWS), earlier),
        "",
        _pace(progress, 4 if width >= WIDE else 2),
        "",  # where the terminal writes ^C, so that it does not push the frame
    )


def stage_start_line(progress: "Progress") -> str:
    """Announce a stage."""
    again = (
        ""
        if progress.resumed_from is None
        else f", from step {count(progress.resumed_from)}"
    )
    return (
        f"{progress.stage}: {progress.ensemble}, {plural(progress.replicas, 'replica')} of "
        f"{progress.system}, {plural(progress.steps, 'step')} of {progress.timestep:g} fs"
        f"{again}"
    )


def stage_line(progress: "Progress") -> Text:
    """Sum up a finished stage."""
    return Text.assemble(
        (f"{progress.stage}", "good"),
        f"  {plural(progress.steps, 'step')}, ",
        f"{simulated(progress.steps * progress.timestep)} {progress.ensemble}, ",
        size(progress.bytes_written),
    )


def progress_line(progress: "Progress") -> str:
    """Say in one line how far a run is."""
    share, volume = progress.step / progress.steps, ""
    if progress.volume is not None:
        volume = f"{_fixed(_mean(progress.volume), '.1f')} Å³, "
    return (
        f"{progress.stage}: step {count(progress.step)} of {count(progress.steps)} "
        f"({share:.0%}), {_fixed(_mean(progress.temperature), '.1f')} K, {volume}"
        f"{_rate(progress.steps_per_second)} steps/s, "
        f"{duration(progress.seconds_left)} left, {size(progress.bytes_written)}"
    )


def message_line(message: str) -> Text:
    """Make a message stand out."""
    return Text.assemble(("! ", "warning"), message)


def summary(result: "RunSummary", *, command: str, flux: bool = True) -> Text:
    """Say what a run has left behind and which command is next.

    Args:
        result: of the run.
        command: that was given, for going on after an interruption.
        flux: whether any stage has a heat flux, for a conductivity.
    """
    place = f"{plural(len(result.files), 'file')}, {size(result.bytes_written)} in "
    folder = nearby(result.folder)
    files = Text.assemble(place, (folder, "name"))
    then = f"stepson {'gk' if flux else 'info'} {shlex.quote(folder)}"
    following = then if result.finished else command
    where = f"step {count(result.step)} of {count(result.steps)} of {result.stage}"
    if result.already_finished:
        head = Text("finished before: nothing to do; ")
    elif result.finished:
        head = Text.assemble(("finished", "good"), f" after {duration(result.seconds)}; ")
    else:
        head = Text.assemble(("stopped", "warning"), f" at {where}, all of it saved; ")
    verb = "\nnext: " if result.finished else "\ngo on with: "
    return Text.assemble(head, files, verb, (following, "command"))


def _header(progress: "Progress", title: str) -> Text:
    parts = ((title, "title"), f"  {progress.system}", (f"  {progress.potential}", "quiet"))
    return Text.assemble(*parts, no_wrap=True, overflow="ellipsis")


def _stage(progress: "Progress", elapsed: float, stopping: bool) -> Table:
    grid = Table.grid(expand=True, padding=(0, 1))
    grid.add_column(no_wrap=True, overflow="ellipsis")
    grid.add_column(justify="right", no_wrap=True)
    number = f"stage {progress.stage_index + 1} of {progress.stage_count}  "
    replicas = plural(progress.replicas, "replica")
    name = Text.assemble(
        number, (progress.stage, "name"), f"  {progress.ensemble}, {replicas}"
    )
    if progress.resumed_from is not None:
        name.append(f", from step {count(progress.resumed_from)}", "quiet")
    grid.add_row(name, _phase(progress, elapsed, stopping))
    return grid


def _phase(progress: "Progress", elapsed: float, stopping: bool) -> Text:
    if stopping and progress.phase != "stopped":
        return Text("saving, then stopping", "warning")
    if progress.phase == "starting":
        return Text(f"starting {duration(elapsed)}", "quiet")
    if progress.phase == "committing":
        return Text("saving", "quiet")
    if progress.phase == "stopped":
        return Text("stopped", "warning")
    if progress.phase == "finished":
        return Text("finished", "good")
    return Text(f"{progress.step / progress.steps:.0%}")


def _bar(progress: "Progress") -> ProgressBar:
    return ProgressBar(
        total=progress.steps,
        completed=progress.step,
        style="bar.left",
        complete_style="bar.done",
        finished_style="good",
    )


def _replicas(progress: "Progress", rows: int, earlier: "Drifts | None") -> Table:
    table = Table(box=None, padding=(0, 2), pad_edge=False, header_style="quiet")
    names, units = ["replica", "temperature", "drift", "kappa so far"], ["", *UNITS]
    if progress.volume is not None:
        names[-1], units[-1] = "volume", "Å³"
    if progress.reached:
        names, units = [*names, "step"], [*units, ""]
    for name, unit in zip(names, units, strict=True):
        # A least width, so that the table does not jump when a sign or a digit comes.
        table.add_column(f"{name}\n{unit}", justify="right", no_wrap=True, min_width=7)
    shown = progress.replicas if progress.replicas <= rows else rows - 1
    for i in range(shown):
        before = nan if earlier is None else float(earlier[i])
        table.add_row(*_replica(progress, i, before))
    if shown < progress.replicas:
        table.add_row("…", f"{progress.replicas - shown} more", "", "", style="quiet")
    if progress.replicas > 1:
        table.add_section()
        table.add_row(*_all(progress))
    return table


def _replica(progress: "Progress", index: int, before: float) -> tuple[Text, ...]:
    drift = float(progress.energy_drift[index])
    style = _drift_style(progress, drift, before)
    number = progress.numbers[index] if progress.numbers else index
    return (
        Text(str(number), style),
        Text(_fixed(progress.temperature[index], ".1f")),
        Text(_fixed(drift, "+.2f"), style),
        Text(_last(progress, index)),
        *(Text(count(step)) for step in progress.reached[index : index + 1]),
    )


def _last(progress: "Progress", index: int) -> str:
    """The volume of a replica where it fluctuates, else kappa so far."""
    if progress.volume is not None:
        return _fixed(progress.volume[index], ".1f")
    return _fixed(progress.kappa_replicas[index], ".3f")


def _all(progress: "Progress") -> tuple[Text, ...]:
    last = _fixed(progress.kappa, ".3f")
    if progress.volume is not None:
        last = _fixed(_mean(progress.volume), ".1f")
    texts = (
        _fixed(_mean(progress.temperature), ".1f"),
        _fixed(_mean(progress.energy_drift), "+.2f"),
        last,
    )
    return (Text("all", "title"), *(Text(text, "title") for text in texts))


def _drift_style(progress: "Progress", drift: float, before: float) -> str:
    """Colour a replica by how much its drift, once known, heats it in this stage."""
    share = progress.steps * progress.timestep * 1e-6 / progress.target
    heating, change = abs(drift) * share, abs(drift - before) * share
    if progress.time < JUDGED_FROM or not isfinite(change):
        return ""
    for limit, style in ((DRIFT_STOPS, "bad"), (DRIFT_WARNS, "warning")):
        if heating > limit and change < limit:
            return style
    return ""


def _pace(progress: "Progress", columns: int) -> Table:
    saved = (
        f"saved to {count(progress.committed)}" if progress.committed >= 0 else "not saved"
    )
    whole = simulated(progress.steps * progress.timestep)
    cells = (
        f"step {count(progress.step)} of {count(progress.steps)}",
        f"{_picoseconds(progress.time)} of {whole}",
        f"{_rate(progress.steps_per_second)} steps/s",
        f"{duration(progress.seconds_left)} left",
        saved,
        size(progress.bytes_written),
        f"{_rate(progress.ns_per_day)} ns/day",
        "",
    )
    grid = Table.grid(expand=True, padding=(0, 1))
    for column in range(columns):
        last = column == columns - 1
        grid.add_column(
            justify="right" if last else "left", no_wrap=True, overflow="ellipsis"
        )
    for start in range(0, len(cells), columns):
        grid.add_row(*cells[start : start + columns], style="" if start < 4 else "quiet")
    return grid


def _picoseconds(time: float) -> str:
    return f"{time:.1f} ps" if time < 1000 else f"{time / 1000:.3f} ns"


def _rate(value: float) -> str:
    if not isfinite(value):
        return "–"
    return count(round(value)) if value >= 100 else f"{value:.1f}"


def _fixed(value: float, form: str) -> str:
    # A drift that rounds to zero has no sign worth showing: z drops it.
    return format(value, form.replace("+", "+z")) if isfinite(value) else "–"


def _mean(values: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]") -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else float("nan")
