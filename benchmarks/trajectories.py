"""Small trajectories for the benchmarks: liquid argon and crystalline silicon, made in
seconds.

Argon is Lennard-Jones at its triple point (epsilon 0.0103 eV, sigma 3.405 Å; Rahman, Phys.
Rev. 136, A405 (1964)); silicon is Stillinger-Weber (Phys. Rev. B 31, 5262 (1985)) at 300 K.
Velocity Verlet in float64 with 4 fs; what is returned is float64, for the caller to round
as a run would.
"""

from collections.abc import Callable
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from stepson.units import BOLTZMANN, KINETIC

Array = NDArray[np.float64]
Force = Callable[[Array, float], Array]
TIMESTEP = 4.0
WARM = 800
_FACE = np.array([(0, 0, 0), (0, 0.5, 0.5), (0.5, 0, 0.5), (0.5, 0.5, 0)])


class Trajectory(NamedTuple):
    """Frames every 4 fs: shapes (frames, atoms, 3), Å, Å/fs, eV/Å; cubic cell, Å."""

    positions: Array
    velocities: Array
    forces: Array
    cell: float


@numba.njit(cache=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _argon_forces(x: Array, cell: float) -> Array:
    epsilon, sigma, cutoff = 0.0103, 3.405, 8.5
    forces = np.zeros_like(x)
    for i in range(len(x)):
        for j in range(i):
            dx, dy, dz = x[i, 0] - x[j, 0], x[i, 1] - x[j, 1], x[i, 2] - x[j, 2]
            dx -= cell * np.rint(dx / cell)
            dy -= cell * np.rint(dy / cell)
            dz -= cell * np.rint(dz / cell)
            r2 = dx * dx + dy * dy + dz * dz
            if r2 < cutoff * cutoff:
                s2 = sigma * sigma / r2
                s6 = s2 * s2 * s2
                pull = 24.0 * epsilon * (2.0 * s6 * s6 - s6) / r2
                for axis, d in enumerate((dx, dy, dz)):
                    forces[i, axis] += pull * d
                    forces[j, axis] -= pull * d
    return forces


@numba.njit(cache=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _silicon_forces(x: Array, cell: float) -> Array:
    epsilon, sigma, reach, strength, gamma = 2.1683, 2.0951, 1.8, 21.0, 1.2
    big_a, big_b = 7.049556277, 0.6022245584
    forces = np.zeros_like(x)
    unit, distance, index = np.empty((64, 3)), np.empty(64), np.empty(64, np.int64)
    scale = epsilon / sigma
    for i in range(len(x)):
        count = 0
        for j in range(len(x)):
            dx, dy, dz = x[j, 0] - x[i, 0], x[j, 1] - x[i, 1], x[j, 2] - x[i, 2]
            dx -= cell * np.rint(dx / cell)
            dy -= cell * np.rint(dy / cell)
            dz -= cell * np.rint(dz / cell)
            r = np.sqrt(dx * dx + dy * dy + dz * dz) / sigma
            if j == i or r >= reach:
                continue
            for axis, d in enumerate((dx, dy, dz)):
                unit[count, axis] = d / (r * sigma)
            distance[count], index[count] = r, j
            count += 1
            if j > i:
                tail = np.exp(1.0 / (r - reach))
                energy = big_a * (big_b * r**-4 - 1.0) * tail
                slope = -4.0 * big_a * big_b * r**-5 * tail - energy / (r - reach) ** 2
                for axis in range(3):
                    forces[i, axis] += scale * slope * unit[count - 1, axis]
                    forces[j, axis] -= scale * slope * unit[count - 1, axis]
        for a in range(count):
            for b in range(a):
                ra, rb = distance[a], distance[b]
                cosine = 0.0
                for axis in range(3):
                    cosine += unit[a, axis] * unit[b, axis]
                tail = np.exp(gamma / (ra - reach) + gamma / (rb - reach))
                bend = cosine + 1.0 / 3.0
                energy = strength * bend**2 * tail
                slope = 2.0 * strength * bend * tail
                pull_a = energy * gamma / (ra - reach) ** 2
                pull_b = energy * gamma / (rb - reach) ** 2
                for axis in range(3):
                    u, v = unit[a, axis], unit[b, axis]
                    on_a = scale * (slope * (v - cosine * u) / ra - pull_a * u)
                    on_b = scale * (slope * (u - cosine * v) / rb - pull_b * v)
                    forces[index[a], axis] -= on_a
                    forces[index[b], axis] -= on_b
                    forces[i, axis] += on_a + on_b
    return forces


def _lattice(basis: Array, repeats: int, constant: float) -> Array:
    grid = np.stack(np.meshgrid(*[np.arange(repeats)] * 3, indexing="ij"), -1).reshape(
        -1, 1, 3
    )
    return ((grid + basis).reshape(-1, 3) * constant).astype(np.float64)


def _run(
    start: Array, cell: float, mass: float, temperature: float, force: Force, frames: int
) -> Trajectory:
    """Velocity Verlet: `WARM` steps with rescaled velocities, then free, every step
    kept."""
    rng = np.random.default_rng(1)
    sigma = np.sqrt(BOLTZMANN * temperature / (KINETIC * mass))
    positions, velocities = start, rng.normal(0.0, sigma, start.shape)
    velocities -= velocities.mean(axis=0)
    forces = force(positions, cell)
    kept = np.empty((3, frames, *start.shape))
    half = 0.5 * TIMESTEP / (KINETIC * mass)
    for step in range(-WARM, frames):
        if step < 0 and step % 25 == 0:
            velocities *= sigma / velocities.std()
        if step >= 0:
            kept[:, step] = positions, velocities, forces
        velocities = velocities + half * forces
        positions = positions + TIMESTEP * velocities
        forces = force(positions, cell)
        velocities += half * forces
    return Trajectory(*kept, cell)


def argon(repeats: int = 8, frames: int = 256) -> Trajectory:
    """Liquid argon, 86.5 K, 1418 kg/m³; 4 repeats³ atoms."""
    constant = (4 / 0.8442) ** (1 / 3) * 3.405
    start = _lattice(_FACE, repeats, constant)
    return _run(start, repeats * constant, 39.948, 86.5, _argon_forces, frames)


def silicon(repeats: int = 5, frames: int = 256) -> Trajectory:
    """Diamond silicon at 300 K; 8 repeats³ atoms."""
    start = _lattice(np.concatenate([_FACE, _FACE + 0.25]), repeats, 5.431)
    return _run(start, repeats * 5.431, 28.085, 300.0, _silicon_forces, frames)
