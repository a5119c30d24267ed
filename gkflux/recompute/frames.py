"""What is computed of every frame: energy, temperature, heat flux.

One thread computes one piece, with the engine for dynamics in it: frames come in the order
of time, so neighbour lists with a skin are used again and again. What comes out of a frame
depends on nothing but the frame, be it computed in whichever company, process or order:
libraries get one thread each, because sums over several may round differently.
"""

import importlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gkflux.errors import FluxError
from gkflux.flux import convective_flux, hardy_flux, unfolded_flux
from gkflux.flux.gauge import fit_lattice, hop, hop_limits
from gkflux.potentials.base import Batch, Potential
from gkflux.recompute.model import Model
from gkflux.recompute.source import Floats, Frames, Piece, Source
from gkflux.system import System
from stepson.errors import StepsonError

__all__ = ["REFERENCES", "Asked", "Computed", "Work", "single_threaded", "species_masses"]

REFERENCES = {"hardy": hardy_flux, "unfolded": unfolded_flux}
_LOCAL = threading.local()
_ONE_KERNEL = threading.Lock()
_ONE_GPU = threading.Lock()


@dataclass(frozen=True)
class Asked:
    """Which flux."""

    formulation: str = "semilocal"
    gauge: str = "none"
    convective: bool = True
    lattice: Floats | None = field(default=None, compare=False)
    """R^0, shape (n, 3), Å, next to the atoms, in the gauge ``lattice``."""


@dataclass(frozen=True)
class Computed:
    """The samples of a piece."""

    piece: Piece
    steps: NDArray[np.int64]
    values: dict[str, Floats]
    """By field, shape (k, ...)."""
    ends: dict[int, Floats]
    """Positions, by step, of the first and the last frame of the trajectory, if here."""
    hop: dict[str, int] | None
    """Step and atom of the first one that has left its site on the lattice."""


@dataclass(frozen=True)
class Work:
    """Computes pieces of a trajectory; it travels to other processes."""

    source: Source
    model: Model
    sha256: str
    asked: Asked
    freedom: int

    def __call__(self, piece: Piece) -> Computed:
        """Compute a piece.

        Raises:
            FluxError: whatever is wrong, in one line: other errors do not travel.
        """
        try:
            return self._computed(piece)
        except FluxError:
            raise
        except StepsonError as error:
            raise FluxError(str(error)) from error

    def _computed(self, piece: Piece) -> Computed:
        potential = self.model.load()
        found = str(potential.provenance.get("sha256", ""))
        if found != self.sha256:
            raise FluxError(
                f"{self.model.name} is another model here (sha256 {found[:12]}) than where "
                f"the command was given ({self.sha256[:12]}); give every worker the same"
            )
        parts = [
            self._part(potential, frames)
            for frames in self.source.read(piece)
            if len(frames.steps)
        ]
        names = parts[0].values if parts else ()
        return Computed(
            piece,
            np.concatenate([np.zeros(0, np.int64), *(part.steps for part in parts)]),
            {name: np.concatenate([part.values[name] for part in parts]) for name in names},
            {step: r for part in parts for step, r in part.ends.items()},
            next((part.hop for part in parts if part.hop is not None), None),
        )

    def _part(self, potential: Potential, frames: Frames) -> Computed:
        from gkflux.dynamics.state import kinetic_energy, temperature

        asked, masses = self.asked, self.source.system.masses
        hops = (
            _Sites(self.source.system, asked.lattice) if asked.lattice is not None else None
        )
        energies, fluxes = [], []
        with _device_turn(self.model), single_threaded():
            evaluate = _Evaluation(potential, self.source, asked)
            for step, r, v in zip(
                frames.steps.tolist(), frames.positions, frames.velocities, strict=True
            ):
                energy, flux = evaluate(r if hops is None else hops.look(step, r), v)
                energies.append(energy)
                fluxes.append(flux)
        kinetic = kinetic_energy(np.ascontiguousarray(frames.velocities), masses)
        values = {
            "energy": np.array(energies),
            "energy_kinetic": kinetic,
            "temperature": temperature(kinetic, self.freedom),
            "heat_flux": np.array(fluxes),
        }
        species = species_masses(self.source.system)
        if len(species) > 1:
            # not a matrix product, whose bits depend on how many threads share it
            values["mass_currents"] = np.einsum("sn,kna->ksa", species, frames.velocities)
        ends = {
            step: frames.positions[k]
            for k, step in enumerate(frames.steps.tolist())
            if step in (self.source.first, self.source.last)
        }
        piece = Piece(int(frames.steps[0]), int(frames.steps[-1]) + 1, len(frames.steps))
        return Computed(
            piece, frames.steps, values, ends, None if hops is None else hops.first
        )


def species_masses(system: System) -> Floats:
    """Masses of the atoms of each species, zero for all others, amu, shape (M, n)."""
    kinds = np.unique(system.numbers)
    return np.where(system.numbers == kinds[:, None], system.masses, 0.0)


class _Evaluation:
    """Energy and flux of one frame after another."""

    def __init__(self, potential: Potential, source: Source, asked: Asked) -> None:
        self._potential, self._system, self._asked = potential, source.system, asked
        self._batch = _batch(potential, source)

    def __call__(self, r: Floats, v: Floats) -> tuple[float, Floats]:
        asked = self._asked
        found = self._batch.forces(r[None])
        if asked.formulation in REFERENCES:
            return float(found.energy[0]), self._reference(r, v, found.energies[0])
        flux = self._batch.heat_flux(
            v[None],
            formulation=asked.formulation,
            lattice=asked.lattice,
            convective=asked.convective,
        )
        chosen = flux.plain if flux.lattice is None else flux.lattice
        return float(found.energy[0]), chosen[0]

    def _reference(self, r: Floats, v: Floats, energies: Floats) -> Floats:
        asked, system = self._asked, self._system.moved(r)
        form = REFERENCES[asked.formulation]
        flux = form(self._potential, system, v, lattice=asked.lattice)
        if asked.lattice is None and asked.convective:
            flux = flux + convective_flux(self._potential, system, v, energies)
        return flux


def _batch(potential: Potential, source: Source) -> Batch:
    """The engine of this thread for this trajectory; its lists are used again."""
    kept: Any = getattr(_LOCAL, "engine", None)
    if kept is None or kept[0] is not potential or kept[1] != source.uuid:
        _LOCAL.engine = kept = (potential, source.uuid, potential.batch([source.system]))
    batch: Batch = kept[2]
    return batch


class _Sites:
    """Watches for atoms that leave their sites on the reference lattice."""

    def __init__(self, system: System, lattice: Floats) -> None:
        self._system, self._lattice = system, lattice
        self._limits = hop_limits(system, lattice)
        self.first: dict[str, int] | None = None

    def look(self, step: int, r: Floats) -> Floats:
        """Return the positions, each next to its site if they were stored wrapped."""
        if self.first is not None or hop(r, self._lattice, self._limits) is None:
            return r
        near = self._unwrapped(r)
        atom = hop(near, self._lattice, self._limits)
        if atom is not None:
            self.first = {"step": step, "atom": int(atom)}
        return near

    def _unwrapped(self, r: Floats) -> Floats:
        """Undo what a program that wraps its positions does."""
        moved = self._system.moved(r)
        try:
            sites = fit_lattice(moved, self._lattice)
        except FluxError:  # atoms have left their sites indeed
            return r
        return np.asarray(r - (sites - self._lattice))


@contextmanager
def single_threaded() -> Iterator[None]:
    """Give numba and torch one thread, as far as this thread is concerned."""
    import torch

    if torch.get_num_threads() != 1:
        torch.set_num_threads(1)
    try:
        import numba
    except ModuleNotFoundError:
        yield
        return
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        with nullcontext() if _side_by_side() else _ONE_KERNEL:
            yield
    finally:
        numba.set_num_threads(before)


def _side_by_side() -> bool:
    """Whether numba's kernels may be called from several threads at the same time."""
    numba: Any = importlib.import_module("numba")  # untyped
    numba.get_num_threads()  # starts the layer, so that it is known
    return numba.threading_layer() in ("omp", "tbb")


def _device_turn(model: Model) -> Any:
    """On a GPU one piece at a time: its threads would only wait for each other."""
    return nullcontext() if model.device == "cpu" else _ONE_GPU
