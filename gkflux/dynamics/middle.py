"""One timestep with a thermostat, and perhaps a barostat, in its middle.

::

    B  v += dt/2 F(r)/m
    A  r += dt/2 v
    O  thermostat: changes v
    C  barostat: scales r, v and cell
    A  r += dt/2 v
    B  v += dt/2 F(r)/m

With the thermostat in the middle, positions are sampled with an error of fourth order for
harmonic forces; the kinetic energy of the full-step velocities is low by the factor
1 - ω²dt²/4 (2.2 % for ZrO2 at 4 fs), as in velocity Verlet: no fault of the thermostat.
Leimkuhler and Matthews, Appl. Math. Res. Express 2013, 34; Zhang et al., J. Phys. Chem. A
123, 6056 (2019).

What O and C give is summed in ``state.heat``: E_pot + E_kin - heat is conserved up to the
error of the integrator, and drifts where the timestep is too long.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from gkflux.dynamics.noise import Purpose, keys
from gkflux.dynamics.state import Floats, State
from gkflux.potentials.base import Evaluation
from stepson.units import KINETIC

__all__ = ["Barostat", "Middle"]


class Barostat(Protocol):
    """Changes the cell of every replica in the middle of a step."""

    def rescale(self, state: State, virial: Floats) -> None:
        """Scale cell, positions and velocities; ``virial`` is that of the step before."""

    def settle(self, state: State, virial: Floats) -> None:
        """Complete the heat with the virial after the change."""


class Middle(ABC):
    """Kicks and drifts around whatever a thermostat does to the velocities."""

    conserves_momentum: bool
    purpose: ClassVar[Purpose]

    def __init__(
        self,
        masses: Floats,
        *,
        timestep: float,
        streams: Sequence[np.uint64],
        barostat: Barostat | None = None,
    ) -> None:
        """Prepare.

        Args:
            masses: shape ``(n,)``, amu.
            timestep: fs.
            streams: for each replica the key of its noise (`streams`).
            barostat: None: the cell stays as it is.
        """
        self.timestep = timestep
        self.changes_cell = barostat is not None
        self._barostat = barostat
        self._half_time = 0.5 * timestep
        self._half = 0.5 * timestep / (KINETIC * masses[:, None])
        self._energies = 0.5 * KINETIC * masses
        self._streams: NDArray[np.uint64] = np.array(streams, dtype=np.uint64)
        self._work = np.empty(0)

    @classmethod
    def streams(cls, seed: int, stage: int, replicas: Sequence[int]) -> list[np.uint64]:
        """Return the keys of the noise of some replicas in a stage."""
        return keys(seed, stage, cls.purpose, replicas)

    @abstractmethod
    def thermostat(self, state: State) -> None:
        """Change the velocities, and add the energy that they gain to ``state.heat``."""

    def first(self, state: State, evaluation: Evaluation) -> None:
        """B, A, O, C, A."""
        if self._work.shape != state.positions.shape:
            self._work = np.empty_like(state.positions)
        work, velocities = self._work, state.velocities
        velocities += np.multiply(evaluation.forces, self._half, out=work)
        state.positions += np.multiply(velocities, self._half_time, out=work)
        self.thermostat(state)
        if self._barostat is not None:
            self._barostat.rescale(state, evaluation.virial)
        state.positions += np.multiply(velocities, self._half_time, out=work)

    def second(self, state: State, evaluation: Evaluation) -> None:
        """B."""
        state.velocities += np.multiply(evaluation.forces, self._half, out=self._work)
        if self._barostat is not None:
            self._barostat.settle(state, evaluation.virial)
        state.step += 1

    def slow_part(self, forces: Floats) -> Floats:
        """Nothing: what heat leaves is of another kind."""
        return np.zeros(len(forces))
