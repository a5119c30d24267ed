"""`stepson flux`: the heat flux of stored frames, as a new trajectory."""

import shlex
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import click

from stepson_cli.options import refuse_both, shared
from stepson_cli.terminal import Terminal, as_json, examples, with_terminal

__all__ = ["command"]

FORMULATIONS = ("semilocal", "local", "hardy", "unfolded")
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@click.command(
    name="flux",
    epilog=examples(
        "stepson flux md.son -o flux.son && stepson gk flux.son",
        "stepson flux md.son --model model.torch --gauge none -o plain.son",
        "stepson flux zro2-300K/production -o flux && stepson gk flux",
    ),
)
@click.argument("files", nargs=-1, required=True)
@click.option(
    "--model",
    metavar="M",
    help="A file, a name, or the configuration of a run (.toml); by default the model that "
    "the run was computed with, where its file is found.",
)
@click.option(
    "--formulation",
    metavar="NAME",
    default="semilocal",
    show_default=True,
    help="semilocal is exact and fast; local is exact for one layer; hardy and unfolded "
    "are exact and slow.",
)
@click.option(
    "--gauge",
    metavar="NAME",
    help="lattice or none; by default lattice where there is one.",
)
@click.option(
    "--lattice",
    metavar="FILE",
    help="Equilibrium structure for that gauge; by default that of the run.",
)
@click.option(
    "--convective/--no-convective",
    default=True,
    show_default=True,
    help="What moving atoms carry; the lattice gauge has no such part.",
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float64"]),
    help="Of the network; by default that of the run.",
)
@click.option(
    "--device",
    type=click.Choice(["cpu", "cuda"]),
    default="cpu",
    show_default=True,
    help="Where the network runs.",
)
@click.option("--any-ensemble", is_flag=True, help="Of folders, thermostatted stages too.")
@click.option(
    "--force", is_flag=True, help="Compute frames that are too far apart in time."
)
@shared
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="OUT",
    help="The new file; for several FILES a folder. By default NAME.flux.son beside each.",
)
@as_json
@with_terminal
def command(
    files: tuple[str, ...],
    model: str | None,
    formulation: str,
    gauge: str | None,
    lattice: str | None,
    convective: bool,
    dtype: str | None,
    device: str,
    any_ensemble: bool,
    force: bool,
    workers: int | None,
    scheduler: str | None,
    output: Path | None,
    as_json: bool,
    terminal: Terminal,
) -> int:
    """Compute the heat flux of stored frames.

    FILES are trajectories with positions and velocities, quoted globs, or folders of runs.
    Each gives a file with heat_flux, energies and temperature, which `stepson gk` takes.
    The bits do not depend on the number of workers.

    Frames that are too far apart in time are refused, with the spacing that is needed.
    Nothing is overwritten. Give the same command again after any stop: it goes on, also
    when a trajectory has grown.
    """
    refuse_both(workers, scheduler)
    from stepson_cli.progress import reading
    from stepson_cli.views.flux import facts, report

    stop = threading.Event()
    with reading(terminal, "opening") as listener, _asked_to_stop(stop) as caught:
        from gkflux.recompute.files import choose, recompute_files, targets

        chosen, left_out = choose(files, any_ensemble=any_ensemble)
        for line in left_out:
            terminal.say(line, verbosity=1)
        pairs = list(zip(chosen, targets(chosen, output), strict=True))
        with warnings.catch_warnings():
            warnings.simplefilter("default", UserWarning)
            results = list(
                recompute_files(
                    pairs,
                    model=model,
                    formulation=formulation,
                    gauge=gauge,
                    lattice=lattice,
                    convective=convective,
                    dtype=dtype,
                    device=device,
                    force=force,
                    workers=workers,
                    scheduler=scheduler,
                    stop=stop,
                    progress=listener,
                )
            )
    if as_json:
        terminal.show_json([facts(each) for each in results])
    else:
        shown = [str(output)] if output is not None else [each.target for each in results]
        terminal.show(report(results, following=shlex.join(["stepson", "gk", *shown])))
    return 128 + caught[0] if caught else 0


@contextmanager
def _asked_to_stop(stop: threading.Event) -> Iterator[list[int]]:
    """Ask for a stop at the first signal, end at once at the second; yield what came."""
    caught: list[int] = []

    def handle(number: int, _: FrameType | None) -> None:
        caught.append(number)
        stop.set()
        signal.signal(number, signal.SIG_DFL)

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
