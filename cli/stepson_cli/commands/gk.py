"""`stepson gk`: from recorded heat fluxes to the thermal conductivity."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stepson_cli.options import refuse_both, shared, where_unknown
from stepson_cli.terminal import Terminal, as_json, examples, with_terminal

if TYPE_CHECKING:
    from gkflux.conductivity import GreenKubo

__all__ = ["command"]

METHODS = ("auto", "cepstral", "first_dip", "replicas", "blocks")
MODES = ("default", "vibes", "sportran")
SYMMETRIES = ("auto", "none")
GAUGES = ("stored", "virials")
CURRENTS = ("auto", "none")
EXPORTS = {"stacie": "gk-stacie.npz", "vibes": "gk.nc"}


@click.command(
    name="gk",
    epilog=examples(
        "stepson gk zro2-300K", "stepson gk 'zro2-300K/production/*/md.son' -o result"
    ),
)
@click.argument("files", nargs=-1, required=True)
@click.option(
    "--method",
    type=click.Choice(METHODS),
    default="auto",
    show_default=True,
    help="The estimate to quote; all of them are shown.",
)
@click.option(
    "--mode",
    type=click.Choice(MODES),
    default="default",
    show_default=True,
    help="Reproduce FHI-vibes or SporTran, digit for digit.",
)
@click.option(
    "--symmetry",
    type=click.Choice(SYMMETRIES),
    default="auto",
    show_default=True,
    help="Average the tensor over the point group of the crystal in the files, or not.",
)
@click.option(
    "--gauge",
    type=click.Choice(GAUGES),
    default="stored",
    show_default=True,
    help="Take the flux of the mean virials out: less noise in solids, the same kappa.",
)
@click.option(
    "--currents",
    type=click.Choice(CURRENTS),
    default="auto",
    show_default=True,
    help="Use the mass currents of mixtures that diffuse, or do not.",
)
@click.option("--any-ensemble", is_flag=True, help="Take thermostatted stages too.")
@where_unknown
@shared
@click.option(
    "--fresh",
    is_flag=True,
    help="Read everything anew: believe nothing in DIR/gk.states.",
)
@click.option(
    "--export",
    "exports",
    type=click.Choice(tuple(EXPORTS)),
    multiple=True,
    help="Write the spectrum for STACIE, gk-stacie.npz, or gk.nc as FHI-vibes does, too.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=".",
    metavar="DIR",
    help="Where gk.json, gk.npz and report.html go; here by default.",
)
@as_json
@with_terminal
def command(
    files: tuple[str, ...],
    method: str,
    mode: str,
    symmetry: str,
    gauge: str,
    currents: str,
    any_ensemble: bool,
    temperature: float | None,
    volume: float | None,
    workers: int | None,
    scheduler: str | None,
    fresh: bool,
    exports: tuple[str, ...],
    output: Path,
    as_json: bool,
    terminal: Terminal,
) -> None:
    """Compute the thermal conductivity from recorded heat fluxes.

    FILES are trajectories, quoted globs, or folders of runs, of which the parts with a
    heat flux at constant energy are taken. Replicas are pooled. Writes gk.json (the
    result), gk.npz (the curves) and report.html (one file that opens without a network).

    What was accumulated is kept in gk.states: given again, the command reads only what was
    not read before, be it that it was killed or that the runs have grown.
    """
    refuse_both(workers, scheduler)
    from gkflux import GreenKubo
    from stepson_cli.progress import reading

    chosen = _expand(files, any_ensemble, terminal)
    states = output / "gk.states"
    if fresh:
        _forget(states)
    with reading(terminal, "opening") as listener:
        result = GreenKubo.from_trajectories(
            chosen,
            any_ensemble=any_ensemble,
            gauge=gauge,
            currents=currents,
            temperature=temperature,
            volume=volume,
            workers=workers,
            scheduler=scheduler,
            states=states,
            progress=listener,
            method=method,
            mode=mode,
            symmetry=symmetry,
        )
    folder = result.save(output)
    for kind in exports:
        result.export(folder / EXPORTS[kind], kind)
    _show(result, folder, as_json, terminal)


def _forget(states: Path) -> None:
    for path in states.glob("*.npz"):
        path.unlink()


def _expand(files: Sequence[str], any_ensemble: bool, terminal: Terminal) -> list[str]:
    """Turn folders into the trajectories in them that Green-Kubo can use.

    Raises:
        StepsonError: a folder has none.
    """
    from stepson.errors import StepsonError

    chosen: list[str] = []
    for name in files:
        if not name or not Path(name).is_dir():
            chosen.append(name)
            continue
        found = sorted(map(str, Path(name).rglob("*.son")))
        useful = [path for path in found if _useful(path, any_ensemble, terminal)]
        if not useful:
            raise StepsonError(
                f"{name}: {len(found)} files, none with a heat flux at constant energy; "
                "record it with heat_flux.every = 2 in an nve stage"
            )
        chosen += useful
    return chosen


def _useful(path: str, any_ensemble: bool, terminal: Terminal) -> bool:
    import stepson

    with stepson.open(path) as trajectory:
        ensemble = trajectory.metadata.get("ensemble")
        if "heat_flux" not in trajectory.fields:
            terminal.say(f"left out: {path}, it has no heat flux", verbosity=1)
            return False
        if any_ensemble or ensemble in (None, "nve"):
            return True
        terminal.say(f"left out: {path} ({ensemble}); --any-ensemble takes it")
        return False


def _show(result: "GreenKubo", folder: Path, as_json: bool, terminal: Terminal) -> None:
    from stepson_cli.views.gk import conductivity

    if as_json:
        terminal.show_json(result.summary())
        return
    terminal.show(
        conductivity(
            result,
            width=terminal.out.width,
            unicode=terminal.unicode,
            details=terminal.verbosity > 0,
        )
    )
    terminal.say(f"\nwritten: {folder / 'report.html'}, gk.json, gk.npz")
