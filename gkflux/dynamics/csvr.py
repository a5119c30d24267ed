r"""Canonical sampling by rescaling all velocities with one random factor, exactly.

The kinetic energy K of g degrees of freedom follows a stochastic differential equation of
its own, and its exact solution over one timestep dt is that of g oscillators with friction
1 / (2 tau), all of whose motion lies along the first of g axes:

.. math::

    K' = \frac{k_B T}{2} \left[ \left( \sqrt{c\, 2K/k_B T} + \sqrt{1-c}\, R_1 \right)^2
         + (1-c) \sum_{i=2}^{g} R_i^2 \right], \qquad c = e^{-dt/\tau},

R_i normal. All velocities are multiplied by alpha, with alpha² = K'/K and the sign of the
bracket, so directions, the total momentum and (nearly) the dynamics stay as they are.
Bussi, Donadio, Parrinello, J. Chem. Phys. 126, 014101 (2007), equation A7; the sign: Bussi,
Parrinello, Comput. Phys. Commun. 179, 26 (2008).

======== ==================== =====================================
symbol   variable             meaning
======== ==================== =====================================
c        ``keep``             what is left of the past after dt
kB T / 2 ``unit``             mean energy of one degree of freedom
g        ``freedom``          their number
alpha    ``factor``           of the velocities
======== ==================== =====================================

The sum of g - 1 squares is summed, not drawn from a gamma distribution by rejection: the
same number of Philox words at every step, whatever they are, so the counter is the step
alone and a restart needs no state; and additions and multiplications only, so the bits are
those of every machine. It costs what the noise of `Langevin` costs.
"""

from collections.abc import Sequence
from math import exp, sqrt

import numba
import numpy as np

from gkflux.dynamics.middle import Barostat, Middle
from gkflux.dynamics.noise import triple
from gkflux.dynamics.state import Floats, State, square_sum
from stepson.units import BOLTZMANN

__all__ = ["StochasticRescaling"]


@numba.njit(cache=True, nogil=True)
def _squares(stream, step, freedom):  # type: ignore[no-untyped-def]
    """Return R_1 and the sum of the squares of R_2 to R_g."""
    first, rest = 0.0, 0.0
    for i in range((freedom + 2) // 3):
        noise = triple(stream, step, np.uint64(i))
        for axis in range(3):
            if i + axis == 0:
                first = noise[0]
            elif 3 * i + axis < freedom:
                rest += noise[axis] * noise[axis]
    return first, rest


@numba.njit(cache=True, nogil=True)
def _rescale(velocities, energies, keep, unit, freedom, streams, step, heat):  # type: ignore[no-untyped-def]
    """Apply O to every replica; add the kinetic energy that it gives to ``heat``."""
    for k in range(velocities.shape[0]):
        before = square_sum(velocities[k], energies)
        if before == 0.0:
            continue  # at rest there is no direction yet: forces will give one
        first, rest = _squares(streams[k], step, freedom)
        along = sqrt(keep * before / unit) + sqrt(1.0 - keep) * first
        after = unit * (along * along + (1.0 - keep) * rest)
        factor = sqrt(after / before)
        if along < 0.0:
            factor = -factor
        for i in range(velocities.shape[1]):
            for axis in range(3):
                velocities[k, i, axis] *= factor
        heat[k] += after - before


class StochasticRescaling(Middle):
    """Newton's equations, and a kinetic energy that fluctuates as it must: CSVR."""

    conserves_momentum = True
    purpose = "csvr"

    def __init__(
        self,
        masses: Floats,
        *,
        timestep: float,
        temperature: float,
        relaxation: float,
        freedom: int,
        streams: Sequence[np.uint64],
        barostat: Barostat | None = None,
    ) -> None:
        """Prepare.

        Args:
            masses: shape ``(n,)``, amu.
            timestep: fs.
            temperature: K.
            relaxation: tau, fs: in which the kinetic energy forgets what it was.
            freedom: g.
            streams: for each replica the key of its noise (`noise.key`).
            barostat: None: the cell stays as it is.
        """
        super().__init__(masses, timestep=timestep, streams=streams, barostat=barostat)
        self._keep = exp(-timestep / relaxation)
        self._unit = 0.5 * BOLTZMANN * temperature
        self._freedom = freedom

    def thermostat(self, state: State) -> None:
        """O."""
        _rescale(
            state.velocities,
            self._energies,
            self._keep,
            self._unit,
            self._freedom,
            self._streams,
            np.uint64(state.step),
            state.heat,
        )
