r"""Constant pressure by stochastic cell rescaling, isotropic.

The volume follows an overdamped Langevin equation, written for :math:`\lambda = \sqrt V`
because its noise then has a constant width:

.. math::

    d\lambda = \frac{\beta \lambda}{2 \tau}
        \left( P - P_0 + \frac{k_B T}{2 V} \right) dt
        + \sqrt{\frac{k_B T \beta}{2 \tau}} \, dW

With :math:`\mu = (V'/V)^{1/3}` cell and positions are multiplied by mu, velocities divided
by it, which leaves the measure of phase space alone: the distribution is that of constant
pressure, whatever beta and tau are; they set the pace only, and V relaxes in tau where beta
is the isothermal compressibility. Bernetti and Bussi, J. Chem. Phys. 153, 114107 (2020).

The pressure is that of the instant,

.. math:: P = \frac{2 E_{kin} - \mathrm{tr}\, W}{3 V} \left( + \frac{k_B T}{V} \right)

with W the virial, tension positive. The last term is the mean share of the centre of mass,
where its momentum was removed: so n atoms of an ideal gas have n k_B T / V under either
thermostat.

The energy that a change of the cell gives is, kinetic, known exactly, and potential
:math:`dU = \mathrm{tr}\, W \, d\ln V / 3`: half with the virial before, half with the one
that the next force call gives. Together with what thermostats give it is ``state.heat``.

======== ===================== ===========================================
symbol   variable              meaning
======== ===================== ===========================================
lambda   ``root``              square root of the volume, Å^(3/2)
P_0      ``pressure``          the target, eV/Å³
beta     ``compressibility``   Å³/eV
tau      ``relaxation``        fs
mu       ``scale``             of lengths
======== ===================== ===========================================

Roots and logarithms are made of basic operations, so that the bits are those of every
machine.
"""

from collections.abc import Sequence
from math import sqrt

import numba
import numpy as np
from numpy.typing import NDArray

from gkflux.dynamics.noise import keys, logarithm, triple
from gkflux.dynamics.state import Floats, State, square_sums, volumes
from gkflux.errors import FluxError
from stepson.units import BOLTZMANN, GPA, KINETIC

__all__ = ["CellRescaling", "CellStepError"]

LARGEST = 0.1
"""Share of its volume by which a cell may change in one step."""


class CellStepError(FluxError):
    """The cell wants to change by more than `LARGEST` in one step.

    Attributes:
        replica: number in the batch.
        change: by which the volume would be multiplied.
    """

    def __init__(self, replica: int, change: float) -> None:
        self.replica, self.change = replica, change
        super().__init__(f"the volume would be multiplied by {change:.3g} in one step")


@numba.njit(cache=True)
def cube_root(x):  # type: ignore[no-untyped-def]
    """Return the cube root of a number near 1, by Newton's iteration."""
    root = 1.0 + (x - 1.0) / 3.0
    for _ in range(5):
        root -= (root * root * root - x) / (3.0 * root * root)
    return root


@numba.njit(cache=True, nogil=True)
def _noises(streams, step, out):  # type: ignore[no-untyped-def]
    for k in range(out.shape[0]):
        out[k] = triple(streams[k], step, np.uint64(0))[0]


@numba.njit(cache=True, nogil=True)
def _scale(positions, velocities, cells, change, kinetic, strain, heat):  # type: ignore[no-untyped-def]
    """Multiply volumes by ``change``; ``strain`` is its logarithm."""
    for k in range(positions.shape[0]):
        scale = cube_root(change[k])
        slower = 1.0 / scale
        strain[k] = logarithm(change[k])
        heat[k] += kinetic[k] * (slower * slower - 1.0)
        for i in range(positions.shape[1]):
            for axis in range(3):
                positions[k, i, axis] *= scale
                velocities[k, i, axis] *= slower
        for i in range(3):
            for axis in range(3):
                cells[k, i, axis] *= scale


class CellRescaling:
    """A `Barostat`; see the module."""

    def __init__(
        self,
        masses: Floats,
        *,
        timestep: float,
        temperature: float,
        pressure: float,
        compressibility: float,
        relaxation: float,
        centre_fixed: bool,
        streams: Sequence[np.uint64],
    ) -> None:
        """Prepare.

        Args:
            masses: shape ``(n,)``, amu.
            timestep: fs.
            temperature: K.
            pressure: GPa, compression positive.
            compressibility: 1/GPa; a rough value will do.
            relaxation: fs.
            centre_fixed: the total momentum is zero and stays so.
            streams: for each replica the key of its noise (`noise.key`).
        """
        thermal = BOLTZMANN * temperature
        pace = compressibility * GPA * timestep / (2 * relaxation)
        self._pressure = pressure / GPA
        self._pace, self._width = pace, sqrt(pace * thermal)
        self._thermal = thermal
        self._centre = thermal if centre_fixed else 0.0
        self._energies = 0.5 * KINETIC * masses
        self._streams: NDArray[np.uint64] = np.array(streams, dtype=np.uint64)
        replicas = len(self._streams)
        self._kinetic, self._noise, self._strain = np.zeros((3, replicas))

    @staticmethod
    def streams(seed: int, stage: int, replicas: Sequence[int]) -> list[np.uint64]:
        """Return the keys of the noise of some replicas in a stage."""
        return keys(seed, stage, "volume", replicas)

    def rescale(self, state: State, virial: Floats) -> None:
        """Take one step of the volume, and scale everything.

        Raises:
            CellStepError: by far too much; nothing was changed.
        """
        assert state.cells is not None
        square_sums(state.velocities, self._energies, self._kinetic)
        _noises(self._streams, np.uint64(state.step), self._noise)
        trace = _trace(virial)
        volume = volumes(state.cells)
        inner = (2.0 * self._kinetic - trace) / (3.0 * volume) + self._centre / volume
        push = (inner - self._pressure) + self._thermal / (2.0 * volume)
        root = np.sqrt(volume)
        moved = root + (self._pace * push * root + self._width * self._noise)
        change = (moved / root) ** 2
        good = (np.abs(change - 1.0) < LARGEST) & (moved > 0.0)
        if not good.all():
            replica = int(np.argmin(good))
            share = float(change[replica]) if moved[replica] > 0 else 0.0
            raise CellStepError(replica, share)
        _scale(
            state.positions,
            state.velocities,
            state.cells,
            change,
            self._kinetic,
            self._strain,
            state.heat,
        )
        state.heat += self._strain * trace / 6.0

    def settle(self, state: State, virial: Floats) -> None:
        """Add the half of the potential energy that belongs to the virial after."""
        state.heat += self._strain * _trace(virial) / 6.0


def _trace(virial: Floats) -> Floats:
    """Return shape ``(replicas,)``: tr W, eV."""
    trace = (virial[:, 0, 0] + virial[:, 1, 1]) + virial[:, 2, 2]
    return np.asarray(trace)
