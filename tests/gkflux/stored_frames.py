"""Short runs whose frames are stored, for the tests of `stepson flux`."""

from pathlib import Path
from typing import Any

import numpy as np
from ase.build import bulk
from ase.io import write

import gkflux
import stepson
from gkflux.dynamics.config import parse
from gkflux.dynamics.run import run

RUN = """
[system]
structure = "crystal.xyz"
{lattice}
temperature = 30
seed = 3
[potential]
{potential}
[[stage]]
name = "nve"
timestep = 4.0
steps = {steps}
record = {{ every = {every}, dtype = {{ positions = "float64", velocities = "float64" }} }}
heat_flux.every = 2
[output]
folder = "run"
"""
LENNARD_JONES = (
    'model = "lennard-jones"\nparameters = { epsilon = 0.01032, sigma = 3.405, cutoff = 6 }'
)
ARGON = 'model = "argon"'


def stored(
    folder: Path,
    potential: str = ARGON,
    *,
    lattice: bool = False,
    steps: int = 400,
    every: int = 4,
) -> Path:
    """Run a crystal of 32 argon atoms; return its trajectory, with every flux stored."""
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "crystal.xyz", bulk("Ar", "fcc", a=5.35, cubic=True) * (2, 2, 2))
    told = 'lattice = "crystal.xyz"' if lattice else ""
    text = RUN.format(lattice=told, potential=potential, steps=steps, every=every)
    (folder / "run.toml").write_text(text)
    run(parse(text, folder / "run.toml"))
    return folder / "run" / "nve" / "md.son"


def at_the_frames(path: Path, name: str) -> Any:
    """What the run stored of a field at the steps of its positions."""
    with stepson.open(path) as trajectory:
        steps = np.asarray(trajectory["positions"].steps)
        known = np.asarray(trajectory[name].steps)
        return np.asarray(trajectory[name])[np.searchsorted(known, steps)]


def column(path: Path, name: str) -> Any:
    """All samples of a field."""
    with stepson.open(path) as trajectory:
        return np.asarray(trajectory[name])


def copied(source: Path, target: Path, **changes: Any) -> Path:
    """Copy positions and velocities, with something changed.

    Args:
        source: the trajectory.
        target: the new file.
        **changes: ``keep`` (a slice of frames), ``fields`` (names), ``numbers``, ``cell``,
            ``units``, ``metadata``, ``dtype``, and ``positions`` or ``velocities``: a
            function of the array.
    """
    with stepson.open(source) as trajectory:
        keep = changes.get("keep", slice(None))
        steps = np.asarray(trajectory["positions"].steps)[keep]
        names = changes.get("fields", ("positions", "velocities"))
        units = {"positions": "Å", "velocities": "Å/fs", **changes.get("units", {})}
        every = int(steps[1] - steps[0])
        data = {
            name: changes.get(name, lambda x: x)(np.asarray(trajectory[name])[keep])
            for name in names
        }
        told = trajectory.metadata
        kept = {key: told[key] for key in ("ensemble", "config", "degrees_of_freedom")}
        kept["potential"] = dict(told["potential"])
        dtype = changes.get("dtype", "float64")
        fields = [
            stepson.Field(n, dtype, ("atom", 3), units[n], every=every) for n in names
        ]
        cell = changes.get("cell", told["cell"])
        with stepson.create(
            target,
            fields=fields,
            numbers=changes.get("numbers", np.asarray(told["numbers"])),
            masses=np.asarray(told["masses"]),
            cell=None if cell is None else np.asarray(cell),
            pbc=cell is not None,
            timestep=told["timestep"],
            metadata={**kept, **changes.get("metadata", {})},
        ) as out:
            out.extend(steps=steps, **{n: d.astype(dtype) for n, d in data.items()})
    return target


def system_of(path: Path) -> gkflux.System:
    """Atoms, cell and velocities of the last frame."""
    with stepson.open(path) as trajectory:
        return gkflux.System(
            positions=trajectory["positions"][-1],
            velocities=trajectory["velocities"][-1],
            numbers=np.asarray(trajectory.metadata["numbers"]),
            masses=np.asarray(trajectory.metadata["masses"]),
            cell=np.asarray(trajectory.metadata["cell"]),
        )
