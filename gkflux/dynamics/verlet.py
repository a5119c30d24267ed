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
