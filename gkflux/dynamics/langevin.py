r"""Langevin dynamics by the splitting BAOAB.

::

    B  v += dt/2 F(r)/m
    A  r += dt/2 v
    O  v  = c v + sqrt((1 - c²) kB T / m) xi,    c = exp(-gamma dt)
    A  r += dt/2 v
    B  v += dt/2 F(r)/m

Positions are sampled with an error of fourth order for harmonic forces; the kinetic energy
of the full-step velocities is low by the factor 1 - ω²dt²/4 (2.2 % for ZrO2 at 4 fs), as
in velocity Verlet: no fault of the thermostat. Leimkuhler and Matthews, Appl. Math. Res.
Express 2013, 34; J. Chem. Phys. 138, 174102 (2013).

The energy that O gives is summed in ``state.heat``: E_pot + E_kin - heat is conserved up to
the error of the integrator, and drifts where the timestep is too long.
"""

from collections.abc import Sequence
from math import exp

import numba
import numpy as np
from numpy.typing import NDArray

from gkflux.dynamics.noise import key, triple
from gkflux.dynamics.state import Floats, State
from stepson.units import BOLTZMANN, KINETIC

__all__ = ["Langevin"]


@numba.njit(cache=True, nogil=True)
def _thermostat(velocities, keep, width, masses, streams, step, heat):  # type: ignore[no-untyped-def]
    """Apply O to every replica; add the kinetic energy that it gives to ``heat``."""
    for k in range(velocities.shape[0]):
        gained = 0.0
        for i in range(velocities.shape[1]):
            noise = triple(streams[k], step, np.uint64(i))
            before, after = 0.0, 0.0
            for axis in range(3):
                v = velocities[k, i, axis]
                before += v * v
                v = keep * v + width[i] * noise[axis]
                after += v * v
                velocities[k, i, axis] = v
            gained += masses[i] * (after - before)
        heat[k] += gained


class Langevin:
    """Newton's equations with friction and noise: constant temperature."""

    conserves_momentum = False

    def __init__(
        self,
        masses: Floats,
        *,
        timestep: float,
        temperature: float,
        friction: float,
        streams: Sequence[np.uint64],
    ) -> None:
        """Prepare.

        Args:
            masses: shape ``(n,)``, amu.
            timestep: fs.
            temperature: K.
            friction: gamma, 1/fs.
            streams: for each replica the key of its noise (`noise.key`).
        """
        keep = exp(-friction * timestep)
        self._half_time = 0.5 * timestep
        self._half = 0.5 * timestep / (KINETIC * masses[:, None])
        self._keep = keep
        self._width = np.sqrt(
            (1 - keep * keep) * BOLTZMANN * temperature / (KINETIC * masses)
        )
        self._energies = 0.5 * KINETIC * masses
        self._streams: NDArray[np.uint64] = np.array(streams, dtype=np.uint64)
        self._work = np.empty(0)

    @staticmethod
    def streams(seed: int, stage: int, replicas: Sequence[int]) -> list[np.uint64]:
        """Return the keys of the noise of some replicas in a stage."""
        return [key(seed, stage, "langevin", replica) for replica in replicas]

    def first(self, state: State, forces: Floats) -> None:
        """B, A, O, A."""
        if self._work.shape != state.positions.shape:
            self._work = np.empty_like(state.positions)
        work, velocities = self._work, state.velocities
        velocities += np.multiply(forces, self._half, out=work)
        state.positions += np.multiply(velocities, self._half_time, out=work)
        _thermostat(
            velocities,
            self._keep,
            self._width,
            self._energies,
            self._streams,
            np.uint64(state.step),
            state.heat,
        )
        state.positions += np.multiply(velocities, self._half_time, out=work)

    def second(self, state: State, forces: Floats) -> None:
        """B."""
        state.velocities += np.multiply(forces, self._half, out=self._work)
        state.step += 1
