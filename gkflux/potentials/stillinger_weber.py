r"""Stillinger-Weber: the many-body reference, by default silicon as its authors fitted it.

.. math::

    U_i = \frac{\epsilon}{2} \sum_j f(x_{ij}) + \epsilon \lambda \sum_{j < k}
    g(x_{ij}) \, g(x_{ik}) \left( \cos \theta_{jik} + \tfrac{1}{3} \right)^2

    f(x) = A \, (B x^{-p} - x^{-q}) \, e^{1 / (x - a)}, \qquad
    g(x) = e^{\gamma / (x - a)}, \qquad x = r / \sigma

below r_c = a sigma, and 0 beyond, with all derivatives. F. H. Stillinger and T. A. Weber,
PRB 31, 5262 (1985).

No triple is ever formed. With u_j the unit vector towards j and g_j = g(x_ij), the sum over
pairs of neighbours follows from sums over neighbours:

.. math::

    \sum_{j < k} g_j g_k (u_j \cdot u_k + \tfrac{1}{3})^2 = \tfrac{1}{2} \left[
    M : M + \tfrac{2}{3} V \cdot V + \tfrac{1}{9} S^2 - \tfrac{16}{9} Q \right]

=====================  ====================================================
symbol                 meaning, shape
=====================  ====================================================
S, V, M                sums of g_j, g_j u_j, g_j u_j (x) u_j over j: (n,), (n, 3), (n, 3, 3)
Q                      sum of g_j^2, the terms j = k that the others contain
=====================  ====================================================

U_i depends on the edges of i alone: no messages, so nothing is gathered, one layer, and
every formulation of the heat flux is exact.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gkflux.errors import FluxError
from gkflux.potentials.autograd import Differentiated
from gkflux.potentials.base import Gather, gather

__all__ = ["StillingerWeber"]


EPSILON = 2.168205
"""eV: 50 kcal/mol, as in the paper; some programs have 2.1683."""


class StillingerWeber(Differentiated):
    """One element, with a preference for tetrahedra.

    Args:
        epsilon: depth of the well of a pair, eV.
        sigma: Å.
        a: the cutoff in sigma.
        A: of the pair term. B: of its repulsion. p: exponent of the repulsion.
        q: exponent of the attraction.
        strength: lambda, of the three-body term.
        gamma: how fast that fades towards the cutoff.
        element: atomic number; the parameters are of no other.

    Raises:
        FluxError: a length or an energy that is not positive.
    """

    layers = 1
    dtype = torch.float64

    def __init__(
        self,
        *,
        epsilon: float = EPSILON,
        sigma: float = 2.0951,
        a: float = 1.80,
        A: float = 7.049556277,
        B: float = 0.6022245584,
        p: float = 4.0,
        q: float = 0.0,
        strength: float = 21.0,
        gamma: float = 1.20,
        element: int = 14,
    ) -> None:
        if not all(0 < x < np.inf for x in (epsilon, sigma, a)):
            raise FluxError("epsilon, sigma and a of Stillinger-Weber must be positive")
        if not np.isfinite([A, B, p, q, strength, gamma]).all():
            raise FluxError("parameters of Stillinger-Weber must be finite")
        self.epsilon, self.sigma, self.a = float(epsilon), float(sigma), float(a)
        self._pair = float(A), float(B), float(p), float(q)
        self.strength, self.gamma = float(strength), float(gamma)
        self.cutoff = self.a * self.sigma
        self.elements = frozenset({int(element)})
        self.provenance: Mapping[str, Any] = {
            "kind": "stillinger-weber",
            "dtype": "float64",
            "layers": 1,
            "epsilon": self.epsilon,
            "sigma": self.sigma,
            "a": self.a,
            **dict(zip("ABpq", self._pair, strict=True)),
            "strength": self.strength,
            "gamma": self.gamma,
            "element": int(element),
            "cutoff": self.cutoff,
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
        """U_i, half of every pair and the triples around i; see `Potential.energies`."""
        terms = self._terms(d)
        # scatter_add, not index_add: the latter is wrong under a compiled jvp (torch 2.13)
        sums = torch.zeros(n_atoms, terms.shape[1], dtype=d.dtype, device=d.device)
        sums = sums.scatter_add(0, centre[:, None].expand_as(terms), terms)
        pair, s, q, v, m = torch.split(sums, [1, 1, 1, 3, 9], dim=1)
        twice = (m * m).sum(1) + 2 / 3 * (v * v).sum(1) + (s * s - 16 * q)[:, 0] / 9
        return 0.5 * self.epsilon * (pair[:, 0] + self.strength * twice)

    def _terms(self, d: Tensor) -> Tensor:
        """f, g, g^2, g u, g u (x) u of every edge, ``(E, 15)``; 0 beyond the cutoff."""
        r = torch.linalg.vector_norm(d, dim=1)
        inside = r < self.cutoff
        # what lies beyond is computed where it is harmless: 0 times infinity is no number
        r = torch.where(inside, r, torch.full_like(r, 0.5 * self.cutoff))
        x = r / self.sigma
        fade = 1 / (x - self.a)
        big_a, big_b, p, q = self._pair
        f = big_a * (big_b * x**-p - x**-q) * torch.exp(fade)
        g = torch.exp(self.gamma * fade)
        u = d / r[:, None]
        first = g[:, None] * u
        second = (first[:, :, None] * u[:, None, :]).flatten(1)
        terms = torch.cat([torch.stack([f, g, g * g], dim=1), first, second], dim=1)
        return torch.where(inside[:, None], terms, torch.zeros_like(terms))
