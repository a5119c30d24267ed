r"""Heat that flows between groups of atoms, and so through any surface between them.

.. math::

    Q_{A \to B} = \sum_{c(e) \in B,\, o(e) \in A} P_e
                - \sum_{c(e) \in A,\, o(e) \in B} P_e

P_e is the power along edge e, from o to c (`gkflux.flux.semilocal`). The energy of a
group, kinetic and potential, changes by what the others give it, exactly, whatever the
number of interaction layers:

.. math:: \frac{dE_B}{dt} = \sum_A Q_{A \to B}

An interface between two crystals, the walls of a non-equilibrium run, the shells around
an impurity: label the atoms on either side. In a periodic cell two slabs touch twice,
and what flows between them is the sum through both surfaces; three slabs tell them apart.
Thermostats act beside the edges: the heat that they give is not in Q.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gkflux.errors import FluxError
from gkflux.flux.graph import checked_velocities
from gkflux.flux.semilocal import edge_powers
from gkflux.potentials.base import Potential
from gkflux.system import System

__all__ = ["heat_between"]


def heat_between(
    potential: Potential,
    system: System,
    groups: ArrayLike,
    velocities: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """Heat current between groups of atoms, at one instant.

    Args:
        potential: any; one with more than one layer needs its gathers declared.
        system: the structure.
        groups: shape ``(n,)``, the group of every atom: integers from 0 to k - 1.
        velocities: shape ``(n, 3)``, Å/fs, taken as they are; by default the system's.

    Returns:
        shape ``(k, k)``, eV/fs, antisymmetric: entry ``[a, b]`` is what b receives from a,
        less what it gives. The sum of column b is dE_b/dt.

    Raises:
        FluxError: velocities or groups that do not fit.
    """
    labels = _labels(groups, system.n_atoms)
    v = checked_velocities(system, velocities)
    return edge_powers(potential, system, v).exchange(labels)


def _labels(groups: ArrayLike, n_atoms: int) -> NDArray[np.int64]:
    labels = np.asarray(groups)
    if labels.shape != (n_atoms,):
        raise FluxError(
            f"groups have shape {labels.shape}, expected ({n_atoms},): one number an atom"
        )
    if labels.dtype.kind not in "bui":
        raise FluxError(
            f"groups are of type {labels.dtype}: number them 0, 1, 2 ... in integers"
        )
    if labels.min(initial=0) < 0:
        atom = int(np.argmin(labels))
        raise FluxError(
            f"atom {atom} is in group {labels[atom]}: groups are counted from 0; put atoms "
            "that do not matter in a group of their own"
        )
    if labels.max(initial=0) >= max(n_atoms, 1):
        atom = int(np.argmax(labels))
        raise FluxError(
            f"atom {atom} is in group {labels[atom]} of a structure of {n_atoms} atoms: "
            "number the groups 0, 1, 2 ... without gaps"
        )
    return labels.astype(np.int64)
