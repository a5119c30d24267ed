"""Stored frames: what a trajectory must have for its flux to be computed, and reading it.

Positions and velocities are needed at the same steps, in a constant cell that is periodic
in all directions. Frames are read in pieces, ranges of steps that depend on the file alone.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import lcm
from typing import Any

import numpy as np
from numpy.typing import NDArray

import stepson
from gkflux.errors import FluxError
from gkflux.stored_units import Dimension, parse
from gkflux.system import System
from stepson.batch import Batch

__all__ = ["Frames", "Piece", "Source", "open_source"]

Floats = NDArray[np.float64]
Steps = NDArray[np.int64]

WANTED: Mapping[str, Dimension] = {"positions": (0, 1, 0, 0), "velocities": (0, 1, -1, 0)}
OURS = {"positions": "Å", "velocities": "Å/fs"}
PIECE_ATOMS = 98_304
"""Atoms of all frames of a piece, about: a second of work, five megabytes."""
PIECE_FRAMES = (8, 1024)
"""Frames of a piece at least, where a block is decoded for it, and at most."""
SAME_CELL = 1e-9
"""Å per Å by which a stored cell may differ from the first one."""


@dataclass(frozen=True)
class Frames:
    """Some frames: ``steps`` (k,), ``positions`` and ``velocities`` (k, n, 3), float64."""

    steps: Steps
    positions: Floats
    velocities: Floats


@dataclass(frozen=True)
class Piece:
    """The frames from one step up to before another, and how many samples that are."""

    start: int
    stop: int
    frames: int


@dataclass(frozen=True)
class Source:
    """A trajectory whose flux is wanted; it travels to where frames are computed."""

    path: str
    uuid: str
    digest: str
    first: int
    """Step of the first frame."""
    last: int
    """Step of the last one."""
    samples: int
    """Of the positions."""
    every: int | None
    """Steps between frames; None: irregular."""
    offset: int
    timestep: float
    """fs."""
    system: System
    """Species, masses, cell; the positions of the first frame."""
    factors: Mapping[str, float]
    """What turns stored values into Å and Å/fs."""
    metadata: Mapping[str, Any]
    """What the run said, without its arrays."""
    lattice: Floats | None
    """R^0 of the run, Å."""
    parent: Mapping[str, Any] | None
    """uuid, digest and step of the trajectory that it continues."""
    precision: Mapping[str, float]
    """Bounds of the error with which positions and velocities are stored."""

    def pieces(self, after: int | None = None) -> Iterator[Piece]:
        """Return the ranges of steps, in order; only those behind the step `after`."""
        least, most = PIECE_FRAMES
        size = min(most, max(least, PIECE_ATOMS // max(1, self.system.n_atoms)))
        with stepson.open(self.path) as trajectory:
            steps = trajectory["positions"].steps
            for low in range(0, self.samples, size):
                high = min(low + size, self.samples)
                start = int(steps[low])
                stop = int(steps[high]) if high < self.samples else self.last + 1
                if after is None or stop > after + 1:
                    begin = start if after is None else max(start, after + 1)
                    yield Piece(begin, stop, high - low)

    def read(self, piece: Piece) -> Iterator[Frames]:
        """Read the frames of a piece that have positions and velocities.

        Raises:
            FluxError: a frame is not finite, or the cell has changed.
        """
        names = ["positions", "velocities"]
        with stepson.open(self.path) as trajectory:
            names += ["cell"] if "cell" in trajectory.fields else []
            for batch in trajectory.stream(
                *names, frames=PIECE_FRAMES[1], start=piece.start, stop=piece.stop
            ):
                self._check_cell(batch)
                yield self._joined(batch)

    def _joined(self, batch: Batch) -> Frames:
        """Keep the steps at which both are there."""
        steps, r, v = np.intersect1d(
            batch.steps["positions"],
            batch.steps["velocities"],
            assume_unique=True,
            return_indices=True,
        )
        found = [
            self.factors[name] * np.asarray(batch[name][rows], np.float64)
            for name, rows in (("positions", r), ("velocities", v))
        ]
        for name, values in zip(WANTED, found, strict=True):
            bad = np.flatnonzero(~np.isfinite(values).all(axis=(1, 2)))
            if len(bad):
                raise FluxError(
                    f"{self.path}: {name} of step {steps[bad[0]]} are not finite; find out "
                    "what the simulation did there, and give the sound part of it"
                )
        return Frames(np.asarray(steps, np.int64), *found)

    def _check_cell(self, batch: Batch) -> None:
        if "cell" not in batch:
            return
        cells, mine = np.asarray(batch["cell"], np.float64), self.system.cell
        assert mine is not None
        other = np.abs(cells - mine).max(axis=(1, 2), initial=0.0)
        moved = np.flatnonzero(other > SAME_CELL * np.abs(mine).max())
        if len(moved):
            raise _changing(self.path, int(batch.steps["cell"][moved[0]]))


def _changing(path: str, step: int | None = None) -> FluxError:
    where = "" if step is None else f" at step {step}"
    return FluxError(
        f"{path}: the cell changes{where}, and the flux of such a run says nothing of heat "
        "conduction; give a run at constant volume"
    )


def open_source(path: str) -> Source:
    """Look at a trajectory, its schema and its first frame.

    Raises:
        FluxError: it has no positions, velocities, cell or timestep, fewer than two frames,
            or a cell that changes.
    """
    with stepson.open(path) as trajectory:
        _check_fields(trajectory, path)
        metadata = trajectory.metadata
        if metadata.get("ensemble") == "npt":
            raise _changing(path)
        every, offset = _cadence(trajectory)
        positions = trajectory["positions"]
        if len(positions) < 2 or len(trajectory["velocities"]) < 2:
            raise FluxError(f"{path}: fewer than two frames; nothing to correlate")
        factors = {name: _factor(trajectory, name, path) for name in WANTED}
        fields = trajectory.fields
        return Source(
            path=path,
            uuid=trajectory.uuid,
            digest=trajectory.digest,
            first=int(positions.steps[0]),
            last=int(positions.steps[-1]),
            samples=len(positions),
            every=every,
            offset=offset,
            timestep=_timestep(metadata, path),
            system=_system(trajectory, path, factors["positions"]),
            factors=factors,
            metadata=_plain(metadata),
            lattice=_array(metadata.get("lattice")),
            parent=None if trajectory.parent is None else dict(trajectory.parent),
            precision={n: p for n in WANTED if (p := fields[n].precision) is not None},
        )


def _check_fields(trajectory: stepson.Trajectory, path: str) -> None:
    missing = [name for name in WANTED if name not in trajectory.fields]
    if missing:
        raise FluxError(
            f"{path}: no field {' and no field '.join(missing)}, only "
            f"{', '.join(trajectory.fields)}; the heat flux needs both: record them with "
            "`record = { fields = ['positions', 'velocities'] }` in the stage"
        )
    for name in WANTED:
        shape = trajectory.fields[name].shape
        if shape != ("atom", 3):
            raise FluxError(f"{path}: {name} have the shape {shape}, expected ('atom', 3)")


def _factor(trajectory: stepson.Trajectory, name: str, path: str) -> float:
    """What turns a field into our unit; a unit that is not known is refused."""
    unit = trajectory.fields[name].unit
    if unit == OURS[name]:
        return 1.0
    found = parse(unit)
    if found is None or found[1] != WANTED[name]:
        what = f"in {unit!r}" if unit else "without a unit"
        raise FluxError(
            f"{path}: {name} are stored {what}, which is no known unit of them; write them "
            f"in {OURS[name]!r}"
        )
    return found[0]


def _cadence(trajectory: stepson.Trajectory) -> tuple[int | None, int]:
    """Steps at which both fields are due, as a field declares them."""
    r, v = (trajectory.fields[name] for name in WANTED)
    if r.every is None or v.every is None:
        return None, 0
    if (r.every, r.offset) == (v.every, v.offset):
        return r.every, r.offset
    return (lcm(r.every, v.every), 0) if r.offset == v.offset == 0 else (None, 0)


def _timestep(metadata: Mapping[str, Any], path: str) -> float:
    found = metadata.get("timestep")
    if not isinstance(found, int | float) or not found > 0:
        raise FluxError(f"{path}: no timestep in the metadata, the time axis is unknown")
    return float(found)


def _system(trajectory: stepson.Trajectory, path: str, factor: float) -> System:
    metadata = trajectory.metadata
    cell = _array(metadata.get("cell"))
    if cell is None and "cell" in trajectory.fields and len(trajectory["cell"]):
        cell = np.asarray(trajectory["cell"][0], np.float64)
    pbc = np.broadcast_to(np.asarray(metadata.get("pbc", cell is not None), bool), (3,))
    if cell is None or not pbc.all():
        raise FluxError(
            f"{path}: the heat flux needs a system that is periodic in all directions, "
            f"this one has {'no cell' if cell is None else f'pbc = {pbc.tolist()}'}"
        )
    try:
        return System(
            positions=factor * np.asarray(trajectory["positions"][0], np.float64),
            numbers=np.asarray(metadata["numbers"]),
            cell=cell,
            pbc=pbc,
            masses=_array(metadata.get("masses")),
        )
    except FluxError as error:
        raise FluxError(f"{path}: {error}") from None


def _array(value: Any) -> Floats | None:
    return None if value is None else np.array(value, dtype=np.float64)


def _plain(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A copy without arrays: what is left is small, and travels."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            found[key] = _plain(value)
        elif isinstance(value, str | int | float | bool | None):
            found[key] = value
    return found
