"""What may be pooled: the same system, sampled the same way, at the same state.

Stages in the microcanonical ensemble are taken, others only when asked for: a thermostat
damps the flux correlations. Files that continue one another are joined, the rest are
pooled. A file given twice, overlapping steps that no restart explains, or runs of different
model, atoms, cell, timestep, gauge or target temperature are refused, with the difference.
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

import stepson
from gkflux.errors import FluxError

__all__ = [
    "FluxFile",
    "constant_volume",
    "join",
    "microcanonical",
    "refuse_different",
    "refuse_twice",
]

Array = NDArray[Any]


@dataclass(frozen=True)
class FluxFile:
    """What is needed of one trajectory; the file itself is opened again to be read."""

    path: str
    steps: tuple[int, int]
    every: int
    samples: int
    timestep: float
    facts: Mapping[str, Any]
    numbers: Array
    masses: Array | None
    """amu: isotopes scatter phonons."""
    cell: Array | None
    stop: int | None = None
    """The step from which on its frames do not count: a restart took over there."""

    @property
    def uuid(self) -> str:
        """Of the file."""
        return str(self.facts["uuid"])


def refuse_twice(files: Sequence[FluxFile]) -> None:
    """Refuse a file that is given twice, and two fluxes of the same frames.

    Raises:
        FluxError: naming both paths.
    """
    seen: dict[str, FluxFile] = {}
    for file in files:
        # of a flux that was computed from stored frames, the trajectory of these counts
        frames = str(file.facts.get("frames_of") or file.uuid)
        if frames in seen:
            other, same = seen[frames].path, seen[frames].uuid == file.uuid
            what = "the same trajectory; give it once"
            raise FluxError(
                f"{file.path} and {other} are "
                f"{what if same else 'fluxes of the same frames; give one of them'}"
            )
        seen[frames] = file


def microcanonical(files: list[FluxFile]) -> list[FluxFile]:
    """Keep the stages at constant energy.

    Raises:
        FluxError: there is none.
    """
    kept = [f for f in files if f.facts["ensemble"] in (None, "nve")]
    if not kept:
        kinds = ", ".join(sorted({str(f.facts["ensemble"]) for f in files}))
        raise FluxError(
            f"only {kinds} stages: a thermostat damps the correlations of the flux; give "
            "the files of an nve stage, or ask for any ensemble"
        )
    return kept


def constant_volume(files: list[FluxFile]) -> list[FluxFile]:
    """Leave out the stages at constant pressure: their cell and all momenta are rescaled.

    Raises:
        FluxError: there is nothing else.
    """
    kept = [f for f in files if f.facts["ensemble"] != "npt"]
    if not kept:
        raise FluxError(
            f"{files[0].path} is of an npt stage: its cell changes, and its flux says "
            "nothing about a conductivity; give the files of an nve stage after it"
        )
    return kept


def refuse_different(files: Sequence[FluxFile]) -> None:
    """Refuse runs of another system, model, state or way of sampling.

    Raises:
        FluxError: naming the first difference.
    """
    first = files[0]
    for file in files[1:]:
        for what, mine, theirs in _differences(first, file):
            raise FluxError(
                f"{file.path} has {what} {theirs}, {first.path} has {mine}; "
                "runs that differ in this are not pooled: reduce them one by one"
            )


def _differences(first: FluxFile, other: FluxFile) -> Iterator[tuple[str, Any, Any]]:
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
    elif first.masses is None or other.masses is None:
        if first.masses is not other.masses:
            yield "masses", _known(first.masses), _known(other.masses)
    else:
        for i in np.flatnonzero(first.masses != other.masses):
            yield f"the mass (amu) of atom {i}", first.masses[i], other.masses[i]
    if not _same_cell(first.cell, other.cell):
        yield "the cell", _words(first.cell), _words(other.cell)


def _formula(numbers: Array) -> str:
    kinds, counts = np.unique(numbers, return_counts=True)
    parts = [f"{n} of number {z}" for z, n in zip(kinds, counts, strict=True)]
    return " and ".join(parts) + ", in this order" if parts else "none"


def _known(masses: Array | None) -> str:
    return "none" if masses is None else "some"


def _same_cell(first: Array | None, second: Array | None) -> bool:
    if first is None or second is None:
        return first is second
    return np.array_equal(first, second)


def _words(cell: Array | None) -> str:
    return "none" if cell is None else f"{np.round(cell, 6).tolist()} Å"


def join(files: Sequence[FluxFile]) -> list[list[FluxFile]]:
    """Chain the files that continue one another, as `stepson.open_many` finds them.

    A file whose parent is not what it went on from begins a group: nothing says that its
    flux follows the one before. A gap stays within a group, and is seen by the steps. Of a
    file from an earlier state of which another one was started, the steps behind that state
    do not count: `FluxFile.stop`.

    Raises:
        FluxError: steps overlap, and no restart explains it.
    """
    by_uuid = {file.uuid: file for file in files}
    groups: list[list[FluxFile]] = []
    for run in stepson.open_many([file.path for file in files], warn=False).runs:
        strange = {run.members[number].uuid for number in run.strangers}
        for member in run.members:
            parent = by_uuid.get(member.parent or "")
            if parent is not None:
                told = None if member.uuid in strange else member.parent_step
                _refuse_overlap(parent, by_uuid[member.uuid], told)
        chain = [by_uuid[member.uuid] for member in run.members]
        chain = [_cut(*each) for each in zip(chain, run.limits, strict=True)]
        for start, stop in pairwise([0, *run.strangers, len(chain)]):
            counting = [file for file in chain[start:stop] if file.samples]
            groups += [counting] if counting else []
    return groups


def _refuse_overlap(first: FluxFile, second: FluxFile, told: int | None) -> None:
    """Refuse a file that starts before its parent ends, unless it says from which state."""
    start = second.steps[0]
    if first.steps[0] < start <= first.steps[1] and (told is None or start <= told):
        raise FluxError(
            f"{second.path} starts at step {start}, {first.path}, which it "
            f"continues, ends at step {first.steps[1]}: the steps overlap, and no restart "
            "from an earlier state explains it; give only one of the two"
        )


def _cut(file: FluxFile, limit: int | None) -> FluxFile:
    """The file without what does not count."""
    if limit is None or limit > file.steps[1]:
        return file
    with stepson.open(file.path) as trajectory:
        steps = trajectory["heat_flux"].steps
        count = bisect_left(steps, limit)
        last = steps[count - 1] if count else limit - 1
    hop = file.facts.get("hop")
    facts = {**file.facts, "hop": None} if hop and hop["step"] >= limit else file.facts
    return replace(
        file, steps=(file.steps[0], last), samples=count, stop=limit, facts=facts
    )
