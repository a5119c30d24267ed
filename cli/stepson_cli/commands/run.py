"""`stepson run`: molecular dynamics from a configuration, again and again until it is done.

The first Ctrl-C, SIGTERM or SIGHUP asks the loop to save and stop; the second one ends the
process at once, which costs what was computed since the last save and nothing else.
"""

import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from stepson_cli.options import refuse_both
from stepson_cli.terminal import Terminal, as_json, examples, with_terminal

if TYPE_CHECKING:
    from gkflux.dynamics.progress import RunSummary
    from stepson_cli.live import Display

__all__ = ["command"]

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
REPEATED = (
    "steps", "replicas", "device", "workers", "scheduler", "until_kappa_error"
)  # fmt: skip
SHOW_CURSOR = b"\x1b[?25h\n"


def _share(ctx: click.Context, option: click.Parameter, text: str | None) -> float | None:
    """Read a share between 0 and 1: a percentage (5%), or as it is (0.05)."""
    if text is None:
        return None
    try:
        share = float(text.strip().removesuffix("%"))
    except ValueError:
        share = float("nan")
    share /= 100 if text.strip().endswith("%") else 1
    if not 0 < share < 1:
        raise click.BadParameter(f"{text} is not a percentage such as 5%", ctx, option)
    return share


@click.command(
    name="run",
    epilog=examples(
        "stepson run zro2-300K.toml",
        "stepson run zro2-300K.toml --steps 500000    (more of the last stage)",
        "stepson run zro2-300K.toml --scheduler tcp://login1:8786    (many machines)",
    ),
)
@click.argument("config", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--steps",
    type=click.IntRange(min=1),
    metavar="N",
    help="Steps of the last stage instead.",
)
@click.option(
    "--replicas",
    type=click.IntRange(min=1),
    metavar="R",
    help="Replicas of the last stage instead.",
)
@click.option(
    "--device",
    type=click.Choice(["cpu", "cuda"]),
    default="cpu",
    show_default=True,
    help="Where the network runs.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="Share the replicas of each stage among N processes, at most one for each.",
)
@click.option(
    "--scheduler",
    metavar="ADDRESS",
    help="Share them among the workers of a dask cluster: its address, or its file.",
)
@click.option(
    "--until-kappa-error",
    callback=_share,
    metavar="PERCENT",
    help="End the last stage as soon as kappa is known so well: 5%.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder of the results; by default what the configuration says.",
)
@as_json
@with_terminal
def command(
    config: Path,
    steps: int | None,
    replicas: int | None,
    device: str,
    workers: int | None,
    scheduler: str | None,
    until_kappa_error: float | None,
    output: Path | None,
    as_json: bool,
    terminal: Terminal,
) -> int:
    """Run molecular dynamics, and go on where it stopped.

    CONFIG is a TOML file with the system, the potential, the stages and the output. Give
    the same command again after any stop, even a crash: the run goes on, bit for bit.
    Ctrl-C saves and stops (exit status 130; 143 after SIGTERM), a second Ctrl-C stops at
    once.
    """
    refuse_both(workers, scheduler)
    from gkflux.dynamics.config import load
    from stepson_cli.live import display
    from stepson_cli.views.run import summary

    loaded = load(config)
    stop = threading.Event()
    with display(terminal, config.name) as shown, _signals(stop, shown, terminal) as caught:
        # Only now, because torch takes seconds: there is something on the screen.
        from gkflux.dynamics.run import run

        result = run(
            loaded,
            output=output,
            steps=steps,
            replicas=replicas,
            device=device,
            workers=workers,
            scheduler=scheduler,
            until_error=until_kappa_error,
            on_progress=shown.update,
            stop=stop,
        )
    if as_json:
        terminal.show_json(_facts(result))
    else:
        flux = any(stage.heat_flux is not None for stage in loaded.stage)
        terminal.show(summary(result, command=_again(config), flux=flux))
    return 128 + caught[0] if result.interrupted and caught else 0


@contextmanager
def _signals(
    stop: threading.Event, shown: "Display", terminal: Terminal
) -> Iterator[list[int]]:
    """Ask for a stop at the first signal, end at once at the second; yield what came."""
    caught: list[int] = []

    def handle(number: int, _: FrameType | None) -> None:
        if caught:
            _end_at_once(number, terminal)
        caught.append(number)
        shown.stopping = True
        stop.set()

    # A signal that the caller ignores stays ignored: that is what `nohup` is for.
    before = {
        n: signal.getsignal(n) for n in STOPS if signal.getsignal(n) != signal.SIG_IGN
    }
    for number in before:
        signal.signal(number, handle)
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end_at_once(number: int, terminal: Terminal) -> None:
    if terminal.live:
        os.write(sys.stderr.fileno(), SHOW_CURSOR)
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _again(config: Path) -> str:
    """Spell the command that goes on with this run: the options that were given."""
    words = ["stepson", "run", str(config)]
    given = click.get_current_context()
    names = {"output": "-o"} | {n: f"--{n.replace('_', '-')}" for n in REPEATED}
    for name, option in names.items():
        source = given.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            words += [option, str(given.params[name])]
    return shlex.join(words)


def _facts(result: "RunSummary") -> dict[str, object]:
    from dataclasses import asdict

    return asdict(result)
