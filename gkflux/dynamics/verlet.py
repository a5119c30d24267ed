"""Velocity Verlet: second order, time-reversible, symplectic.

::

    v += dt/2 F(r)/m      first half: kick, drift
    r += dt v
    v += dt/2 F(r)/m      second half: kick, with the forces at the new positions

Between the halves the caller computes forces. After the second half r and v belong to the
same time: that is when a heat flux is taken (at half-step velocities it would be wrong to
first order in the timestep). Swope, Andersen, Berens, Wilson, J. Chem. Phys. 76, 637
(1982).
"""

from typing import Protocol

import numpy as np

from gkflux.dynamics.state import Floats, State
from stepson.units import KINETIC

__all__ = ["Integrator", "VelocityVerlet"]


class Integrator(Protocol):
    """One timestep in two halves, with new forces between them."""

    conserves_momentum: bool

    def first(self, state: State, forces: Floats) -> None:
        """Move velocities and positions, with the forces at the old positions."""

    def second(self, state: State, forces: Floats) -> None:
        """Complete the velocities with the forces at the new positions; count the step."""


class VelocityVerlet:
    """Newton's equations: constant energy, NVE."""

    conserves_momentum = True

    def __init__(self, masses: Floats, *, timestep: float) -> None:
        """Prepare.

        Args:
            masses: shape ``(n,)``, amu.
            timestep: fs; negative runs backwards.
        """
        self._timestep = timestep
        self._half = 0.5 * timestep / (KINETIC * masses[:, None])
        self._work = np.empty(0)

    def first(self, state: State, forces: Floats) -> None:
        """Half a kick, a whole drift."""
        if self._work.shape != state.positions.shape:
            self._work = np.empty_like(state.positions)
        work = self._work
        state.velocities += np.multiply(forces, self._half, out=work)
        state.positions += np.multiply(state.velocities, self._timestep, out=work)

    def second(self, state: State, forces: Floats) -> None:
        """Half a kick."""
        state.velocities += np.multiply(forces, self._half, out=self._work)
        state.step += 1
