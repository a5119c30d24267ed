r"""Langevin dynamics by the splitting BAOAB (``middle.py``).

::

    O  v  = c v + sqrt((1 - c²) kB T / m) xi,    c = exp(-gamma dt)

Every atom has friction and noise of its own, so the total momentum moves freely, and all
3 n degrees of freedom have the temperature. Leimkuhler and Matthews, J. Chem. Phys.
138, 174102 (2013).
"""

from collections.abc import Sequence
from math import exp

import numba
import numpy as np

from gkflux.dynamics.middle import Barostat, Middle
from gkflux.dynamics.noise import triple
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


class Langevin(Middle):
    """Newton's equations with friction and noise: constant temperature."""

    conserves_momentum = False
    purpose = "langevin"

    def __init__(
        self,
        masses: Floats,
        *,
        timestep: float,
        temperature: float,
        friction: float,
        streams: Sequence[np.uint64],
        barostat: Barostat | None = None,
    ) -> None:
        """Prepare.

        Args:
            masses: shape ``(n,)``, amu.
            timestep: fs.
            temperature: K.
            friction: gamma, 1/fs.
            streams: for each replica the key of its noise (`noise.key`).
            barostat: None: the cell stays as it is.
        """
        super().__init__(masses, timestep=timestep, streams=streams, barostat=barostat)
        self._keep = keep = exp(-friction * timestep)
        self._width = np.sqrt(
            (1 - keep * keep) * BOLTZMANN * temperature / (KINETIC * masses)
        )

    def thermostat(self, state: State) -> None:
        """O."""
        _thermostat(
            state.velocities,
            self._keep,
            self._width,
            self._energies,
            self._streams,
            np.uint64(state.step),
            state.heat,
        )
