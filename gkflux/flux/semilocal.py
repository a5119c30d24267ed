r"""The exact heat flux of any message-passing potential, on the ordinary periodic graph.

Theory of operation
-------------------
In reverse and in forward mode every operation obeys "cotangent . tangent in = cotangent
. tangent out", so that product is a conserved flow through the computation graph: it
enters as -F_j . v_j at the positions and leaves as dU_i/dt at the energies of the
atoms. Give every row of every tensor the place of the atom it belongs to. The flow then
moves in space in two kinds of places only, where an edge vector is formed, and where a
message gathers the features of the other atom:

.. math::

    P_e = G_e \cdot v_o + \sum_{t \ge 2} \bar g_e^{(t)} \cdot \dot x_o^{(t)}, \qquad
    J_{pot} = - \sum_e d_e P_e

P_e is the power that flows along e from atom o to atom c, and the energy of every atom
balances:

.. math:: \frac{dE_i}{dt} = \sum_{c(e) = i} P_e - \sum_{o(e) = i} P_e

exactly, whatever the number of layers, and also in a cell that is smaller than the
cutoff. The first layer gathers embeddings, which do not change in time, so its term is
zero, and one layer gives the virial form (`gkflux.flux.local`).

=====================  ====================================================================
symbol                 variable, shape, unit
=====================  ====================================================================
d_e                    ``graph.d (E, 3)``, Å
G_e = dU/dd_e          ``gradient (E, 3)``, eV/Å; U is the total energy
gbar_e^(t)             one of ``cotangents``, ``(E, F)``: dU/d(row gathered in call t)
xdot_o^(t)             one of ``moving``, ``(E, F)``: time derivative of that row
P_e                    ``power (E,)``, eV/fs
v                      ``velocities (n, 3)``, Å/fs
=====================  ====================================================================

This route needs nothing of a potential but that its gathers are declared, and is the
oracle of the engine written by hand. Cost: one reverse pass, that of the forces, and
one forward tangent.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from gkflux.flux.graph import (
    Graph,
    Taps,
    checked_velocities,
    evaluate,
    scatter_rows,
    tangents,
    to_numpy,
)
from gkflux.potentials.base import Potential
from gkflux.system import System

__all__ = ["EdgePowers", "edge_powers"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class EdgePowers:
    """Energies, forces and the power along every edge of one structure."""

    graph: Graph
    """What the arrays below run over."""
    velocities: Array
    """``(n, 3)``, Å/fs, as given."""
    energies: Array
    """``(n,)``, eV: U_i."""
    energy_rates: Array
    """``(n,)``, eV/fs: dU_i/dt."""
    forces: Array
    """``(n, 3)``, eV/Å."""
    gradient: Array
    """``(E, 3)``, eV/Å: G_e."""
    power: Array
    """``(E,)``, eV/fs: P_e."""

    def flux(
        self, vectors: ArrayLike | None = None, power: ArrayLike | None = None
    ) -> Array:
        """J_pot = - sum_e d_e P_e, ``(3,)``, eV Å/fs.

        Args:
            vectors: shape ``(E, 3)``, Å, in place of d_e: those of a lattice give J_0.
            power: shape ``(E,)``, eV/fs, in place of P_e, such as `local_power`.
        """
        d = to_numpy(self.graph.d) if vectors is None else np.asarray(vectors)
        p = self.power if power is None else np.asarray(power)
        return np.asarray(-np.einsum("ea,e->a", d, p))

    def exchange(self, groups: ArrayLike) -> Array:
        """Power that flows from one group of atoms to another, ``(k, k)``, eV/fs.

        Args:
            groups: shape ``(n,)``, the group of every atom, 0 to k - 1.

        Returns:
            entry ``[a, b]`` is what b receives from a, less what it gives; a column sums to
            the gain of its group. Groups on either side of a surface: the heat through it.
        """
        labels = np.asarray(groups, dtype=np.int64)
        edges, k = self.graph.edges, int(labels.max()) + 1
        way = labels[edges.other] * k + labels[edges.centre]
        given = np.bincount(way, self.power, k * k).reshape(k, k)
        return np.asarray(given - given.T)

    def imbalance(self) -> Array:
        """``(n,)``, eV/fs: dE_i/dt less what flows in and out, zero up to rounding."""
        edges, n = self.graph.edges, len(self.energies)
        work = np.einsum("ia,ia->i", self.forces, self.velocities)
        inwards = np.bincount(edges.centre, self.power, n)
        outwards = np.bincount(edges.other, self.power, n)
        return np.asarray(self.energy_rates + work - (inwards - outwards))


def edge_powers(potential: Potential, system: System, velocities: ArrayLike) -> EdgePowers:
    """Evaluate a potential, and the power that flows along each edge.

    Args:
        potential: any potential whose gathers are declared.
        system: the structure.
        velocities: shape ``(n, 3)``, Å/fs.

    Raises:
        FluxError: velocities of another shape, or not finite; an untrained element.
    """
    graph = Graph.of(potential, system)
    v = torch.tensor(checked_velocities(system, velocities), device=graph.d.device)
    energies, gradient, cotangents = _reverse(potential, graph)
    rates, moving = _forward(potential, graph, v[graph.other] - v[graph.centre])
    power = (gradient * v[graph.other]).sum(1)
    for cotangent, tangent in zip(cotangents, moving, strict=True):
        flow = cotangent.double() * tangent.double()
        power = power + (flow.flatten(1).sum(1) if flow.dim() > 1 else flow)
    forces = scatter_rows(gradient, graph.centre, graph.n_atoms)
    forces = forces - scatter_rows(gradient, graph.other, graph.n_atoms)
    results = (energies, rates, forces, gradient, power)
    return EdgePowers(graph, to_numpy(v), *(to_numpy(x) for x in results))


def _reverse(potential: Potential, graph: Graph) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Energies, dU/dd, and dU/d(row) of every gather."""
    taps = Taps()
    d = graph.d.clone().requires_grad_()
    energies = evaluate(potential, graph, d, taps)
    # A row that no parameter and no position reaches is a constant, unknown to autograd.
    inputs = [d, *(row for row in taps.rows if row.requires_grad)]
    gradients = torch.autograd.grad(energies.sum(), inputs, allow_unused=True)
    found = iter(gradients[1:])
    cotangents = [
        _filled(next(found) if row.requires_grad else None, row) for row in taps.rows
    ]
    return energies, _filled(gradients[0], d), cotangents


def _forward(
    potential: Potential, graph: Graph, velocity: Tensor
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Time derivatives of the energies and of the row of every gather."""

    def model(d: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        taps = Taps()
        return evaluate(potential, graph, d, taps), tuple(taps.rows)

    return tangents(model, graph.d, velocity)


def _filled(gradient: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like) if gradient is None else gradient
