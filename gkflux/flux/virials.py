r"""Per-atom heat-flux virials: the flux without the velocities.

.. math::

    W_j = \sum_i (r_i - r_j) \otimes \frac{dU_i}{dr_j}, \qquad
    J_{pot} = \sum_j W_j v_j, \qquad \sum_j W_j = -V \sigma

Gauge fixing subtracts their mean over a run, and homogeneous non-equilibrium dynamics
(HNEMD) drives with them. For more than one layer they are not symmetric: six numbers an
atom are not enough.

Theory of operation: a cotangent that travels from the atom c that reads to the atom o
that is read crosses -d_e. Let every such step scale it by 1 - lambda . d_e; then the
derivative by lambda at zero collects the ways of all contributions, r_i - r_j, and

.. math:: W_j^{ab} = \frac{\partial}{\partial \lambda_a} \frac{dU}{dr_j^b}

Values do not change: what is gathered is x + (1 - lambda . d_e) (x_o - x) with x = x_o
held constant. One forward tangent for each of three directions, over one reverse pass.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gkflux.flux.graph import Graph, evaluate, tangents, to_numpy
from gkflux.potentials.base import Potential
from gkflux.system import System

__all__ = ["heat_flux_virials"]

Array = NDArray[np.float64]


def heat_flux_virials(potential: Potential, system: System) -> Array:
    """Return W_j of every atom, on the periodic graph.

    Args:
        potential: any potential whose gathers are declared.
        system: the structure.

    Returns:
        shape ``(n, 3, 3)``, eV, rows along the place and columns along the velocity.
    """
    graph = Graph.of(potential, system)
    positions = torch.tensor(system.positions, device=graph.d.device)
    zero = torch.zeros(3, dtype=torch.float64, device=graph.d.device)
    gradient = _scaled_gradient(potential, graph, positions)
    columns = [tangents(gradient, zero, axis) for axis in torch.eye(3).to(zero)]
    return to_numpy(torch.stack(columns, dim=1))


def _scaled_gradient(
    potential: Potential, graph: Graph, positions: Tensor
) -> Callable[[Tensor], Tensor]:
    """dU/dr as a function of lambda."""
    shift = graph.d - (positions[graph.other] - positions[graph.centre])

    def energy(r: Tensor, scale: Tensor) -> Tensor:
        def gather(x: Tensor, other: Tensor) -> Tensor:
            rows = x[other]
            factor = scale.to(rows.dtype).reshape(-1, *[1] * (rows.dim() - 1))
            return rows.detach() + factor * (rows - rows.detach())

        d = gather(r, graph.other) + shift - r[graph.centre]
        return evaluate(potential, graph, d, gather).sum()

    def gradient(parameter: Tensor) -> Tensor:
        scale = 1 - graph.d @ parameter
        return torch.as_tensor(torch.func.grad(energy)(positions, scale))

    return gradient
