"""Velocity Verlet: second order, time-reversible, symplectic.

::

    v += dt/2 F(r)/m      first half: kick, drift
    r += dt v
    v += dt/2 F(r)/m      second half: kick, with the forces at the new positions

Between the halves the caller computes forces. After the second half r and v belong to the
same time: that is when a heat flux is taken (at half-step velocities it would be wrong to
first order in the timestep). Swope, Andersen, Berens, Wilson, J. Chem. Phys. 76, 637
(1982).

What it conserves is not the energy but, to the next order in dt (E. Hairer, C. Lubich,
G. Wanner, Acta Numerica 12, 399 (2003)),

    H + dt²/12 v.V''v - dt²/24 F.F/m

so the energy fluctuates by dt², as fast as the atoms, and slowly too, where fast and slow
modes exchange energy. Averaged over vibrations v.V''v is F.F/m: `slow_part` is what must be
added to the energy for the slow fluctuations to vanish.
"""

from typing import Protocol

import numpy as np

from gkflux.dynamics.state import Floats, State, kinetic_energy
from gkflux.potentials.base import Evaluation
from stepson.units import KINETIC

__all__ = ["Integrator", "VelocityVerlet"]


class Integrator(Protocol):
    """One timestep in two halves, with new forces between them.

    Attributes:
        timestep: fs.
        conserves_momentum: and starts without any.
        changes_cell: of the state, in the first half.
    """

    timestep: float
    conserves_momentum: bool
    changes_cell: bool

    def first(self, state: State, evaluation: Evaluation) -> None:
        """Move velocities and positions, with the forces at the old positions."""

    def second(self, state: State, evaluation: Evaluation) -> None:
        """Complete the velocities with the forces at the new positions; count the step."""

    def slow_part(self, forces: Floats) -> Floats:
        """Return shape ``(replicas,)``, eV: add it to the energy to see a drift sooner."""


class VelocityVerlet:
    """Newton's equations: constant energy, NVE."""

    conserves_momentum = True
    changes_cell = False

    def __init__(self, masses: Floats, *, timestep: float) -> None:
        """Prepare.

        Args:
            masses: shape ``(n,)``, amu.
            timestep: fs; negative runs backwards.
        """
        self.timestep = timestep
        self._half = 0.5 * timestep / (KINETIC * masses[:, None])
        # dt² F.F / 24 m, in the shape of m v² / 2
        self._weights = timestep**2 / (12.0 * KINETIC**2 * masses)
        self._work = np.empty(0)

    def first(self, state: State, evaluation: Evaluation) -> None:
        """Half a kick, a whole drift."""
        if self._work.shape != state.positions.shape:
            self._work = np.empty_like(state.positions)
        work = self._work
        state.velocities += np.multiply(evaluation.forces, self._half, out=work)
        state.positions += np.multiply(state.velocities, self.timestep, out=work)

    def second(self, state: State, evaluation: Evaluation) -> None:
        """Half a kick."""
        state.velocities += np.multiply(evaluation.forces, self._half, out=self._work)
        state.step += 1

    def slow_part(self, forces: Floats) -> Floats:
        """Return shape ``(replicas,)``: dt²/24 F.F/m, eV; see the module."""
        return kinetic_energy(forces, self._weights)
