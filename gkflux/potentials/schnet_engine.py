"""The production engine on the CPU: R replicas of a SchNet, float32, tabulated filters.

Rows of features of all replicas lie in one array, n atoms of each padded to whole blocks,
and widths padded to whole vectors with zeros (`schnet_vector`). Passes (`schnet_kernels`)
run over all of them at once; every row is computed from its own edges only, so a replica
has the same bits in any company, with any number of threads, at any age of its list.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from gkflux.errors import FluxError
from gkflux.potentials import schnet_kernels as kernels
from gkflux.potentials.base import Books, Evaluation, FluxResult, Statistics
from gkflux.potentials.flux_parts import (
    books_of,
    check_formulation,
    check_motion,
    check_shape,
    convective_flux,
    total,
)
from gkflux.potentials.schnet_rows import Geometry, image_vectors
from gkflux.potentials.schnet_vector import BLOCK
from gkflux.potentials.schnet_weights import Weights
from gkflux.potentials.skin import SkinLists, reverse_edges
from gkflux.potentials.threads import ThreadChoice
from gkflux.system import System

__all__ = ["SchNetBatch"]

Floats = NDArray[np.float64]
Matrix = NDArray[np.float32]


class SchNetBatch:
    """A `Batch` of replicas; see the module.

    Args:
        weights: of the network, padded.
        systems: replicas: the same species, cells of their own.
        skin: Å; None tunes itself.
    """

    def __init__(
        self, weights: Weights, systems: Sequence[System], skin: float | None
    ) -> None:
        self.weights = weights
        self.n, self.replicas = systems[0].n_atoms, len(systems)
        self.padded = -(-self.n // BLOCK) * BLOCK
        self._lists = SkinLists(systems, weights.cutoff, skin)
        self._threads, self._flux_threads = ThreadChoice(), ThreadChoice()
        self._calls = 0
        self._species = weights.species(systems[0].numbers)
        self._references = weights.references(systems[0].numbers)
        self._masses = np.stack([system.masses for system in systems])
        self._allocate()

    def _allocate(self) -> None:
        w, rows = self.weights, self.replicas * self.padded
        t, f, l = len(w.layers), w.features, w.filters
        self._positions = np.zeros((rows, 3))
        self._velocities = np.zeros((rows, 3))
        self._lattice = np.zeros((rows, 3))
        species = np.zeros(self.padded, dtype=np.int64)
        species[: self.n] = self._species
        self._embedded = zeros(rows, f)
        self._embedded[:] = np.tile(w.embedding[species], (self.replicas, 1))
        self._x, self._bx, self._xdot = zeros(rows, f), zeros(rows, f), zeros(rows, f)
        self._y = [w.gathered, *(zeros(rows, l) for _ in range(t - 1))]
        self._ydot = [zeros(0, l), *(zeros(rows, l) for _ in range(t - 1))]
        self._bm = [zeros(rows, l) for _ in range(t)]
        self._slope = [zeros(rows, f) for _ in range(t)]
        self._u = np.zeros(rows)
        self._forces = np.zeros((rows, 3))
        self._virials = np.zeros((rows, 3, 3))
        self._fluxes = np.zeros((rows, 2, 3))
        self._energies: Floats | None = None
        self._geometry: Geometry | None = None
        self._joined = 0
        self._shifted = self._lists.cells
        self._messages = False

    @property
    def statistics(self) -> Statistics:
        """Counters; see `Statistics`."""
        edges = 0 if self._geometry is None else len(self._geometry.other)
        return Statistics(self._calls, self._lists.rebuilds, self._lists.skin, edges)

    def forces(self, positions: Floats, cells: Floats | None = None) -> Evaluation:
        """See `Batch.forces`."""
        check_shape("positions", positions, (self.replicas, self.n, 3))
        g = self._update(positions, cells)
        with self._threads.timed():
            self._passes(g)
        self._calls += 1
        self._energies = self._rows(self._u) * self.weights.stddev + (
            self._references + self.weights.offset
        )
        return Evaluation(
            total(self._energies),
            self._energies,
            self._rows(self._forces).copy(),
            total(self._rows(self._virials)),
        )

    def _passes(self, g: Geometry) -> None:
        w = self.weights
        kernels.geometry(self._positions, g, w.scale, w.intervals)
        self._forward(g)
        self._backward(g)
        kernels.collect(g, self._forces, self._virials)

    def _update(self, positions: Floats, cells: Floats | None) -> Geometry:
        self._rows(self._positions)[:] = positions
        # what is joined here says itself what it was made from: an update that has raised,
        # for one replica, may have changed the lists of others
        self._lists.update(positions, cells)
        if self._geometry is None or self._joined != self._lists.rebuilds:
            self._geometry = self._join()
            self._joined = self._lists.rebuilds
        else:
            self._shift(self._geometry)
        self._shifted = self._lists.cells
        return self._geometry

    def _shift(self, g: Geometry) -> None:
        """Take up the cells of those replicas whose cell is another one than before."""
        start = 0
        for edges, old, cell in zip(
            self._lists.edges, self._shifted, self._lists.cells, strict=True
        ):
            end = start + len(edges)
            same = cell is old or cell is None or old is None or np.array_equal(cell, old)
            if cell is not None and not same:
                image_vectors(edges.shift, cell, g.shift[start:end])
            start = end

    def _rows(self, array: Floats) -> Floats:
        """Rows of atoms, without the padding, by replica."""
        return array.reshape(self.replicas, self.padded, *array.shape[1:])[:, : self.n]

    def _forward(self, g: Geometry) -> None:
        layers = self.weights.layers
        before, empty = self._embedded, self._ydot[0]
        for t, layer in enumerate(layers):
            last = t + 1 == len(layers)
            kernels.forward(
                g,
                g.species if t == 0 else g.other,
                layer,
                self._y[t],
                before,
                self._slope[t],
                self._x,
                layer.b if last else layers[t + 1].b,
                empty if last else self._y[t + 1],
            )
            before = self._x
        kernels.readout(
            self.weights.readout,
            layers[-1],
            self._x,
            self._slope[-1],
            self._bx,
            self._bm[-1],
            self._u,
        )

    def _backward(self, g: Geometry) -> None:
        layers = self.weights.layers
        for t in range(len(layers) - 1, 0, -1):
            kernels.backward(
                g,
                layers[t],
                self._y[t],
                self._bm[t],
                layers[t - 1],
                self._slope[t - 1],
                self._bx,
                self._bm[t - 1],
            )
        kernels.first_slopes(g, layers[0], self._y[0], self._bm[0])

    def heat_flux(
        self,
        velocities: Floats,
        *,
        formulation: str = "semilocal",
        lattice: Floats | None = None,
        convective: bool = True,
    ) -> FluxResult:
        """See `Batch.heat_flux`."""
        if self._geometry is None or self._energies is None:
            raise FluxError("heat_flux() uses the features of forces(): call that first")
        check_motion(velocities, lattice, (self.replicas, self.n, 3))
        messages = check_formulation(formulation) and len(self.weights.layers) > 1
        self._messages = messages
        self._rows(self._velocities)[:] = velocities
        self._rows(self._lattice)[:] = 0.0 if lattice is None else lattice
        with self._flux_threads.timed():
            if messages:
                self._tangent(self._geometry)
            kernels.flux(
                self._geometry, messages, self._velocities, self._lattice, self._fluxes
            )
        plain, gauged = np.moveaxis(total(self._rows(self._fluxes)), 1, 0)
        if convective:
            energies = self._energies - self._references
            plain = plain + convective_flux(self._masses, energies, velocities)
        return FluxResult(plain, None if lattice is None else gauged)

    def books(self) -> Books:
        """See `KeepsBooks.books`; added up in float64."""
        g = self._geometry
        if g is None:
            raise FluxError("books() are those of a heat_flux(): call that first")
        speed = np.einsum("ea,ea->e", g.unit, self._velocities[g.other])
        power = g.gradient * speed + (g.power if self._messages else 0.0)
        power[g.interval < 0] = 0.0
        centre = np.repeat(np.arange(g.row.size - 1), np.diff(g.row))
        found = books_of(power, centre, g.other, g.row.size - 1)
        return Books(*(self._rows(column).copy() for column in found))

    def _tangent(self, g: Geometry) -> None:
        layers = self.weights.layers
        for t in range(len(layers) - 1):
            kernels.forward_tangent(
                g,
                g.species if t == 0 else g.other,
                layers[t],
                self._y[t],
                self._ydot[t],
                self._velocities,
                self._slope[t],
                self._xdot,
                layers[t + 1].b,
                self._ydot[t + 1],
            )
            kernels.message_power(
                g, layers[t + 1], self._bm[t + 1], self._ydot[t + 1], t == 0
            )

    def _join(self) -> Geometry:
        """Put the lists of all replicas into one graph of disjoint parts."""
        lists = self._lists.edges
        offsets = np.cumsum([0, *(len(edges) for edges in lists)])
        row = np.zeros(self.replicas * self.padded + 1, dtype=np.int64)
        other, species, reverse, shift = [], [], [], []
        for r, (edges, start) in enumerate(zip(lists, offsets, strict=False)):
            first = r * self.padded
            row[first + 1 : first + self.n + 1] = start + edges.row[1:]
            row[first + self.n + 1 : first + self.padded + 1] = start + len(edges)
            other.append(edges.other + first)
            species.append(self._species[edges.other])
            reverse.append(reverse_edges(edges) + start)
            shift.append(edges.vectors(self._lists.cells[r]))
        n = int(offsets[-1])
        return Geometry(
            row,
            np.concatenate(other).astype(np.int32),
            np.concatenate(species).astype(np.int32),
            np.concatenate(reverse).astype(np.int32),
            np.concatenate(shift),
            np.zeros(n, np.int32),
            np.zeros(n, np.float32),
            np.zeros((n, 3), np.float32),
            np.zeros(n, np.float32),
            np.zeros(n, np.float32),
            np.zeros(n, np.float32),
        )


def zeros(rows: int, width: int) -> Matrix:
    """Aligned as torch aligns, so that vectors do not cross cache lines."""
    return torch.zeros(rows, width).numpy()
