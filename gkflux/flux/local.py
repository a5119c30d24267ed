r"""The virial form of the heat flux: exact for one interaction layer, wrong for more.

.. math:: J_{pot} = - \sum_e d_e \, (G_e \cdot v_o)

G_e = dU/dd_e ``(E, 3)``, eV/Å, of the total energy U on the directed full list; v_o is
the velocity of the *other* atom, Å/fs (Fan et al., PRB 92, 094301 (2015), in the form
of edges; a half list, v_c or the mean of both make it wrong). It needs nothing beyond
the forces, and is exact where U_i depends on the edges of i alone: one-layer networks,
pair potentials, bond-order potentials. With more layers it leaves out the power that
messages carry (`gkflux.flux.semilocal`): not a gauge, but another conductivity.
"""

import warnings

import numpy as np
from numpy.typing import NDArray

from gkflux.errors import GkfluxWarning
from gkflux.flux.semilocal import EdgePowers
from gkflux.potentials.base import Potential

__all__ = ["local_power", "warn_if_wrong"]

Array = NDArray[np.float64]


def local_power(powers: EdgePowers) -> Array:
    """G_e . v_o, shape ``(E,)``, eV/fs: all that the virial form knows of P_e."""
    v = powers.velocities[powers.graph.edges.other]
    return np.asarray(np.einsum("ea,ea->e", powers.gradient, v))


def warn_if_wrong(potential: Potential) -> None:
    """Say so, where the virial form is asked for and messages carry power."""
    if potential.layers > 1:
        warnings.warn(
            f"the local (virial) heat flux of a network of {potential.layers} layers "
            "leaves out the power that messages carry: no gauge, but a wrong conductivity; "
            "use formulation='semilocal'",
            GkfluxWarning,
            stacklevel=3,
        )
