"""The state of a batch of replicas, its kinetic energy, drawn velocities, momentum.

========== ====================== ============================================
symbol     variable               shape, unit
========== ====================== ============================================
r          ``positions``          ``(replicas, n, 3)``, Å, never wrapped
v          ``velocities``         ``(replicas, n, 3)``, Å/fs
m          ``masses``             ``(n,)``, amu
E_kin      ``kinetic_energy``     ``(replicas,)``, eV
g          ``freedom``            number of degrees of freedom
Q          ``heat``               ``(replicas,)``, eV taken from a thermostat so far
h          ``cells``              ``(replicas, 3, 3)``, rows, Å; None for a cluster
V          ``volumes``            ``(replicas,)``, Å³
========== ====================== ============================================

Everything is float64. Sums run over atoms in their order, one replica after another, so
they do not depend on which replicas share a batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from gkflux.dynamics import noise
from stepson.units import BOLTZMANN, KINETIC

__all__ = [
    "Floats",
    "State",
    "degrees_of_freedom",
    "draw_velocities",
    "kinetic_energy",
    "remove_momentum",
    "square_sum",
    "square_sums",
    "temperature",
    "volumes",
]

Floats = NDArray[np.float64]


@dataclass
class State:
    """Where a batch is: changed in place by the integrators.

    Attributes:
        step: number of the last completed step of this stage.
        positions: shape ``(replicas, n, 3)``, Å, unwrapped.
        velocities: shape ``(replicas, n, 3)``, Å/fs, at the same time as the positions.
        heat: shape ``(replicas,)``, eV received from thermostat and barostat since step 0.
        cells: shape ``(replicas, 3, 3)``, Å, lattice vectors as rows; None: those of the
            system, or none.
    """

    step: int
    positions: Floats
    velocities: Floats
    heat: Floats
    cells: Floats | None = None

    @classmethod
    def at_rest(
        cls,
        positions: Floats,
        velocities: Floats,
        step: int = 0,
        cells: Floats | None = None,
    ) -> "State":
        """Copy positions and velocities, each ``(replicas, n, 3)``; no heat so far."""
        r, v = np.array(positions, dtype=np.float64), np.array(velocities, dtype=np.float64)
        h = None if cells is None else np.array(cells, dtype=np.float64)
        return cls(step, r, v, np.zeros(len(r)), h)

    @property
    def replicas(self) -> int:
        """How many replicas the batch has."""
        return len(self.positions)


@numba.njit(cache=True, nogil=True)
def square_sum(vectors, weights):  # type: ignore[no-untyped-def]
    """Return sum_i w_i v_i² of ``(n, 3)`` vectors, atom after atom."""
    total = 0.0
    for i in range(vectors.shape[0]):
        x, y, z = vectors[i, 0], vectors[i, 1], vectors[i, 2]
        total += weights[i] * (x * x + y * y + z * z)
    return total


@numba.njit(cache=True, nogil=True)
def square_sums(vectors, weights, out):  # type: ignore[no-untyped-def]
    """Fill ``out``, ``(replicas,)``, with the `square_sum` of every replica."""
    for k in range(vectors.shape[0]):
        out[k] = square_sum(vectors[k], weights)


def kinetic_energy(velocities: Floats, masses: Floats) -> Floats:
    """Return shape ``(replicas,)``: sum of m v²/2, eV."""
    out = np.empty(len(velocities))
    square_sums(velocities, masses, out)
    out *= 0.5 * KINETIC
    return out


def volumes(cells: Floats) -> Floats:
    """Return shape ``(replicas,)``: Å³, from lattice vectors ``(replicas, 3, 3)``."""
    a, b, c = cells[:, 0], cells[:, 1], cells[:, 2]
    x = b[:, 1] * c[:, 2] - b[:, 2] * c[:, 1]
    y = b[:, 2] * c[:, 0] - b[:, 0] * c[:, 2]
    z = b[:, 0] * c[:, 1] - b[:, 1] * c[:, 0]
    return np.asarray(np.abs((a[:, 0] * x + a[:, 1] * y) + a[:, 2] * z))


def degrees_of_freedom(n_atoms: int, *, momentum_conserved: bool) -> int:
    """Return g: 3 n, less 3 where the total momentum is conserved (and n > 1)."""
    return 3 * n_atoms - (3 if momentum_conserved and n_atoms > 1 else 0)


def temperature(kinetic: Floats, freedom: int) -> Floats:
    """Return 2 E_kin / (g kB), K."""
    return kinetic * (2.0 / (freedom * BOLTZMANN))


def remove_momentum(velocities: Floats, masses: Floats) -> None:
    """Subtract each replica's centre-of-mass velocity, in place."""
    total = masses.sum()
    for v in velocities:
        v -= (masses[:, None] * v).sum(axis=0) / total


def draw_velocities(
    masses: Floats, kelvin: float, *, seed: int, stage: int, replicas: Sequence[int]
) -> Floats:
    """Draw from Maxwell and Boltzmann's distribution; the total momentum is zero.

    Returns:
        shape ``(replicas, n, 3)``, Å/fs.
    """
    width = np.sqrt(BOLTZMANN * kelvin / (KINETIC * masses))[:, None]
    keys = noise.keys(seed, stage, "velocities", replicas)
    drawn = np.stack([width * noise.normals(stream, 0, len(masses)) for stream in keys])
    remove_momentum(drawn, masses)
    return drawn
