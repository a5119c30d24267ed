"""From ``.son`` files to runs: what may be pooled, what is joined, what is refused.

Stages in the microcanonical ensemble are taken, others only when asked for: a thermostat
damps the flux correlations. Files that continue one another are joined, the rest are
pooled. A file given twice, overlapping steps that no restart explains, or runs of different
model, atoms, cell, timestep, gauge or target temperature are refused, with the difference.
Nothing here looks at a frame: metadata and the index only.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

import stepson
from gkflux.beside import Beside, MassCurrents, current_source, mean_virials
from gkflux.errors import FluxError
from gkflux.flux_series import factors_of, read_samples
from gkflux.pooling import (
    FluxFile,
    constant_volume,
    join,
    microcanonical,
    refuse_different,
    refuse_twice,
)
from gkflux.runs import Part, Run
from stepson.errors import FormatError
from stepson.series.names import expand

__all__ = ["find_files", "trajectory_runs"]

DIFFUSING = 4.0
"""Mean square displacement of a species, Å², that is diffusion; vibrations stay below 1."""


def find_files(paths: str | Path | Iterable[str | Path]) -> list[str]:
    """Expand files, folders and globs, in the order given, sorted within each.

    Raises:
        FluxError: nothing is there.
    """
    given = [paths] if isinstance(paths, str | Path) else list(paths)
    found: list[str] = []
    for entry in given:
        matches = [str(match) for match in expand(entry)]
        if not matches or not all("://" in each or Path(each).exists() for each in matches):
            raise FluxError(f"{entry}: no such file; give .son files, folders or a glob")
        found += matches
    if not found:
        raise FluxError("no files given; give .son files, folders or a glob")
    return found


def trajectory_runs(
    paths: str | Path | Iterable[str | Path],
    *,
    any_ensemble: bool = False,
    temperature: float | None = None,
    volume: float | None = None,
    gauge: str = "stored",
    currents: str = "auto",
) -> list[Run]:
    """Open trajectories and sort them into runs.

    Args:
        paths: files, folders, globs.
        any_ensemble: take thermostatted stages too.
        temperature: K, where the files have no kinetic temperature.
        volume: Å³, where the files have no cell.
        gauge: `stored`, or `virials`: without the flux of their mean (`gkflux.beside`).
        currents: `auto`: mass currents of mixtures that diffuse, where the files have what
            they are made of; `none`.

    Raises:
        FluxError: see the module.
    """
    _refuse_unknown(gauge, currents)
    for name, value in (("temperature", temperature), ("volume", volume)):
        if value is not None and not 0 < value < float("inf"):
            raise FluxError(f"{name} must be a positive number, not {value}")
    files = [_open(path) for path in _with_flux(paths)]
    refuse_twice(files)
    files = constant_volume(files) if any_ensemble else microcanonical(files)
    refuse_different(files)
    if gauge == "virials":
        _refuse_diffusing(files)
    groups = join(files)
    mass = None if currents == "none" else _mass_currents(files)
    twice = all(file.facts["plain"] for file in files)
    found = []
    for group in groups:
        run = _run(group, temperature, volume)
        if gauge == "virials":
            stored = run
            run = _with(run, group, mean_virials([(f.path, f.stop) for f in group]))
            run = replace(run, other=stored)
        elif twice:
            plain = _with(run, group, None, "heat_flux_plain")
            run = replace(run, other=plain)
        found.append(run if mass is None else _with(run, group, mass))
    return found


def _refuse_unknown(gauge: str, currents: str) -> None:
    for name, value, known in (
        ("gauge", gauge, ("stored", "virials")),
        ("currents", currents, ("auto", "none")),
    ):
        if value not in known:
            raise FluxError(f"unknown {name} {value!r}: {' or '.join(known)}")


def _refuse_diffusing(files: Sequence[FluxFile]) -> None:
    for file in files:
        if file.facts["diffusing"]:
            raise FluxError(
                f"{file.path}: species diffuse, no lattice about which the virials have "
                "a mean; leave the gauge as it is stored"
            )


def _mass_currents(files: Sequence[FluxFile]) -> MassCurrents | None:
    """Return the mass currents, where a species diffuses and every file can tell them."""
    first = files[0]
    if first.masses is None or not any(file.facts["diffusing"] for file in files):
        return None
    if not all(file.facts["currents_from"] for file in files):
        return None
    return MassCurrents.of(first.numbers, first.masses)


def _with(
    run: Run, group: Sequence[FluxFile], beside: Beside | None, name: str = "heat_flux"
) -> Run:
    """The run with a flux that is another field, or to which something is done."""
    files = [(f.path, f.samples, f.stop) for f in group]
    return replace(
        run,
        read=partial(read_samples, files, run.every, name=name, beside=beside),
        channels=run.channels if beside is None else beside.channels,
        variant=name if beside is None else beside.variant,
    )


def _with_flux(paths: str | Path | Iterable[str | Path]) -> list[str]:
    """Expand the paths; in a folder, only trajectories with a heat flux are meant."""
    given = [paths] if isinstance(paths, str | Path) else list(paths)
    chosen: list[str] = []
    for entry in given:
        found = find_files(entry)
        useful = (
            [path for path in found if _has_flux(path)] if Path(entry).is_dir() else found
        )
        if not useful:
            raise FluxError(
                f"{entry}: {len(found)} files, none of them with a field heat_flux; "
                "record it with `heat_flux = { every = 2 }` in the stage"
            )
        chosen += useful
    return chosen


def _has_flux(path: str) -> bool:
    with stepson.open(path) as trajectory:
        return "heat_flux" in trajectory.fields


def _open(path: str) -> FluxFile:
    with stepson.open(path) as trajectory:
        if "heat_flux" not in trajectory.fields:
            raise FluxError(
                f"{path}: no field heat_flux, only {', '.join(trajectory.fields)}; "
                "record it with `heat_flux = { every = 2 }` in the stage"
            )
        metadata, field = trajectory.metadata, trajectory.fields["heat_flux"]
        _check_fields(trajectory, path)
        steps = trajectory["heat_flux"].steps
        # one alone is enough where it continues another file
        if len(steps) < (1 if field.every else 2):
            raise FluxError(f"{path}: {len(steps)} samples of heat_flux; run longer")
        timestep = metadata.get("timestep")
        if not timestep:
            raise FluxError(
                f"{path}: no timestep in the metadata, the time axis is unknown"
            )
        cell, masses = metadata.get("cell"), metadata.get("masses")
        return FluxFile(
            path=path,
            steps=(int(steps[0]), int(steps[-1])),
            every=_spacing(field, steps),
            samples=len(steps),
            timestep=float(timestep),
            facts=_facts(trajectory, field),
            numbers=np.asarray(metadata["numbers"]),
            masses=None if masses is None else np.array(masses, dtype=np.float64),
            cell=None if cell is None else np.array(cell, dtype=np.float64),
        )


def _spacing(field: stepson.Field, steps: Any) -> int:
    """Steps between samples; of a field that `stepson.recover` changed, those of before."""
    told = field.attributes.get("every_before_recovery")
    return int(field.every or told or steps[1] - steps[0])


def _check_fields(trajectory: stepson.Trajectory, path: str) -> None:
    """Refuse a flux that is no vector, and units that are not known."""
    shape = trajectory.fields["heat_flux"].shape
    if len(shape) != 1 or shape[0] not in (1, 2, 3):
        raise FluxError(
            f"{path}: heat_flux has the shape {shape}, expected (3,): one vector a sample"
        )
    factors_of(trajectory, path)


def _table(metadata: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """What a run stores as a table; empty where another program stored something else."""
    found = metadata.get(key)
    return found if isinstance(found, Mapping) else {}


def _facts(trajectory: stepson.Trajectory, field: stepson.Field) -> dict[str, Any]:
    metadata = trajectory.metadata
    potential = _table(metadata, "potential")
    return {
        "uuid": trajectory.uuid,
        "digest": trajectory.digest,
        "frames_of": _table(metadata, "source").get("uuid"),
        "ensemble": metadata.get("ensemble"),
        "stage": _table(metadata, "stage").get("name"),
        "replica": metadata.get("replica"),
        "potential_file": potential.get("file"),
        "potential_sha256": potential.get("sha256"),
        "atoms": trajectory.n_atoms,
        "degrees_of_freedom": metadata.get("degrees_of_freedom"),
        "target_K": metadata.get("temperature"),
        "gauge": field.attributes.get("gauge"),
        "formulation": field.attributes.get("formulation"),
        "layers": potential.get("layers"),
        "convective": field.attributes.get("convective"),
        "diffusing": _diffusing(trajectory),
        "currents_from": current_source(trajectory),
        "plain": "heat_flux_plain" in trajectory.fields,
        **_hop(trajectory),
    }


def _hop(trajectory: stepson.Trajectory) -> dict[str, Any]:
    """Return step and atom of the first hop from the lattice; empty where not known."""
    if trajectory.fields["heat_flux"].attributes.get("gauge") != "lattice":
        return {}
    for step in reversed(trajectory.checkpoint_steps):
        try:
            state = trajectory.checkpoint(step)
        except FormatError:  # damaged: the one before is nearly as good
            continue
        return {"hop": state["hop"]} if "hop" in state else {}
    return {}


def _diffusing(trajectory: stepson.Trajectory) -> bool:
    """Say whether a species of a mixture left its sites between first and last frame."""
    numbers = np.asarray(trajectory.metadata["numbers"])
    if "positions" not in trajectory.fields or len(np.unique(numbers)) < 2:
        return False
    positions = trajectory["positions"]
    if len(positions) < 2:
        return False
    moved = np.asarray(positions[-1], np.float64) - np.asarray(positions[0], np.float64)
    moved -= moved.mean(axis=0)
    squares = (moved**2).sum(axis=1)
    return any(squares[numbers == kind].mean() > DIFFUSING for kind in np.unique(numbers))


def _run(group: Sequence[FluxFile], temperature: float | None, volume: float | None) -> Run:
    first = group[0]
    facts = dict(first.facts)
    facts["files"] = [file.path for file in group]
    facts["digests"] = [file.facts["digest"] for file in group]
    facts["diffusing"] = any(file.facts["diffusing"] for file in group)
    facts |= _first_hop(group)
    facts["restarts"] = [
        f"{a.path} counts up to step {a.steps[1]}, {b.path} was started from there"
        for a, b in pairwise(group)
        if a.stop is not None
    ]
    own = None if first.cell is None else abs(float(np.linalg.det(first.cell)))
    if own is not None and volume is not None:
        facts["cell_volume"] = own
    return Run(
        name=first.path,
        samples=sum(file.samples for file in group),
        every=first.every,
        timestep=first.timestep,
        read=partial(
            read_samples, [(f.path, f.samples, f.stop) for f in group], first.every
        ),
        origin=first.steps[0],
        parts=tuple(Part(f.uuid, f.samples) for f in group),
        volume=own if volume is None else volume,
        temperature=temperature,
        facts=facts,
    )


def _first_hop(group: Sequence[FluxFile]) -> dict[str, Any]:
    """Return the first hop of files that continue one another, with its file."""
    watched = [file for file in group if "hop" in file.facts]
    hops = ({**f.facts["hop"], "file": f.path} for f in watched if f.facts["hop"])
    return {"hop": next(hops, None)} if watched else {}
