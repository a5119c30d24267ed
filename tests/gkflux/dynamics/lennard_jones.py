"""Lennard-Jones in reduced units, all pairs: written apart from the potentials under test.

Units: epsilon = 1 eV, sigma = 1 Å, so a temperature of 1 is 1 eV / kB, a pressure of 1 is
1 eV/Å³. Forces are cut at r_c, energies and virial with them.
"""

from collections.abc import Sequence
from typing import Any

import numba
import numpy as np

from gkflux.dynamics.state import Floats
from gkflux.potentials.base import Evaluation, FluxResult, Statistics
from gkflux.system import System

__all__ = ["ReducedLennardJones", "fcc", "lattice_pressure", "tail_pressure"]


@numba.njit(cache=True)
def _pairs(positions, side, cutoff, energies, forces, virial):  # type: ignore[no-untyped-def]
    n = positions.shape[0]
    for i in range(n):
        for j in range(i):
            square = 0.0
            d = np.empty(3)
            for a in range(3):
                x = positions[i, a] - positions[j, a]
                d[a] = x - side * np.rint(x / side)
                square += d[a] * d[a]
            if square >= cutoff * cutoff:
                continue
            six = 1.0 / square**3
            pair = 4.0 * (six * six - six)
            push = (48.0 * six * six - 24.0 * six) / square
            energies[i] += 0.5 * pair
            energies[j] += 0.5 * pair
            for a in range(3):
                forces[i, a] += push * d[a]
                forces[j, a] -= push * d[a]
                for b in range(3):
                    virial[a, b] -= push * d[a] * d[b]


class ReducedBatch:
    """Cubes of at least twice the cutoff."""

    def __init__(self, cutoff: float, systems: Sequence[System]) -> None:
        self.statistics = Statistics()
        self._cutoff = cutoff
        self._cells = np.stack([np.array(system.cell) for system in systems])

    def forces(self, positions: Floats, cells: Floats | None = None) -> Evaluation:
        sides = (self._cells if cells is None else cells)[:, 0, 0]
        energies, forces = np.zeros(positions.shape[:2]), np.zeros_like(positions)
        virial = np.zeros((len(positions), 3, 3))
        assert (sides >= 2 * self._cutoff).all()
        for k, r in enumerate(positions):
            _pairs(r, sides[k], self._cutoff, energies[k], forces[k], virial[k])
        return Evaluation(energies.sum(axis=1), energies, forces, virial)

    def heat_flux(self, velocities: Floats, **options: Any) -> FluxResult:
        raise AssertionError("no test under pressure asks for a heat flux")


class ReducedLennardJones:
    """A `Potential` as far as the dynamics needs one."""

    layers = 1
    elements = None
    provenance: dict[str, Any] = {"file": "lj", "sha256": "0", "kind": "lj"}  # noqa: RUF012

    def __init__(self, cutoff: float) -> None:
        self.cutoff = cutoff

    def batch(
        self, systems: Sequence[System], *, skin: float | None = None
    ) -> ReducedBatch:
        return ReducedBatch(self.cutoff, systems)


def fcc(cells: int, density: float) -> System:
    """4 cells³ atoms of mass 40 amu in a cube."""
    a = (4 / density) ** (1 / 3)
    corners = np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]]) * a / 2
    return System(
        positions=corners + a / 4,
        numbers=[18] * 4,
        masses=[40.0] * 4,
        cell=np.eye(3) * a,
        pbc=True,
    ).repeat(cells)


def tail_pressure(density: float, cutoff: float) -> float:
    """What pairs beyond the cutoff add to the pressure of a fluid, g = 1."""
    inverse = cutoff**-3
    return 16 / 3 * np.pi * density**2 * (2 / 3 * inverse**3 - inverse)


def lattice_pressure(density: float, cutoff: float, images: int = 24) -> float:
    """What pairs beyond the cutoff add to the pressure of an fcc crystal at rest."""
    a = (4 / density) ** (1 / 3)
    k = np.arange(-images, images + 1)
    points = np.stack(np.meshgrid(k, k, k, indexing="ij"), -1).reshape(-1, 3)
    points = points[points.sum(axis=1) % 2 == 0] * a / 2
    square = (points**2).sum(axis=1)
    far, edge = square[square >= cutoff**2], images * a / 2
    six = far[far < edge**2] ** -3.0
    inside = density * (48 * six**2 - 24 * six).sum() / 6
    return float(inside + tail_pressure(density, edge))
