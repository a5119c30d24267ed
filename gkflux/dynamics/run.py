"""`run`: everything a configuration asks for, from wherever its folder ends.

Its stages are computed in this process, or each by the workers of a cluster.

Stage by stage: a stage whose files are complete is left alone (and sealed if a crash left
it open), an unfinished one goes on, a missing one starts. So "run", "run again after a
crash" and "run longer" are one and the same call.
"""

import threading
from pathlib import Path

from gkflux.dynamics.cluster import Team
from gkflux.dynamics.config import RunConfig
from gkflux.dynamics.context import RunContext
from gkflux.dynamics.folder import check_names
from gkflux.dynamics.progress import Listener, RunSummary
from gkflux.dynamics.replicas import files_of
from gkflux.dynamics.setup import prepare
from gkflux.dynamics.stage import StageRun
from gkflux.dynamics.workers import team

__all__ = ["run", "run_stages"]


def run(
    config: RunConfig,
    *,
    output: Path | None = None,
    steps: int | None = None,
    replicas: int | None = None,
    device: str = "cpu",
    workers: int | None = None,
    scheduler: str | None = None,
    until_error: float | None = None,
    on_progress: Listener | None = None,
    stop: threading.Event | None = None,
) -> RunSummary:
    """Run a configuration, or go on with it.

    Args:
        config: from `gkflux.dynamics.config.load`.
        output: folder, instead of the one of the configuration.
        steps: length of the last stage, instead of the configuration's.
        replicas: of the last stage, instead of the configuration's.
        device: ``cpu`` or ``cuda``.
        workers: processes of this machine that share the replicas of each stage; never
            more than there are replicas.
        scheduler: address (``tcp://host:8786``) or scheduler file of a dask cluster whose
            workers share them instead; they must see the same files.
        until_error: end the last stage as soon as kappa_std / kappa is so small, see
            `gkflux.dynamics.until`; its steps are then the most that are allowed.
        on_progress: called from the loop, a few times a second and at events.
        stop: set it to stop at the next step; what is allowed is committed first.

    Returns:
        What was done. `RunSummary.interrupted` says that `stop` ended it.

    Raises:
        ConfigError: something in the configuration does not fit.
        ChangedRunError: the folder holds another run.
        FluxError: a guard stopped the run (the good frames are kept), or there is no
            cluster, or no worker of it can be used.
        WriterError: a file is locked by another run, the disk is full ...
    """
    config = config.changed(steps=steps, replicas=replicas)
    if until_error is not None:
        # only now: the reduction imports what a run does not need
        from gkflux.dynamics.until import check_wish, run_until

        check_wish(config, until_error)
    folder = (config.folder if output is None else Path(output)).absolute()
    if workers is not None:
        workers = min(workers, max(stage.replicas for stage in config.stage))
    alone = scheduler is None and workers in (None, 1)
    # who only shares out the work needs no accelerator
    ingredients = prepare(config, device if alone else "cpu")
    context = RunContext(config, folder, ingredients, on_progress)
    with team(
        context, device=device, recipe=prepare, workers=workers, scheduler=scheduler
    ) as others:
        stop = threading.Event() if stop is None else stop
        if until_error is not None:
            return run_until(context, until_error, stop, others)
        return run_stages(context, stop, others)


def run_stages(
    context: RunContext, stop: threading.Event, others: Team | None = None
) -> RunSummary:
    """Run all stages of a prepared run, or what is left of them.

    Args:
        context: of the run.
        stop: set it to stop.
        others: who computes; None: this process.
    """
    stages = [StageRun(context, index) for index in range(len(context.config.stage))]
    check_names(context.folder, context.config, [stage.settings for stage in stages])
    for stage in stages:
        stage.check()
    finished, step, index, already = True, 0, 0, True
    for stage in stages:
        index, step = stage.index, stage.config.steps
        if stage.complete():
            continue
        already = False
        finished, step = (
            stage.compute(stop) if others is None else others.compute(stage, stop)
        )
        if not finished:
            break
    return _summary(context, index, step, finished=finished, already=already)


def _summary(
    context: RunContext, index: int, step: int, *, finished: bool, already: bool
) -> RunSummary:
    stages = context.config.stage
    planned = [path for stage in stages for path in files_of(context.folder, stage)]
    files = tuple(path for path in planned if path.exists())
    return RunSummary(
        folder=context.folder,
        files=files,
        finished=finished,
        interrupted=not finished,
        already_finished=already,
        stage=stages[index].name,
        step=step,
        steps=stages[index].steps,
        steps_computed=context.computed,
        resumed_from=dict(context.resumed),
        bytes_written=sum(path.stat().st_size for path in files),
        seconds=context.seconds,
        messages=tuple(context.messages),
    )
