"""The same algebra in plain torch: exact filters, any precision, any device; slow.

This is the engine of float64 and of ``exact_filters``, the fallback where numba is missing
or the device is no CPU, and the oracle of the fast engine: forward, backward and tangent
written by hand, as there, with the filter network evaluated for every edge.

Replicas are computed one after the other, from the edges within the cutoff alone, in
canonical order: the list, its skin and its age leave no trace.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import linear

from gkflux.errors import FluxError
from gkflux.neighbors import Edges
from gkflux.potentials.base import Books, Evaluation, FluxResult, Statistics
from gkflux.potentials.flux_parts import (
    books_of,
    check_formulation,
    check_motion,
    check_shape,
    convective_flux,
    total,
)
from gkflux.potentials.schnet import Interaction, SchNet, ssp
from gkflux.potentials.schnet_tables import softplus_slope, values_and_slopes
from gkflux.potentials.skin import SkinLists
from gkflux.system import System

__all__ = ["TorchBatch"]

Floats = NDArray[np.float64]


class _Graph(NamedTuple):
    """Edges of one replica within the cutoff: d, u, r in the dtype of the network."""

    d: Tensor
    u: Tensor
    r: Tensor
    centre: Tensor
    other: Tensor
    shift: Tensor
    lengths: Tensor


class _Kept(NamedTuple):
    """What the flux needs of a force call, by layer where it is a list."""

    graph: _Graph
    filters: list[tuple[Tensor, Tensor]]
    gathered: list[Tensor]
    slopes: list[Tensor]
    bm: list[Tensor]
    gradient: Tensor


class TorchBatch:
    """A `Batch` of replicas; see the module.

    Args:
        network: in the precision and on the device of the calculation.
        systems: replicas: the same species, cells of their own.
        skin: Å; None tunes itself.
    """

    def __init__(
        self, network: SchNet, systems: Sequence[System], skin: float | None
    ) -> None:
        weight = network.embedding.weight
        self._network, self._dtype, self._device = network, weight.dtype, weight.device
        self._systems = list(systems)
        self._lists = SkinLists(systems, network.shape.cutoff, skin)
        self._numbers = torch.tensor(systems[0].numbers, device=self._device)
        self._references = network.references(self._numbers)
        self._masses = np.stack([system.masses for system in systems])
        self._kept: list[_Kept] = []
        self._powers: list[Tensor] = []
        self._energies: Floats = np.zeros((0, 0))
        self._calls = 0

    @property
    def statistics(self) -> Statistics:
        """Counters; see `Statistics`."""
        edges = sum(len(edges) for edges in self._lists.edges)
        return Statistics(self._calls, self._lists.rebuilds, self._lists.skin, edges)

    @torch.no_grad()
    def forces(self, positions: Floats, cells: Floats | None = None) -> Evaluation:
        """See `Batch.forces`."""
        expected = (len(self._systems), self._systems[0].n_atoms, 3)
        check_shape("positions", positions, expected)
        self._lists.update(positions, cells)
        self._kept.clear()
        energies, forces, virials = [], [], []
        for r, edges in enumerate(self._lists.edges):
            graph = self._graph(positions[r], edges, self._lists.cells[r])
            u, kept = self._one(graph)
            self._kept.append(kept)
            energies.append(u)
            g = kept.gradient[:, None] * graph.u
            pull = g.double()
            forces.append(
                _sum(pull, graph) - _scatter(pull, graph.other, len(self._numbers))
            )
            virials.append(
                _sum((graph.d.double()[:, :, None] * pull[:, None]).flatten(1), graph)
            )
        self._calls += 1
        self._energies = _numpy(energies)
        virial = _numpy(virials).reshape(*expected[:2], 3, 3)
        return Evaluation(
            total(self._energies), self._energies, _numpy(forces), total(virial)
        )

    def _graph(self, positions: Floats, edges: Edges, cell: Floats | None) -> _Graph:
        """Keep what is within the cutoff; differences in float64."""
        x = torch.tensor(positions, device=self._device)
        centre, other = (torch.tensor(i, device=self._device) for i in edges[1:3])
        shift = torch.tensor(edges.vectors(cell), device=self._device)
        d = (x[other] - x[centre]) + shift
        r = torch.sqrt((d[:, 0] ** 2 + d[:, 1] ** 2) + d[:, 2] ** 2)
        inside = r < self._network.shape.cutoff
        d, r, centre, other = d[inside], r[inside], centre[inside], other[inside]
        lengths = torch.bincount(centre, minlength=len(positions))
        u = (d / r[:, None]).to(self._dtype)
        d, r = d.to(self._dtype), r.to(self._dtype)
        return _Graph(d, u, r, centre, other, shift[inside], lengths)

    def _one(self, g: _Graph) -> tuple[Tensor, _Kept]:
        """Energies with scale and shift, and dU/dr of every edge."""
        layers = [_interaction(module) for module in self._network.interactions]
        filters = [values_and_slopes(layer.filter, g.r) for layer in layers]
        x = self._network.embedding(self._numbers)
        gathered, slopes = [], []
        for layer, (w, _) in zip(layers, filters, strict=True):
            gathered.append(layer.in2f(x))
            z = layer.f2out(_sum(gathered[-1][g.other] * w, g))
            slopes.append(softplus_slope(z))
            x = x + layer.dense(ssp(z))
        u, bx = self._readout(x)
        gradient, bm = torch.zeros_like(g.r), list[Tensor]()
        for t in range(len(layers) - 1, -1, -1):
            w, slope = filters[t]
            bz = (bx @ layers[t].dense.weight) * slopes[t]
            bm.insert(0, bz @ layers[t].f2out.weight)
            y = gathered[t][g.other]
            gradient += (bm[0][g.centre] * y * slope).sum(1)
            # W_ij = W_ji: the adjoint of the messages is a convolution over the same edges
            bx = bx + _sum(bm[0][g.other] * w, g) @ layers[t].in2f.weight
        return u, _Kept(g, filters, gathered, slopes, bm, gradient)

    def _readout(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """U_i, and dU/dx."""
        network = self._network
        z = network.hidden(x)
        if network.shape.readout == "ssp":
            slope = softplus_slope(z)
        else:
            s = torch.sigmoid(z)
            slope = s * (1 + z * (1 - s))
        u = network.out(network.activation(z))[:, 0].double() * network.stddev.double()
        scaled = network.out.weight[0] * network.stddev.to(self._dtype)
        return u + self._references, (slope * scaled) @ network.hidden.weight

    @torch.no_grad()
    def heat_flux(
        self,
        velocities: Floats,
        *,
        formulation: str = "semilocal",
        lattice: Floats | None = None,
        convective: bool = True,
    ) -> FluxResult:
        """See `Batch.heat_flux`."""
        if not self._kept:
            raise FluxError("heat_flux() uses the features of forces(): call that first")
        check_motion(velocities, lattice, (len(self._systems), len(self._numbers), 3))
        messages = check_formulation(formulation)
        sites = np.zeros_like(velocities[0]) if lattice is None else np.array(lattice)
        lattice_sites = torch.tensor(sites, device=self._device)
        self._powers.clear()
        plain, gauged = [], []
        for r, kept in enumerate(self._kept):
            v = torch.tensor(velocities[r], device=self._device)
            g = kept.graph
            power = kept.gradient.double() * (g.u.double() * v[g.other]).sum(1)
            if messages:
                power += self._message_power(kept, v).double()
            self._powers.append(power)
            d0 = (lattice_sites[g.other] - lattice_sites[g.centre]) + g.shift
            plain.append(_sum(-g.d.double() * power[:, None], g))
            gauged.append(_sum(-d0 * power[:, None], g))
        flux = total(_numpy(plain))
        if convective:
            own = self._energies - self._references.cpu().numpy()
            flux = flux + convective_flux(self._masses, own, velocities)
        return FluxResult(flux, None if lattice is None else total(_numpy(gauged)))

    def books(self) -> Books:
        """See `KeepsBooks.books`."""
        if not self._powers:
            raise FluxError("books() are those of a heat_flux(): call that first")
        found = []
        for kept, power in zip(self._kept, self._powers, strict=True):
            each = (power, kept.graph.centre, kept.graph.other)
            p, centre, other = (values.cpu().numpy() for values in each)
            found.append(books_of(p, centre, other, len(self._numbers)))
        return Books(*(np.stack(column) for column in zip(*found, strict=True)))

    def _message_power(self, kept: _Kept, v: Tensor) -> Tensor:
        """Sum over layers >= 2 of gbar . xdot, ``(E,)``, eV/fs."""
        g = kept.graph
        layers = [_interaction(module) for module in self._network.interactions]
        rate = (g.u.double() * (v[g.other] - v[g.centre])).sum(1).to(self._dtype)
        power = torch.zeros_like(g.r)
        xdot = torch.zeros_like(self._network.embedding(self._numbers))
        for t, layer in enumerate(layers):
            w, slope = kept.filters[t]
            ydot = linear(xdot, layer.in2f.weight)[g.other]
            power += (kept.bm[t][g.centre] * w * ydot).sum(1)
            mdot = _sum(ydot * w + kept.gathered[t][g.other] * slope * rate[:, None], g)
            hdot = linear(mdot, layer.f2out.weight) * kept.slopes[t]
            xdot = xdot + linear(hdot, layer.dense.weight)
        return power


def _interaction(module: torch.nn.Module) -> Interaction:
    assert isinstance(module, Interaction)
    return module


def _sum(values: Tensor, g: _Graph) -> Tensor:
    """Sum over the edges of each centre, in the order of the list."""
    return torch.segment_reduce(values, "sum", lengths=g.lengths, unsafe=True, initial=0)


def _scatter(values: Tensor, index: Tensor, n: int) -> Tensor:
    """Sum by any index, in the order of the list: three columns only, so slow is fine."""
    out = np.zeros((n, values.shape[1]))
    np.add.at(out, index.cpu().numpy(), values.cpu().numpy())
    return torch.from_numpy(out).to(values.device)


def _numpy(tensors: list[Tensor]) -> Floats:
    return np.stack([tensor.double().cpu().numpy() for tensor in tensors])
