"""`stepson watch`: a run in progress, from outside, with kappa so far."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stepson_cli.options import where_unknown
from stepson_cli.terminal import Terminal, examples, with_terminal

if TYPE_CHECKING:
    from rich.console import RenderableType

    from gkflux.green_kubo import GreenKubo
    from stepson_cli.views.watch import Watched

__all__ = ["command"]

GROWTH = 1.05
"""kappa is computed again when there are so many times as many steps."""


SETTLED = 3.0
"""Seconds after which a run that looks finished is: one that ends by the error of kappa is
computed in parts."""


@click.command(
    name="watch",
    epilog=examples("stepson watch zro2-300K", "stepson watch md.son --once"),
)
@click.argument("files", nargs=-1, required=True)
@click.option(
    "--every",
    type=click.FloatRange(min=0.1),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="Between two looks.",
)
@click.option("--once", is_flag=True, help="Look once, and end.")
@where_unknown
@with_terminal
def command(
    files: tuple[str, ...],
    every: float,
    once: bool,
    temperature: float | None,
    volume: float | None,
    terminal: Terminal,
) -> None:
    """Watch a run that another process computes, on this machine or another.

    FILES are trajectories, quoted globs, or the folder of a run, of which the last stage
    that has begun is shown. Reads what is committed, and never disturbs the writer. Ends
    when the run does, or with Ctrl-C. Off a terminal it looks once.
    """
    watcher = _Watcher(files, temperature, volume)
    seen = watcher.last
    if once or not terminal.live:
        _print(seen, terminal)
        return
    from rich.live import Live

    try:
        with Live(console=terminal.err, auto_refresh=False, transient=True) as live:
            while not (seen.history.finished and seen.age > SETTLED):
                live.update(_drawn(seen, terminal.err.width, True), refresh=True)
                time.sleep(every)
                seen = watcher.look()
    except KeyboardInterrupt:
        seen = watcher.last  # the end that most people choose
    _print(seen, terminal)


class _Watcher:
    """Looks at a run again and again; what was read before is not read again."""

    def __init__(
        self, names: tuple[str, ...], temperature: float | None, volume: float | None
    ) -> None:
        from gkflux.history import History

        self._title = ", ".join(names)
        self._names = names
        self._temperature, self._volume = temperature, volume
        self._result: GreenKubo | None = None
        self._missing: str | None = None
        self._steps = -1
        self._paths = _last_stage(names)
        self._history: History = History.of(self._paths)
        self.last: Watched = self.look()

    def look(self) -> "Watched":
        """Read what is new."""
        from gkflux.history import History
        from stepson_cli.views.watch import Watched

        paths = _last_stage(self._names)
        if paths != self._paths:  # the next stage has begun
            self._paths, self._history = paths, History.of(paths)
            self._result, self._steps = None, -1
        self._history.update()
        steps = sum(self._history.steps)
        if steps >= GROWTH * self._steps or self._history.finished:
            self._reduce(steps)
        age = time.time() - max(path.stat().st_mtime for path in self._paths)
        self.last = Watched(
            self._title, self._history, max(0.0, age), self._result, self._missing
        )
        return self.last

    def _reduce(self, steps: int) -> None:
        from gkflux import FluxError, GreenKubo

        if steps == self._steps:
            return
        self._steps = steps
        try:
            self._result = GreenKubo.from_trajectories(
                [str(path) for path in self._paths],
                threads=1,
                temperature=self._temperature,
                volume=self._volume,
            )
        except FluxError as error:
            self._missing = str(error)


def _last_stage(names: tuple[str, ...]) -> list[Path]:
    """The files given, or of a folder those of the stage that was begun last.

    Raises:
        StepsonError: nothing is there.
    """
    import stepson
    from gkflux.trajectories import find_files

    paths = [Path(path) for path in find_files(names)]
    if not any(Path(name).is_dir() for name in names):
        return paths
    stages: dict[int, list[Path]] = {}
    for path in paths:
        with stepson.open(path) as trajectory:
            stage = trajectory.metadata.get("stage")
        index = stage.get("index", 0) if isinstance(stage, dict) else 0
        stages.setdefault(int(index), []).append(path)
    return sorted(stages[max(stages)])


def _drawn(seen: "Watched", width: int, unicode: bool) -> "RenderableType":
    from stepson_cli.views.watch import dashboard

    return dashboard(seen, width=width, unicode=unicode)


def _print(seen: "Watched", terminal: Terminal) -> None:
    from stepson_cli.views.watch import dashboard

    terminal.show(dashboard(seen, width=terminal.out.width, unicode=terminal.unicode))
