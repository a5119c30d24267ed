"""Run until the thermal conductivity is known well enough.

The last stage is computed up to one step after another of a fixed row, each a quarter
further than the one before; at each of them the flux of all its files is reduced, and the
run ends when the verdict is "converged" at the error that was asked for. To run to the next
step of the row is to run longer, which any run can do; so a run that was killed goes on,
and ends at the same step as one that was not. The row is coarse because every look at the
result is a chance to stop too early; between two of them a fifth of the data is new.
"""

import threading
from dataclasses import replace
from math import ceil, isfinite, lcm

from gkflux.conductivity import reduce_runs
from gkflux.dynamics.cluster import Team
from gkflux.dynamics.config import RunConfig, StageConfig
from gkflux.dynamics.context import RunContext
from gkflux.dynamics.progress import Listener, Progress, RunSummary
from gkflux.dynamics.stage import StageRun
from gkflux.errors import FluxError
from gkflux.green_kubo import GreenKubo
from gkflux.plan import Settings
from gkflux.rounding import rounded
from gkflux.trajectories import trajectory_runs

__all__ = ["check_wish", "looks", "run_until"]

FIRST, GROWTH = 0.05, 1.25
"""Where the first look is, as a share of the steps allowed; how far it is to the next."""
STATES = "gk.states"
"""Folder of what was accumulated, in that of the run."""


def check_wish(config: RunConfig, wanted: float) -> None:
    """Refuse an error that means nothing, or a run without a heat flux.

    Raises:
        FluxError: in one line.
    """
    if not (isfinite(wanted) and 0 < wanted < 1):
        raise FluxError(f"the wanted relative error is between 0 and 1, not {wanted}")
    last = config.stage[-1]
    if last.heat_flux is None or last.told.label != "nve":
        raise FluxError(
            f"stage {last.name}: an error of kappa needs an nve stage with a heat flux at "
            "the end; add `heat_flux.every = 2`"
        )


def looks(stage: StageConfig) -> list[int]:
    """Return the steps at which the result is looked at, up to the length of the stage."""
    assert stage.heat_flux is not None
    whole = lcm(stage.heat_flux.every, stage.record.every)
    found, step = [], FIRST * stage.steps
    while step < stage.steps:
        found.append(ceil(step / whole) * whole)
        step *= GROWTH
    return sorted({min(step, stage.steps) for step in found} | {stage.steps})


def run_until(
    context: RunContext,
    wanted: float,
    stop: threading.Event,
    others: Team | None = None,
) -> RunSummary:
    """Run all stages, the last one only as long as is needed.

    Args:
        context: of the run; its steps are the most that are allowed.
        wanted: kappa_std / kappa.
        stop: set it to stop.
        others: who computes; None: this process.

    Raises:
        FluxError: as `gkflux.dynamics.run.run`.
    """
    from gkflux.dynamics.run import run_stages

    config, listener = context.config, context.listener
    most = config.stage[-1].steps
    shown = None if listener is None else _Longer(listener, most, len(config.stage) - 1)
    context.listener = shown
    saved = StageRun(context, len(config.stage) - 1).saved_step()
    for step in looks(config.stage[-1]):
        if step < saved:
            continue
        context.config = config.changed(steps=step)
        done = run_stages(context, stop, others)
        if not done.finished:
            break
        last = StageRun(context, len(config.stage) - 1)
        enough, words = _look(context, last, wanted)
        last.reporter(last.everyone).say(f"step {step}: {words}")
        if enough or stop.is_set():
            break
    if shown is not None:
        shown.finish()
    return replace(done, steps=most, messages=tuple(context.messages))


def _look(context: RunContext, last: StageRun, wanted: float) -> tuple[bool, str]:
    """Say whether kappa is known well enough, and what is known of it."""
    found = _reduced(context, last, wanted)
    if isinstance(found, str):
        return False, f"no kappa yet: {found}"
    kappa = rounded(found.kappa, found.kappa_std)
    return found.status == "converged", f"kappa = {kappa} W/(m K), {found.verdict}"


def _reduced(context: RunContext, last: StageRun, wanted: float) -> GreenKubo | str:
    try:
        runs = trajectory_runs([str(path) for path in last.files])
        return reduce_runs(
            runs, Settings(relative_error=wanted), states=context.folder / STATES
        )
    except FluxError as error:
        return str(error)


class _Longer:
    """Shows a stage that is computed in parts as the one that it is, with one end."""

    def __init__(self, listener: Listener, most: int, index: int) -> None:
        self._listener, self._most, self._index = listener, most, index
        self._end: Progress | None = None

    def __call__(self, progress: Progress) -> None:
        if progress.stage_index == self._index:
            if progress.phase == "finished":
                self._end = progress  # of a part
                return
            speed = progress.steps_per_second
            left = (self._most - progress.step) / speed if speed > 0 else float("nan")
            progress = replace(progress, steps=self._most, seconds_left=left)
        self._listener(progress)

    def finish(self) -> None:
        """Show the end of the last part."""
        if self._end is not None:
            self._listener(self._end)
