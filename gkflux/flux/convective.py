r"""The part of the heat flux that moving atoms carry.

.. math:: J_{conv} = \sum_i \left( m_i v_i^2 / 2 + U_i - u_{s(i)} \right) v_i

with m_i in amu, v_i in Å/fs, U_i in eV. u_s are the potential's own constants of the
species (mean and atomic reference; 0 without), never fitted to a configuration, so that
the flux of a step does not depend on the others. Velocities are taken as given:
removing the momentum of the whole is the business of the dynamics, at its start.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gkflux.potentials.base import Potential
from gkflux.system import System
from stepson.units import KINETIC

__all__ = ["convective_flux"]

Array = NDArray[np.float64]


def convective_flux(
    potential: Potential, system: System, velocities: ArrayLike, energies: ArrayLike
) -> Array:
    """Return J_conv, shape ``(3,)``, eV Å/fs.

    Args:
        potential: gives u_s.
        system: gives masses and species.
        velocities: shape ``(n, 3)``, Å/fs.
        energies: shape ``(n,)``, eV: U_i as the potential returns them.
    """
    v = np.asarray(velocities, dtype=np.float64)
    kinetic = 0.5 * KINETIC * system.masses * np.einsum("ia,ia->i", v, v)
    reference = np.asarray(potential.reference_energies(system.numbers), dtype=np.float64)
    total = kinetic + np.asarray(energies, dtype=np.float64) - reference
    return np.asarray(np.einsum("i,ia->a", total, v))
