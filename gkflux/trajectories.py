"""From ``.son`` files to runs: what may be pooled, what is joined, what is refused.

Stages in the microcanonical ensemble are taken, others only when asked for: a thermostat
damps the flux correlations. Files that continue one another are joined, the rest are
pooled. A file given twice, overlapping steps, or runs of different model, atoms, cell,
timestep, gauge or target temperature are refused, with the difference. Nothing here looks
at a frame: metadata and the index only.
"""

import glob
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import stepson
from gkflux.correlate import Float
from gkflux.errors import FluxError
from gkflux.runs import Chunk, Run

__all__ = ["find_files", "trajectory_runs"]

FRAMES = 1 << 16
"""Frames of a batch: a few megabytes of small columns."""
DIFFUSING = 4.0
"""Mean square displacement of a species, Å², that is diffusion; vibrations stay below 1."""
Array = NDArray[Any]
Series = tuple[NDArray[np.int64], Float]
_SERIES = ("temperature", "energy", "energy_kinetic", "volume")


@dataclass(frozen=True)
class _File:
    """What is needed of one trajectory; the file itself is opened again to be read."""

    path: str
    steps: tuple[int, int]
    every: int
    samples: int
    timestep: float
    facts: Mapping[str, Any]
    numbers: Array
    cell: Array | None
    parent: str | None
    """uuid of the file that this one continues."""

    @property
    def uuid(self) -> str:
        """Of the file."""
        return str(self.facts["uuid"])


def find_files(paths: str | Path | Iterable[str | Path]) -> list[str]:
    """Expand files, folders and globs, in the order given, sorted within each.

    Raises:
        FluxError: nothing is there.
    """
    given = [paths] if isinstance(paths, str | Path) else list(paths)
    found: list[str] = []
    for entry in given:
        path = Path(entry)
        if path.is_dir():
            matches = sorted(str(p) for p in path.rglob("*.son"))
        elif path.exists() or "://" in str(entry):
            matches = [str(entry)]
        else:
            matches = sorted(glob.glob(str(entry), recursive=True))
        if not matches:
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
) -> list[Run]:
    """Open trajectories and sort them into runs.

    Args:
        paths: files, folders, globs.
        any_ensemble: take thermostatted stages too.
        temperature: K, where the files have no kinetic temperature.
        volume: Å³, where the files have no cell.

    Raises:
        FluxError: see the module.
    """
    files = [_open(path) for path in _with_flux(paths)]
    _refuse_twice(files)
    if not any_ensemble:
        files = _microcanonical(files)
    _refuse_different(files)
    groups = _join(files)
    return [_run(group, temperature, volume) for group in groups]


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
                "record it "
                "with `heat_flux = { every = 2 }` in the stage"
            )
        chosen += useful
    return chosen


def _has_flux(path: str) -> bool:
    with stepson.open(path) as trajectory:
        return "heat_flux" in trajectory.fields


def _open(path: str) -> _File:
    with stepson.open(path) as trajectory:
        if "heat_flux" not in trajectory.fields:
            raise FluxError(
                f"{path}: no field heat_flux, only {', '.join(trajectory.fields)}; "
                "record it "
                "with `heat_flux = { every = 2 }` in the stage"
            )
        metadata, field = trajectory.metadata, trajectory.fields["heat_flux"]
        steps = trajectory["heat_flux"].steps
        if len(steps) < 2:
            raise FluxError(f"{path}: {len(steps)} samples of heat_flux; run longer")
        timestep = metadata.get("timestep")
        if not timestep:
            raise FluxError(
                f"{path}: no timestep in the metadata, the time axis is unknown"
            )
        cell = metadata.get("cell")
        return _File(
            path=path,
            steps=(int(steps[0]), int(steps[-1])),
            every=int(field.every or steps[1] - steps[0]),
            samples=len(steps),
            timestep=float(timestep),
            facts=_facts(trajectory, field),
            numbers=np.asarray(metadata["numbers"]),
            cell=None if cell is None else np.array(cell, dtype=np.float64),
            parent=None if trajectory.parent is None else str(trajectory.parent["uuid"]),
        )


def _facts(trajectory: stepson.Trajectory, field: stepson.Field) -> dict[str, Any]:
    metadata = trajectory.metadata
    potential = metadata.get("potential") or {}
    return {
        "uuid": trajectory.uuid,
        "digest": trajectory.digest,
        "ensemble": metadata.get("ensemble"),
        "stage": (metadata.get("stage") or {}).get("name"),
        "replica": metadata.get("replica"),
        "potential_file": potential.get("file"),
        "potential_sha256": potential.get("sha256"),
        "atoms": trajectory.n_atoms,
        "degrees_of_freedom": metadata.get("degrees_of_freedom"),
        "target_K": metadata.get("temperature"),
        "gauge": field.attributes.get("gauge"),
        "formulation": field.attributes.get("formulation"),
        "convective": field.attributes.get("convective"),
        "diffusing": _diffusing(trajectory),
    }


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


def _refuse_twice(files: Sequence[_File]) -> None:
    seen: dict[str, str] = {}
    for file in files:
        if file.uuid in seen:
            raise FluxError(
                f"{file.path} and {seen[file.uuid]} are the same trajectory; give it once"
            )
        seen[file.uuid] = file.path


def _microcanonical(files: list[_File]) -> list[_File]:
    kept = [f for f in files if f.facts["ensemble"] in (None, "nve")]
    if not kept:
        kinds = ", ".join(sorted({str(f.facts["ensemble"]) for f in files}))
        raise FluxError(
            f"only {kinds} stages: a thermostat damps the correlations of the flux; give "
            "the "
            "files of an nve stage, or ask for any ensemble"
        )
    return kept


def _refuse_different(files: Sequence[_File]) -> None:
    first = files[0]
    for file in files[1:]:
        for what, mine, theirs in _differences(first, file):
            raise FluxError(
                f"{file.path} has {what} {theirs}, {first.path} has {mine}; "
                "runs that differ in this are not pooled: reduce them one by one"
            )


def _differences(first: _File, other: _File) -> Iterator[tuple[str, Any, Any]]:
    for name, words in (
        ("potential_sha256", "the potential"),
        ("gauge", "the gauge"),
        ("formulation", "the formulation"),
        ("convective", "the convective part"),
        ("target_K", "the target temperature"),
    ):
        if first.facts[name] != other.facts[name]:
            yield words, first.facts[name], other.facts[name]
    if first.timestep != other.timestep:
        yield "the timestep (fs)", first.timestep, other.timestep
    if first.every != other.every:
        yield "the steps between flux samples", first.every, other.every
    if not np.array_equal(first.numbers, other.numbers):
        yield "the atoms", _formula(first.numbers), _formula(other.numbers)
    if not _same_cell(first.cell, other.cell):
        yield "the cell", _words(first.cell), _words(other.cell)


def _formula(numbers: Array) -> str:
    kinds, counts = np.unique(numbers, return_counts=True)
    parts = [f"{n} of number {z}" for z, n in zip(kinds, counts, strict=True)]
    return " and ".join(parts) + ", in this order" if parts else "none"


def _same_cell(first: Array | None, second: Array | None) -> bool:
    if first is None or second is None:
        return first is second
    return np.array_equal(first, second)


def _words(cell: Array | None) -> str:
    return "none" if cell is None else f"{np.round(cell, 6).tolist()} Å"


def _join(files: Sequence[_File]) -> list[list[_File]]:
    """Chain the files that continue one another: parent and steps that follow."""
    groups: list[list[_File]] = []
    for file in sorted(files, key=lambda f: f.steps[0]):
        for group in groups:
            if _continues(group[-1], file):
                group.append(file)
                break
        else:
            groups.append([file])
    order = {file.path: index for index, file in enumerate(files)}
    return sorted(groups, key=lambda g: order[g[0].path])


def _continues(first: _File, second: _File) -> bool:
    if second.parent != first.uuid:
        return False
    if second.steps[0] <= first.steps[1]:
        raise FluxError(
            f"{second.path} starts at step {second.steps[0]}, {first.path}, which it "
            "continues, "
            f"ends at step {first.steps[1]}: the steps overlap"
        )
    return True


def _run(group: Sequence[_File], temperature: float | None, volume: float | None) -> Run:
    first = group[0]

    def chunks() -> Iterator[Chunk]:
        for file in group:
            yield from _chunks(file)

    facts = dict(first.facts)
    facts["files"] = [file.path for file in group]
    facts["digests"] = [file.facts["digest"] for file in group]
    facts["diffusing"] = any(file.facts["diffusing"] for file in group)
    own = None if first.cell is None else abs(float(np.linalg.det(first.cell)))
    return Run(
        name=first.path,
        samples=sum(file.samples for file in group),
        every=first.every,
        timestep=first.timestep,
        chunks=chunks,
        volume=own if volume is None else volume,
        temperature=temperature,
        facts=facts,
    )


def _chunks(file: _File) -> Iterator[Chunk]:
    with stepson.open(file.path) as trajectory:
        names = [name for name in _SERIES if name in trajectory.fields]
        for batch in trajectory.stream("heat_flux", *names, frames=FRAMES):
            scalars = {
                name: (
                    np.asarray(batch.steps[name], np.int64),
                    np.asarray(batch[name], float),
                )
                for name in names
            }
            yield Chunk(
                np.asarray(batch.steps["heat_flux"], np.int64),
                np.asarray(batch["heat_flux"], dtype=np.float64),
                _total_energy(scalars),
            )


def _total_energy(scalars: dict[str, Series]) -> dict[str, Series]:
    """Replace potential and kinetic energy by their sum where both are recorded."""
    potential = scalars.pop("energy", None)
    kinetic = scalars.pop("energy_kinetic", None)
    if potential is not None and kinetic is not None:
        steps, mine, theirs = np.intersect1d(
            potential[0], kinetic[0], assume_unique=True, return_indices=True
        )
        scalars["energy"] = (steps, potential[1][mine] + kinetic[1][theirs])
    return scalars
