"""The teacher: Lennard-Jones argon with a shifted force, fast enough to sample with.

A pair energy u(r) = lj(r) - lj(r_c) - (r - r_c) lj'(r_c) ends with value and slope
zero, so that the network learns a function without kinks. The same formula, in torch
and for any structure, is `gkflux.potentials.lennard_jones`; a test holds the two
against each other.

The dynamics is Langevin in the order BAOAB (Leimkuhler and Matthews, AMRX 2013, 34),
only for drawing
configurations: nothing of the project's own engine, which this model is going to test,
    is used.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from stepson.units import BOLTZMANN, KINETIC

__all__ = [
    "ARGON",
    "CUTOFF",
    "EPSILON",
    "MASS",
    "SIGMA",
    "energy_forces",
    "fcc",
    "lattice_constant",
    "sample",
]

Array = NDArray[np.float64]

EPSILON = 119.8 * BOLTZMANN
"""eV; eps/kB = 119.8 K, A. Rahman, Phys. Rev. 136, A405 (1964)."""
SIGMA = 3.405
"""Å, same source."""
CUTOFF = 2.5 * SIGMA
"""Å, 8.5125: the cutoff of the reference conductivities of the Lennard-Jones liquid."""
ARGON = 18
"""The atomic number."""
MASS = 39.948
"""amu, the standard atomic weight of argon."""


def lattice_constant(density: float) -> float:
    """Edge of the cubic cell (Å) with four argon atoms at a density in g/cm³."""
    return float((4 * MASS * 1.66053906660 / density) ** (1 / 3))


def fcc(lattice: float, repeat: int = 3) -> tuple[Array, float]:
    """Positions ``(4 repeat³, 3)`` of an fcc crystal and the edge of its box, Å."""
    basis = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    cells = np.stack(np.meshgrid(*[np.arange(repeat)] * 3, indexing="ij"), -1).reshape(
        -1, 1, 3
    )
    return ((cells + basis) * lattice).reshape(-1, 3), repeat * lattice


@njit(cache=True)
def energy_forces(positions: Array, box: float) -> tuple[float, Array]:
    """Energy (eV) and forces ``(n, 3)`` (eV/Å) in a cubic box longer than the cutoff (Å).

    Images next to the nearest are visited too, because the box may be shorter than two
    cutoffs.
    """
    edge = (SIGMA / CUTOFF) ** 6
    shift = 4 * EPSILON * (edge * edge - edge)
    slope = -24 * EPSILON * (2 * edge * edge - edge) / CUTOFF
    forces = np.zeros_like(positions)
    energy = 0.0
    d = np.empty(3)
    e = np.empty(3)
    for i in range(len(positions)):
        for j in range(i):
            for a in range(3):
                d[a] = positions[j, a] - positions[i, a]
                d[a] -= box * np.rint(d[a] / box)
            for image in range(27):
                e[0] = d[0] + (image // 9 - 1) * box
                e[1] = d[1] + (image // 3 % 3 - 1) * box
                e[2] = d[2] + (image % 3 - 1) * box
                square = e[0] * e[0] + e[1] * e[1] + e[2] * e[2]
                if square >= CUTOFF * CUTOFF:
                    continue
                r = np.sqrt(square)
                six = (SIGMA * SIGMA / square) ** 3
                energy += 4 * EPSILON * (six * six - six) - shift - (r - CUTOFF) * slope
                pull = (-24 * EPSILON * (2 * six * six - six) / r - slope) / r
                for a in range(3):
                    forces[i, a] += pull * e[a]
                    forces[j, a] -= pull * e[a]
    return energy, forces


@njit(cache=True)
def sample(
    positions: Array,
    box: float,
    temperatures: Array,
    timestep: float,
    friction: float,
    every: int,
    rng: np.random.Generator,
) -> tuple[Array, Array, Array]:
    """Langevin dynamics along a schedule of temperatures, one per step.

    Args:
        positions: where to start, ``(n, 3)``, Å.
        box: edge of the cubic box, Å.
        temperatures: target of every step, ``(steps,)``, K; velocities start at the first.
        timestep: fs.
        friction: 1/fs.
        every: steps between two samples; the first is taken after ``every`` steps.
        rng: the source of the noise.

    Returns: positions ``(k, n, 3)`` (Å, unwrapped), energies ``(k,)`` (eV), forces
        ``(k, n, 3)`` (eV/Å).
    """
    n = len(positions)
    count = len(temperatures) // every
    samples, energies = np.empty((count, n, 3)), np.empty(count)
    labels = np.empty((count, n, 3))
    x = positions.copy()
    v = np.sqrt(BOLTZMANN * temperatures[0] / (KINETIC * MASS)) * rng.normal(0, 1, (n, 3))
    keep = np.exp(-friction * timestep)
    energy, forces = energy_forces(x, box)
    for step in range(count * every):
        width = np.sqrt(
            BOLTZMANN * temperatures[step] / (KINETIC * MASS) * (1 - keep * keep)
        )
        v += 0.5 * timestep / (KINETIC * MASS) * forces
        x += 0.5 * timestep * v
        v = keep * v + width * rng.normal(0, 1, (n, 3))
        x += 0.5 * timestep * v
        energy, forces = energy_forces(x, box)
        v += 0.5 * timestep / (KINETIC * MASS) * forces
        if (step + 1) % every == 0:
            k = step // every
            samples[k], energies[k], labels[k] = x, energy, forces
    return samples, energies, labels
