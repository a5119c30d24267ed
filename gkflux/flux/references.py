r"""Two slow and obvious forms of the heat flux, against which the fast one is tested.

Both forget periodicity: the crystal around the cell is written out as an open cluster
of every image that can influence an atom of the cell, which is T cutoffs far for T
interaction layers. Nothing is shared with the production route but the network itself.

``hardy``: the definition,

.. math::

    J_{pot} = \sum_{i} \sum_{j} (r_i - r_j) \left( \frac{dU_i}{dr_j} \cdot v_j \right)

i over the atoms of the cell, j over the cluster; one reverse pass an atom.

``unfolded``: the barycentre B = sum_i r_i U_i with r_i held constant (Langer et al.,
PRB 108, L100302 (2023)),

.. math::

    J_{pot} = \sum_{j} \left( \frac{dB}{dr_j} \cdot v_j \right) - \sum_{j} r_j \left(
    \frac{dU}{dr_j} \cdot v_j \right)

which is one forward tangent and one reverse pass on the cluster.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from gkflux.flux.graph import Graph, Taps, evaluate, tangents, to_numpy
from gkflux.neighbors import neighbor_list
from gkflux.potentials.base import Potential
from gkflux.system import System

__all__ = ["hardy_flux", "hardy_virials", "unfolded_flux"]

Array = NDArray[np.float64]


class Cluster(NamedTuple):
    """The atoms of a cell, then every image that they can feel, without periodicity."""

    graph: Graph
    """Edges of the open cluster."""
    positions: Tensor
    """``(N, 3)``, Å."""
    home: Tensor
    """``(N,)``: the atom of the cell that each is an image of."""
    offset: Tensor
    """``(N, 3)``, Å: what was added to the atom of the cell; zero for the first."""
    n_home: int
    """Atoms of the cell."""

    def rows(self, values: ArrayLike) -> Tensor:
        """Rows ``(n, 3)`` of the atoms of the cell, repeated for their images."""
        array = np.asarray(values, dtype=np.float64)
        return torch.tensor(array, device=self.home.device)[self.home]


def _cluster(potential: Potential, system: System) -> Cluster:
    """Write out all images within ``layers`` cutoffs of an atom of the cell."""
    reach = potential.layers * potential.cutoff
    pairs = neighbor_list(system.positions, system.cell, system.pbc, reach)
    images = np.unique(np.column_stack([pairs.other, pairs.shift]), axis=0)
    images = images[images[:, 1:].any(axis=1)]
    n = system.n_atoms
    home = np.concatenate([np.arange(n), images[:, 0]])
    shift = np.concatenate([np.zeros((n, 3), dtype=int), images[:, 1:]])
    offset = np.zeros((len(home), 3)) if system.cell is None else shift @ system.cell
    positions = system.positions[home] + offset
    open_system = System(positions=positions, numbers=system.numbers[home])
    graph = Graph.of(potential, open_system)
    x, who, where = (
        torch.tensor(a, device=graph.d.device) for a in (positions, home, offset)
    )
    return Cluster(graph, x, who, where, n)


def _home_energies(potential: Potential, cluster: Cluster, positions: Tensor) -> Tensor:
    """U_i of the atoms of the cell, as a function of all positions of the cluster."""
    graph = cluster.graph
    d = positions[graph.other] - positions[graph.centre]
    return evaluate(potential, graph, d, Taps())[: cluster.n_home].double()


def hardy_virials(
    potential: Potential, system: System, *, lattice: ArrayLike | None = None
) -> Array:
    r"""Per-atom heat-flux virials, :math:`W_j = \sum_i (r_i - r_j) \otimes dU_i/dr_j`.

    The flux is their product with the velocities, :math:`J_{pot} = \sum_j W_j v_j`, and
    their sum is :math:`-V \sigma`. They are not symmetric for more than one layer.

    Args:
        potential: any.
        system: the structure.
        lattice: shape ``(n, 3)``, Å; places that stand for r_i, next to their atoms.

    Returns:
        shape ``(n, 3, 3)``, eV, rows along the place and columns along the velocity.
    """
    cluster = _cluster(potential, system)
    places = cluster.rows(system.positions if lattice is None else lattice) + cluster.offset
    positions = cluster.positions.clone().requires_grad_()
    energies = _home_energies(potential, cluster, positions)
    virials = places.new_zeros(cluster.n_home, 3, 3)
    for i, energy in enumerate(energies):
        (gradient,) = torch.autograd.grad(energy, positions, retain_graph=True)
        terms = (places[i] - places)[:, :, None] * gradient[:, None, :]
        virials.index_add_(0, cluster.home, terms)
    return to_numpy(virials)


def hardy_flux(
    potential: Potential,
    system: System,
    velocities: ArrayLike,
    *,
    lattice: ArrayLike | None = None,
) -> Array:
    """Return J_pot by the definition, ``(3,)``, eV Å/fs; arguments as `hardy_virials`."""
    virials = hardy_virials(potential, system, lattice=lattice)
    return np.asarray(np.einsum("jab,jb->a", virials, np.asarray(velocities)))


def unfolded_flux(
    potential: Potential,
    system: System,
    velocities: ArrayLike,
    *,
    lattice: ArrayLike | None = None,
) -> Array:
    """Return J_pot through the barycentre of the unfolded cell, shape ``(3,)``, eV Å/fs.

    Args:
        potential: any.
        system: the structure.
        velocities: shape ``(n, 3)``, Å/fs.
        lattice: shape ``(n, 3)``, Å; places that stand for r_i, next to their atoms.
    """
    cluster = _cluster(potential, system)
    v = cluster.rows(velocities)
    places = cluster.rows(system.positions if lattice is None else lattice) + cluster.offset

    def energies(positions: Tensor) -> Tensor:
        return _home_energies(potential, cluster, positions)

    rates = tangents(energies, cluster.positions, v)
    positions = cluster.positions.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(energies(positions).sum(), positions)
    barycentre = (places[: cluster.n_home] * rates[:, None]).sum(0)
    return to_numpy(barycentre - (places * (gradient * v).sum(1)[:, None]).sum(0))
