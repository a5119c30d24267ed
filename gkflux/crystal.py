"""Which crystal a trajectory is of: the structure whose point group is looked for.

The reference lattice of the flux where a file has one, else the mean of its positions over
time, whose own scatter says how far they may be off. A system whose atoms diffuse has no
structure.
"""

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any

import numpy as np

import stepson
from gkflux.correlate import Float
from gkflux.runs import Run
from gkflux.symmetry import Finding, search
from gkflux.system import System
from stepson.errors import FormatError

__all__ = ["given", "of_runs"]

FRAMES = 32
"""Frames of which the mean is taken: two of neighbouring vibrations say nothing new."""
EXACT = 0.01
"""Tolerance, Å, of positions that are meant to be exact: files have few digits."""
TOLERANCES = (0.02, 0.3)
"""Tolerance, Å, of a mean, at least and at most: beyond it, phases are not told apart."""
ONE_FRAME = 0.1
"""Tolerance, Å, of a single frame."""
ERRORS = 6.0
"""Standard errors of a coordinate by which the worst pair of atoms may be off."""


def given(system: System) -> Finding:
    """Search a structure that was given."""
    if system.cell is None or not np.all(system.pbc):
        return Finding(None, "not looked for: the structure is not periodic")
    return search(
        system.cell,
        system.positions,
        system.numbers,
        tolerance=EXACT,
        source="the structure given",
    )


def of_runs(runs: Sequence[Run]) -> Finding:
    """Search the structure of some runs of the same system: that of the first.

    Returns:
        what was found; no symmetry where the first has no file, no cell, no positions, or
        where its atoms diffuse.
    """
    files = runs[0].facts.get("files")
    if not files:
        return Finding(None, "not looked for: no structure was given")
    if any(run.facts.get("diffusing") for run in runs):
        return Finding(None, "not looked for: species diffuse")
    with stepson.open(files[0]) as trajectory:
        try:
            return _of_trajectory(trajectory)
        except FormatError as error:  # kappa itself is not withheld for this
            return Finding(None, f"not looked for: {error}")


def _of_trajectory(trajectory: stepson.Trajectory) -> Finding:
    metadata: Mapping[str, Any] = trajectory.metadata
    cell, numbers = metadata.get("cell"), metadata.get("numbers")
    periodic = np.all(np.asarray(metadata.get("pbc", False)))
    if cell is None or numbers is None or not periodic:
        return Finding(None, "not looked for: the file has no periodic cell")
    cell = np.array(cell, dtype=np.float64)
    if cell.shape != (3, 3) or not abs(np.linalg.det(cell)) > 0:
        return Finding(None, "not looked for: the cell has no volume")
    lattice = metadata.get("lattice")
    if lattice is not None:
        sites = np.array(lattice, dtype=np.float64)
        return search(cell, sites, numbers, tolerance=EXACT, source="the reference lattice")
    if "positions" not in trajectory.fields or not len(trajectory["positions"]):
        return Finding(None, "not looked for: the file has no positions")
    if trajectory.fields["positions"].unit != "Å":
        return Finding(None, "not looked for: positions are not in Å")
    mean, tolerance, frames = _mean(trajectory["positions"])
    if not np.isfinite(mean).all():
        return Finding(None, "not looked for: positions that are not finite")
    source = f"mean positions of {frames} frames" if frames > 1 else "positions of a frame"
    return search(cell, mean, numbers, tolerance=tolerance, source=source)


def _mean(column: Any) -> tuple[Float, float, int]:
    """Mean positions, by how much they may be off, and the number of frames."""
    count = min(FRAMES, len(column))
    chosen = np.linspace(0, len(column) - 1, count).astype(int)
    if count < 4:
        return np.asarray(column[int(chosen[0])], np.float64), ONE_FRAME, 1
    halves = []
    for part in np.array_split(chosen, 2):
        frames = (np.asarray(column[int(i)], np.float64) for i in part)
        halves.append(sum(frame - frame.mean(axis=0) for frame in frames) / len(part))
    first, second = halves
    error = sqrt(float(np.mean((first - second) ** 2))) / 2
    low, high = TOLERANCES
    return (first + second) / 2, min(high, max(low, ERRORS * error)), count
