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

import stepson
from gkflux.correlate import Float
from gkflux.errors import FluxError
from gkflux.runs import Chunk, Run

__all__ = ["find_files", "trajectory_runs"]

FRAMES = 1 << 16
"""Frames of a batch: a few megabytes of small columns."""
_SERIES = ("temperature", "energy", "energy_kinetic", "volume")


@dataclass(frozen=True)
class _File:
    """One trajectory, opened for its metadata."""

    path: str
    trajectory: Any
    uuid: str
    steps: tuple[int, int]
    every: int
    samples: int
    facts: Mapping[str, Any]
    timestep: float
    volume: float | None


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
    files = [_open(path) for path in find_files(paths)]
    _refuse_twice(files)
    if not any_ensemble:
        files = _microcanonical(files)
    _refuse_different(files)
    groups = _join(files)
    return [_run(group, temperature, volume) for group in groups]


def _open(path: str) -> _File:
    trajectory = stepson.open(path)
    if "heat_flux" not in trajectory.fields:
        raise FluxError(
            f"{path}: no field heat_flux, only {', '.join(trajectory.fields)}; record it "
            "with "
            "`heat_flux = {{ every = 2 }}` in the stage"
        )
    steps = trajectory["heat_flux"].steps
    if len(steps) < 2:
        raise FluxError(f"{path}: {len(steps)} samples of heat_flux; run longer")
    metadata = trajectory.metadata
    field = trajectory.fields["heat_flux"]
    timestep = metadata.get("timestep")
    if not timestep:
        raise FluxError(f"{path}: no timestep in the metadata, the time axis is not known")
    return _File(
        path=path,
        trajectory=trajectory,
        uuid=str(trajectory.uuid),
        steps=(int(steps[0]), int(steps[-1])),
        every=int(field.every or steps[1] - steps[0]),
        samples=len(steps),
        facts=_facts(trajectory, field),
        timestep=float(timestep),
        volume=_volume(metadata),
    )


def _facts(trajectory: Any, field: Any) -> dict[str, Any]:
    metadata = trajectory.metadata
    potential = metadata.get("potential") or {}
    stage = metadata.get("stage") or {}
    return {
        "uuid": str(trajectory.uuid),
        "ensemble": metadata.get("ensemble"),
        "stage": stage.get("name") if isinstance(stage, Mapping) else stage,
        "replica": metadata.get("replica"),
        "potential_file": potential.get("file") if isinstance(potential, Mapping) else None,
        "potential_sha256": potential.get("sha256")
        if isinstance(potential, Mapping)
        else None,
        "atoms": len(metadata["numbers"]) if "numbers" in metadata else None,
        "degrees_of_freedom": metadata.get("degrees_of_freedom"),
        "target_K": metadata.get("temperature"),
        "gauge": field.attributes.get("gauge"),
        "formulation": field.attributes.get("formulation"),
        "convective": field.attributes.get("convective"),
    }


def _volume(metadata: Mapping[str, Any]) -> float | None:
    cell = metadata.get("cell")
    if cell is None:
        return None
    volume = abs(float(np.linalg.det(np.asarray(cell, dtype=np.float64))))
    return volume or None


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
    mine, theirs = first.trajectory.metadata, other.trajectory.metadata
    for name in ("numbers", "cell"):
        a, b = mine.get(name), theirs.get(name)
        same = (a is None) == (b is None) and (
            a is None or np.array_equal(np.asarray(a), np.asarray(b))
        )
        if not same:
            yield f"other {name}", "those", "other ones"


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
    parent = getattr(second.trajectory, "parent", None)
    parent = parent or second.trajectory.metadata.get("parent")
    if isinstance(parent, Mapping):
        parent = parent.get("uuid")
    if parent is None or str(parent) != first.uuid:
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
    return Run(
        name=first.path,
        samples=sum(file.samples for file in group),
        every=first.every,
        timestep=first.timestep,
        chunks=chunks,
        volume=first.volume if volume is None else volume,
        temperature=temperature,
        facts=facts,
    )


def _chunks(file: _File) -> Iterator[Chunk]:
    names = [name for name in _SERIES if name in file.trajectory.fields]
    for batch in file.trajectory.stream("heat_flux", *names, frames=FRAMES):
        scalars = {
            name: (np.asarray(batch.steps[name], np.int64), np.asarray(batch[name], float))
            for name in names
        }
        yield Chunk(
            np.asarray(batch.steps["heat_flux"], np.int64),
            np.asarray(batch["heat_flux"], dtype=np.float64),
            _total_energy(scalars),
        )


def _total_energy(
    scalars: "dict[str, tuple[np.ndarray[Any, np.dtype[np.int64]], Float]]",
) -> "dict[str, tuple[np.ndarray[Any, np.dtype[np.int64]], Float]]":
    """Replace potential and kinetic energy by their sum where both are recorded."""
    potential = scalars.pop("energy", None)
    kinetic = scalars.pop("energy_kinetic", None)
    if potential is not None and kinetic is not None:
        steps, mine, theirs = np.intersect1d(
            potential[0], kinetic[0], assume_unique=True, return_indices=True
        )
        scalars["energy"] = (steps, potential[1][mine] + kinetic[1][theirs])
    return scalars
