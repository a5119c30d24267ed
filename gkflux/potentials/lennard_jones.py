r"""Lennard-Jones: teacher of the argon model, reference conductivities, tests.

.. math::

    U_i = \frac{1}{2} \sum_{e: c(e) = i} u(d_e), \qquad
    u(r) = 4 \epsilon \left[ (\sigma / r)^{12} - (\sigma / r)^6 \right] + shift

below r_c and 0 beyond. ``shift`` "energy" subtracts u(r_c); "force" subtracts (r - r_c)
u'(r_c) too, so that the force is continuous as well and energies are conserved; "none"
leaves the step.

One interaction layer and no messages: every formulation of the heat flux is the same.
"""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from gkflux.errors import FluxError
from gkflux.potentials.autograd import Differentiated
from gkflux.potentials.base import Gather, gather

__all__ = ["LennardJones"]

SHIFTS = ("energy", "force", "none")


class LennardJones(Differentiated):
    """The pair potential, of one kind of atom, whatever its number.

    Args:
        epsilon: depth of the well, eV.
        sigma: where the unshifted energy is zero, Å.
        cutoff: r_c, Å; by default 2.5 sigma.
        shift: "energy", "force" or "none".

    Raises:
        FluxError: a length or an energy that is not positive; an unknown shift.
    """

    layers = 1
    elements: frozenset[int] | None = None
    dtype = torch.float64

    def __init__(
        self,
        *,
        epsilon: float,
        sigma: float,
        cutoff: float | None = None,
        shift: Literal["energy", "force", "none"] = "force",
    ) -> None:
        self.epsilon, self.sigma = float(epsilon), float(sigma)
        self.cutoff = 2.5 * self.sigma if cutoff is None else float(cutoff)
        self.shift = shift
        if shift not in SHIFTS:
            raise FluxError(f"shift {shift!r} is not known; known are {', '.join(SHIFTS)}")
        if not all(0 < x < np.inf for x in (self.epsilon, self.sigma, self.cutoff)):
            raise FluxError("epsilon, sigma and cutoff of Lennard-Jones must be positive")
        self.provenance: Mapping[str, Any] = {
            "kind": "lennard-jones",
            "dtype": "float64",
            "layers": 1,
            "epsilon": self.epsilon,
            "sigma": self.sigma,
            "cutoff": self.cutoff,
            "shift": shift,
        }

    def energies(
        self,
        numbers: Tensor,
        d: Tensor,
        centre: Tensor,
        other: Tensor,
        n_atoms: int,
        gather: Gather = gather,
    ) -> Tensor:
        """U_i, half of every pair's energy at each end; see `Potential.energies`."""
        r = torch.linalg.vector_norm(d, dim=1)
        half = torch.where(r < self.cutoff, 0.5 * self._pair(r), torch.zeros_like(r))
        # scatter_add, not index_add: the latter is wrong under a compiled jvp (torch 2.13)
        return torch.zeros(n_atoms, dtype=d.dtype, device=d.device).scatter_add(
            0, centre, half
        )

    def _pair(self, r: Tensor) -> Tensor:
        six = (self.sigma / r) ** 6
        u = 4 * self.epsilon * (six * six - six)
        if self.shift == "none":
            return u
        edge = (self.sigma / self.cutoff) ** 6
        u = u - 4 * self.epsilon * (edge * edge - edge)
        if self.shift == "energy":
            return u
        slope = -24 * self.epsilon * (2 * edge * edge - edge) / self.cutoff
        return u - (r - self.cutoff) * slope
