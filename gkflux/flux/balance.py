r"""The energy of every atom balances: an assertion that needs no reference.

.. math:: \frac{dE_i}{dt} = \sum_{c(e) = i} P_e - \sum_{o(e) = i} P_e

holds for every atom, at every instant, up to rounding (`gkflux.flux.semilocal`), and
fails where any part of the power is wrong: a gather that a potential of one's own does
not declare, an engine with a wrong derivative, a machine that computes wrongly.

The two sides come from different places. On the right are the books of the engine that
computes the flux: the powers it has used, from its hand-written passes and its tables. On
the left is

.. math:: \frac{dE_i}{dt} = \frac{dU_i}{dt} + F_i \cdot v_i

with dU_i/dt from one forward tangent of the potential's energies, by automatic
differentiation: exact, no finite step, and no gather or cotangent is looked at. That
costs three to four plain evaluations of the network, and no tape.

What is judged is the difference over the size of what was summed, the rms over atoms of
sum abs(P_e). `LIMITS` go by the precision of the potential. Measured at the worst atom of
argon and zirconia: 1e-14 in float64, 1e-5 in float32, filter tables included. Without the
power of messages it is 0.04 to 0.08 for argon and 1 to 5 for zirconia.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from gkflux.flux.graph import Graph, checked_velocities, evaluate, tangents, to_numpy
from gkflux.potentials.base import Potential, gather
from gkflux.system import System

__all__ = ["LIMITS", "Imbalance", "energy_rates", "imbalance", "limit_of"]

Array = NDArray[np.float64]

LIMITS = {torch.float32: 1e-3, torch.float64: 1e-10}
"""Largest difference that passes as rounding, relative."""


class Imbalance(NamedTuple):
    """Where the books of one structure fit worst."""

    atom: int
    """Its index."""
    gain: float
    """What the edges brought it, eV/fs."""
    rate: float
    """dE_i/dt, eV/fs."""
    relative: float
    """Their difference, over the rms of sum abs(P_e)."""


def energy_rates(potential: Potential, system: System, velocities: ArrayLike) -> Array:
    """dU_i/dt, shape ``(n,)``, eV/fs, by one forward tangent.

    Args:
        potential: any.
        system: the structure.
        velocities: shape ``(n, 3)``, Å/fs.

    Raises:
        FluxError: velocities of another shape, or not finite; an untrained element.
    """
    graph = Graph.of(potential, system)
    v = torch.tensor(checked_velocities(system, velocities), device=graph.d.device)

    def energies(d: torch.Tensor) -> torch.Tensor:
        return evaluate(potential, graph, d, gather)

    return to_numpy(tangents(energies, graph.d, v[graph.other] - v[graph.centre]))


def imbalance(rates: ArrayLike, gain: ArrayLike, size: ArrayLike) -> Imbalance:
    """Compare dE_i/dt with the books of an engine, all of shape ``(n,)``, eV/fs.

    Args:
        rates: dE_i/dt, kinetic energy included.
        gain: what the edges brought every atom.
        size: sum of abs(P_e) over the edges of every atom.
    """
    e, g, s = (np.asarray(each, dtype=np.float64) for each in (rates, gain, size))
    wrong = np.abs(e - g)
    atom = int(np.argmax(np.where(np.isnan(wrong), np.inf, wrong)))
    scale = float(np.sqrt(np.mean(s * s)))
    # Atoms at rest, or alone: nothing flows, and nothing may be wrong.
    relative = float(wrong[atom]) / scale if scale != 0 else float(wrong[atom] != 0)
    return Imbalance(atom, float(g[atom]), float(e[atom]), relative)


def limit_of(potential: Potential) -> float:
    """The limit of `LIMITS` for the precision that a potential computes in."""
    return LIMITS.get(getattr(potential, "dtype", torch.float64), max(LIMITS.values()))
