"""The graph that a potential works on, as tensors, and how gathers are written down.

Conventions (``gkflux/README.md``): a directed full list of edges e = (c <- o, S) with
centre c, other o and lattice shift S, ``d_e = r_o + S.cell - r_c``; every image of an
atom is an edge of its own.

A potential moves rows of features between atoms only by calling the ``gather`` that it
is handed. The exact heat flux rests on that: energy travels through space where a row
located at one atom is read by a computation located at another, and nowhere else.
`Taps` is a gather that remembers.
"""

import warnings
from collections.abc import Callable
from typing import NamedTuple, TypeVar, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from gkflux.errors import FluxError
from gkflux.neighbors import Edges, edge_vectors, neighbor_list
from gkflux.potentials.base import Gather, Potential, check_elements
from gkflux.system import System

__all__ = [
    "Graph",
    "Taps",
    "checked_velocities",
    "evaluate",
    "scatter_rows",
    "tangents",
    "to_numpy",
]

T = TypeVar("T")


class Taps:
    """A gather that keeps what it gathered, in order; one object for one evaluation."""

    def __init__(self) -> None:
        self.rows: list[Tensor] = []
        """``x[other]`` as the potential received it, one tensor a call."""

    def __call__(self, x: Tensor, other: Tensor) -> Tensor:
        """Rows of ``x`` at the other ends of the edges."""
        self.rows.append(x[other])
        return self.rows[-1]


class Graph(NamedTuple):
    """One structure as a potential sees it."""

    edges: Edges
    """The list, sorted by (centre, other, shift)."""
    numbers: Tensor
    """``(n,)``, atomic numbers."""
    d: Tensor
    """``(E, 3)``, Å, float64."""
    centre: Tensor
    """``(E,)``."""
    other: Tensor
    """``(E,)``."""

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.numbers)

    @classmethod
    def of(cls, potential: Potential, system: System) -> "Graph":
        """The graph of a structure within the cutoff of a potential."""
        edges = neighbor_list(system.positions, system.cell, system.pbc, potential.cutoff)
        d = edge_vectors(system.positions, system.cell, edges)
        check_elements(potential.elements, system.numbers)
        tensors = (np.array(system.numbers), d, edges.centre, edges.other)
        return cls(edges, *(torch.from_numpy(a).to(_device(potential)) for a in tensors))


def checked_velocities(system: System, velocities: ArrayLike | None) -> NDArray[np.float64]:
    """Velocities ``(n, 3)``, Å/fs: those given, else the system's.

    Raises:
        FluxError: there are none, of another shape, or not finite.
    """
    given = system.velocities if velocities is None else velocities
    if given is None:
        raise FluxError("the heat flux needs velocities: give velocities=, in Å/fs")
    v = np.asarray(given, dtype=np.float64)
    if v.shape != system.positions.shape:
        raise FluxError(
            f"velocities have shape {v.shape}, expected {system.positions.shape}: "
            "one row an atom"
        )
    if not np.isfinite(v).all():
        raise FluxError("velocities hold values that are not finite")
    return v


def evaluate(potential: Potential, graph: Graph, d: Tensor, gather: Gather) -> Tensor:
    """Energies ``(n,)`` in the dtype of the network, from edge vectors in float64."""
    dtype: torch.dtype = getattr(potential, "dtype", torch.float64)
    return potential.energies(
        graph.numbers, d.to(dtype), graph.centre, graph.other, graph.n_atoms, gather
    )


def tangents(function: Callable[[Tensor], T], x: Tensor, rate: Tensor) -> T:
    """Time derivative of ``function(x)`` where x changes at a rate."""
    with warnings.catch_warnings():
        # The first jvp of a process makes torch 2.13 script its own rules, and complain.
        warnings.filterwarnings("ignore", r"`torch\.jit\.", DeprecationWarning)
        _, derivative = torch.func.jvp(function, (x,), (rate,))  # type: ignore[misc]
    return cast("T", derivative)


def scatter_rows(values: Tensor, index: Tensor, n_atoms: int) -> Tensor:
    """Sum rows ``(E, ...)`` into atoms ``(n, ...)``."""
    return values.new_zeros((n_atoms, *values.shape[1:])).index_add(0, index, values)


def to_numpy(values: Tensor) -> NDArray[np.float64]:
    """The numbers of a tensor, wherever it is, in float64."""
    return np.asarray(values.detach().double().cpu().numpy())


def _device(potential: Potential) -> torch.device:
    device: torch.device = getattr(potential, "device", torch.device("cpu"))
    return device
