"""The passes of the device engine in plain torch: any device, no Triton, slower.

What runs where Triton is missing, and what Triton's kernels are tested against. Edges
within the cutoff are gathered into arrays of their own, in the order of the list, and sums
over them run in that order.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from gkflux.device_lists import DeviceLists
from gkflux.neighbors_gpu import square_root
from gkflux.potentials.schnet import LN2
from gkflux.potentials.schnet_gpu_weights import DeviceReadout, DeviceWeights
from gkflux.potentials.schnet_tables import INTERVALS, softplus_slope

__all__ = ["TorchPasses"]


class _Graph(NamedTuple):
    """Edges within the cutoff; names of `schnet_triton`. ``lengths``: edges by centre."""

    slot: Tensor
    centre: Tensor
    end: Tensor
    kind: Tensor
    interval: Tensor
    place: Tensor
    unit: Tensor
    distance: Tensor
    lengths: Tensor


class TorchPasses:
    """See `Passes`.

    Args:
        weights: of the network.
        species: rows of the embedding by atom, ``(N,)``.
        replicas: products are done for each alone, with its own rows.
    """

    recordable = False

    def __init__(self, weights: DeviceWeights, species: Tensor, replicas: int) -> None:
        self._weights, self._species, self._replicas = weights, species, replicas
        self._power = torch.zeros(0, device=weights.device)

    def lists_changed(self, lists: DeviceLists) -> None:
        """Take note of a new list."""
        self._lists = lists
        row = lists.row.long()
        atoms = torch.arange(len(row) - 1, device=row.device)
        self._centre = torch.repeat_interleave(atoms, row.diff())
        self._other = lists.other[: len(self._centre)].long()
        self._vectors = lists.vectors[: len(self._centre)]
        self._reverse = lists.reverse[: len(self._centre)].long()
        self._gradient = torch.zeros(len(self._centre), device=row.device)

    def place(self, positions: Tensor) -> None:
        """Find the edges within the cutoff."""
        self._lists.note(positions)
        d = (positions[self._other] - positions[self._centre]) + self._vectors
        r = square_root((d[:, 0] ** 2 + d[:, 1] ** 2) + d[:, 2] ** 2)
        q = r * self._weights.scale
        slot = (q < INTERVALS).nonzero()[:, 0]
        centre, end, d, r, q = (x[slot] for x in (self._centre, self._other, d, r, q))
        interval = q.long()
        self._graph = _Graph(
            slot=slot,
            centre=centre,
            end=end,
            kind=self._species[end],
            interval=interval,
            place=(q - interval).float(),
            unit=(d / r[:, None]).float(),
            distance=r.float(),
            lengths=torch.bincount(centre, minlength=len(positions)),
        )

    def _filter(self, t: int) -> Tensor:
        p = self._graph.place[:, None]
        s = 1.0 - p
        v0, d0, v1, d1 = self._nodes(t)
        left = s * s * (1.0 + 2.0 * p) * v0 + p * s * s * d0
        return left + (p * p * (3.0 - 2.0 * p) * v1 - p * p * s * d1)

    def _slope(self, t: int) -> Tensor:
        p = self._graph.place[:, None]
        s = 1.0 - p
        v0, d0, v1, d1 = self._nodes(t)
        q = 6.0 * p * s
        slope = q * (v1 - v0) + (s * (1.0 - 3.0 * p) * d0 + p * (3.0 * p - 2.0) * d1)
        return slope * self._weights.scale.float()

    def _nodes(self, t: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        table, i = self._weights.layers[t].table, self._graph.interval
        return table[i, 0], table[i, 1], table[i + 1, 0], table[i + 1, 1]

    def _index(self, t: int) -> Tensor:
        return self._graph.end if t else self._graph.kind

    def _sum(self, values: Tensor) -> Tensor:
        """Sum over the edges of each centre, in the order of the list."""
        return torch.segment_reduce(
            values, "sum", lengths=self._graph.lengths, unsafe=True, initial=0
        )

    def convolve(self, t: int, y: Tensor, out: Tensor) -> None:
        """Sum the messages of a layer."""
        out.copy_(self._sum(y[self._index(t)] * self._filter(t)))

    def backward(
        self, t: int, y: Tensor, bm: Tensor, by: Tensor | None, *, fresh: bool
    ) -> None:
        """Gradients of the edges, and the cotangent of y."""
        g = self._graph
        change = _fold(bm[g.centre] * y[self._index(t)] * self._slope(t))
        if fresh:
            self._gradient.zero_()
        self._gradient[g.slot] += change
        if by is not None:
            by.copy_(self._sum(bm[g.end] * self._filter(t)))

    def collect(self, forces: Tensor, virials: Tensor) -> None:
        """Forces and virials of the atoms."""
        g, u = self._graph, self._graph.unit.double()
        own = self._gradient[g.slot].double()
        both = own + self._gradient[self._reverse[g.slot]].double()
        forces.copy_(self._sum(both[:, None] * u))
        moment = (own * g.distance.double())[:, None] * u
        virials.copy_(self._sum((moment[:, :, None] * u[:, None]).flatten(1)))

    def rates(
        self,
        t: int,
        velocities: Tensor,
        y: Tensor,
        ydot: Tensor | None,
        bm: Tensor,
        mdot: Tensor | None,
    ) -> None:
        """Tangents of the messages, and their power."""
        g = self._graph
        total = torch.zeros(1, device=y.device)
        if ydot is not None:
            carried = ydot[g.end] * self._filter(t)
            power = _fold(bm[g.centre] * carried)
            self._power = power if t == 1 else self._power + power
            total = carried
        if mdot is not None:
            relative = velocities[g.end] - velocities[g.centre]
            rate = (g.unit.double() * relative).sum(1).float()
            change = y[self._index(t)] * self._slope(t) * rate[:, None]
            mdot.copy_(self._sum(total + change))

    def flux(
        self, velocities: Tensor, lattice: Tensor, out: Tensor, *, messages: bool
    ) -> None:
        """Fluxes of the atoms."""
        g, u = self._graph, self._graph.unit.double()
        power, _, _ = self.powers(velocities, messages=messages)
        d = u * g.distance.double()[:, None]
        sites = (lattice[g.end] - lattice[g.centre]) + self._vectors[g.slot]
        out.copy_(self._sum(-torch.cat([d, sites], 1) * power[:, None]))

    def powers(
        self, velocities: Tensor, *, messages: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """P of every edge, its centre, its other end."""
        g = self._graph
        speed = (g.unit.double() * velocities[g.end]).sum(1)
        power = self._gradient[g.slot].double() * speed
        return (power + self._power if messages else power), g.centre, g.end

    def dense(
        self,
        x: Tensor,
        w: Tensor,
        out: Tensor,
        *,
        bias: Tensor | None = None,
        base: Tensor | None = None,
        times: Tensor | None = None,
    ) -> None:
        """Product with a small matrix."""
        z = self._product(x, w)
        z = z if bias is None else z + bias
        z = z if base is None else base + z
        out.copy_(z if times is None else z * times)

    def _product(self, x: Tensor, w: Tensor) -> Tensor:
        """One product a replica: its bits must not depend on how many rows others have."""
        return torch.cat([rows @ w for rows in x.chunk(self._replicas)])

    def activate(
        self, x: Tensor, w: Tensor, bias: Tensor, out: Tensor, slope: Tensor
    ) -> None:
        """Product, bias, activation."""
        z = self._product(x, w) + bias
        out.copy_(softplus(z) - LN2)
        slope.copy_(softplus_slope(z))

    def readout(
        self, x: Tensor, weights: DeviceReadout, cotangent: Tensor, u: Tensor
    ) -> None:
        """Energies, and the cotangent of the hidden layer."""
        z = self._product(x, weights.hidden) + weights.bias
        if weights.silu:
            s = torch.sigmoid(z)
            a, slope = z * s, s * (1.0 + z * (1.0 - s))
        else:
            a, slope = softplus(z) - LN2, softplus_slope(z)
        u.copy_(_fold(a.double() * weights.out.double()))
        cotangent.copy_(slope * weights.scaled)

    def totals(self, values: Tensor, out: Tensor) -> None:
        """Sums over atoms, one after the other."""
        out.copy_(values.cumsum(1)[:, -1])


def _fold(values: Tensor) -> Tensor:
    """Sum rows of a power of two, half upon half.

    The order in which torch sums a row may depend on how many rows there are.
    """
    while values.shape[1] > 1:
        half = values.shape[1] // 2
        values = values[:, :half] + values[:, half:]
    return values[:, 0]
