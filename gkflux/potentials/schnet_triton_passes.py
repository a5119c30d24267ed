"""Launches of the Triton kernels: grids, block sizes, room for the compact edges."""

import torch
from torch import Tensor

from gkflux.device_lists import DeviceLists
from gkflux.potentials import schnet_triton as edges
from gkflux.potentials import schnet_triton_dense as rows
from gkflux.potentials import schnet_triton_flux as fluxes
from gkflux.potentials.schnet_gpu_weights import DeviceReadout, DeviceWeights
from gkflux.potentials.schnet_tables import INTERVALS

__all__ = ["TritonPasses"]

# numbers of a tile of edges by features: 8 a thread in 128 threads
TILE = 1024
# edges, or atoms, that one program takes at a time where there are no features
CHUNK, ATOMS = 64, 256
# rows, columns and depth of a tile of a dense product
ROWS, COLS, DEPTH = 32, 32, 16


class TritonPasses:
    """See `Passes`; on a CUDA device, or in Triton's interpreter on a CPU.

    Args:
        weights: of the network.
        species: rows of the embedding by atom, ``(N,)``.
        replicas: how many share the rows; nothing here depends on it.
    """

    recordable = True

    def __init__(self, weights: DeviceWeights, species: Tensor, replicas: int) -> None:
        del replicas
        self._weights, self._n = weights, len(species)
        self._species = species.int()
        self._edges = max(1, TILE // weights.filters)
        self._count = torch.zeros(self._n, dtype=torch.int32, device=weights.device)
        self._nothing = torch.zeros(1, device=weights.device)
        self._room = -1

    def lists_changed(self, lists: DeviceLists) -> None:
        """Take note of a new list."""
        self._lists = lists
        room = len(lists.other)
        if room == self._room:
            return
        self._room, device = room, self._weights.device
        ints = torch.zeros(4, room, dtype=torch.int32, device=device)
        self._slot, self._end, self._kind, self._interval = ints.unbind()
        floats = torch.zeros(4, room, device=device)
        self._place, self._distance, self._gradient, self._power = floats.unbind()
        self._unit = torch.zeros(room, 3, device=device)

    def place(self, positions: Tensor) -> None:
        """Find the edges within the cutoff."""
        lists = self._lists
        edges.place_edges[(self._n,)](
            positions,
            lists.origin,
            lists.moved,
            self._species,
            lists.row,
            lists.other,
            lists.vectors,
            self._weights.scale,
            self._count,
            self._slot,
            self._end,
            self._kind,
            self._interval,
            self._place,
            self._unit,
            self._distance,
            INTERVALS=INTERVALS,
            CHUNK=CHUNK,
            num_warps=2,
        )

    def _index(self, t: int) -> Tensor:
        """Rows of y that edges read: of the other atom, or of its species."""
        return self._end if t else self._kind

    def convolve(self, t: int, y: Tensor, out: Tensor) -> None:
        """Sum the messages of a layer."""
        edges.convolve[(self._n,)](
            self._lists.row,
            self._count,
            self._index(t),
            self._interval,
            self._place,
            self._weights.layers[t].table,
            y,
            out,
            L=self._weights.filters,
            EDGES=self._edges,
        )

    def backward(
        self, t: int, y: Tensor, bm: Tensor, by: Tensor | None, *, fresh: bool
    ) -> None:
        """Gradients of the edges, and the cotangent of y."""
        edges.backward[(self._n,)](
            self._lists.row,
            self._count,
            self._index(t),
            self._end,
            self._slot,
            self._interval,
            self._place,
            self._weights.scale,
            self._weights.layers[t].table,
            y,
            bm,
            self._nothing if by is None else by,
            self._gradient,
            L=self._weights.filters,
            EDGES=self._edges,
            MESSAGES=by is not None,
            FRESH=fresh,
        )

    def collect(self, forces: Tensor, virials: Tensor) -> None:
        """Forces and virials of the atoms."""
        edges.collect[(self._n,)](
            self._lists.row,
            self._count,
            self._slot,
            self._lists.reverse,
            self._unit,
            self._distance,
            self._gradient,
            forces,
            virials,
            CHUNK=CHUNK,
            num_warps=2,
        )

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
        fluxes.rates[(self._n,)](
            self._lists.row,
            self._count,
            self._index(t),
            self._end,
            self._interval,
            self._place,
            self._unit,
            self._weights.scale,
            velocities,
            self._weights.layers[t].table,
            y,
            self._nothing if ydot is None else ydot,
            bm,
            self._nothing if mdot is None else mdot,
            self._power,
            L=self._weights.filters,
            EDGES=self._edges,
            FIRST=ydot is None,
            LAST=mdot is None,
            FRESH=t == 1,
        )

    def flux(
        self, velocities: Tensor, lattice: Tensor, out: Tensor, *, messages: bool
    ) -> None:
        """Fluxes of the atoms."""
        fluxes.flux[(self._n,)](
            self._lists.row,
            self._count,
            self._slot,
            self._end,
            self._unit,
            self._distance,
            self._lists.vectors,
            self._gradient,
            self._power,
            velocities,
            lattice,
            out,
            MESSAGES=messages,
            CHUNK=CHUNK,
            num_warps=2,
        )

    def powers(
        self, velocities: Tensor, *, messages: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """P of every edge, its centre, its other end. Waits for the device."""
        row, count = self._lists.row[:-1].long(), self._count.long()
        atoms = torch.arange(self._n, device=row.device)
        centre = torch.repeat_interleave(atoms, count)
        before = torch.cumsum(count, 0) - count
        k = torch.arange(len(centre), device=row.device) + (row - before)[centre]
        end = self._end[k].long()
        speed = (self._unit[k].double() * velocities[end]).sum(1)
        power = self._gradient[self._slot[k].long()].double() * speed
        return (power + self._power[k] if messages else power), centre, end

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
        mode = rows.PLAIN if base is None else rows.ADD
        mode = mode if times is None else rows.SCALE
        self._dense(mode, x, w, out, bias, base, times)

    def activate(
        self, x: Tensor, w: Tensor, bias: Tensor, out: Tensor, slope: Tensor
    ) -> None:
        """Product, bias, activation."""
        self._dense(rows.ACTIVATE, x, w, out, bias, None, slope)

    def _dense(
        self,
        mode: int,
        x: Tensor,
        w: Tensor,
        out: Tensor,
        bias: Tensor | None,
        base: Tensor | None,
        slope: Tensor | None,
    ) -> None:
        (k, m), nothing = w.shape, self._nothing
        columns = min(COLS, m)
        rows.dense[(-(-self._n // ROWS), m // columns)](
            x,
            w,
            nothing if bias is None else bias,
            nothing if base is None else base,
            nothing if slope is None else slope,
            out,
            self._n,
            K=k,
            M=m,
            ROWS=ROWS,
            COLS=columns,
            DEPTH=DEPTH,
            MODE=mode,
            BIAS=bias is not None,
        )

    def readout(
        self, x: Tensor, weights: DeviceReadout, cotangent: Tensor, u: Tensor
    ) -> None:
        """Energies, and the cotangent of the hidden layer."""
        k, h = weights.hidden.shape
        rows.readout[(-(-self._n // ROWS),)](
            x,
            weights.hidden,
            weights.bias,
            weights.out,
            weights.scaled,
            cotangent,
            u,
            self._n,
            K=k,
            H=h,
            ROWS=ROWS,
            DEPTH=DEPTH,
            SILU=weights.silu,
        )

    def totals(self, values: Tensor, out: Tensor) -> None:
        """Sums over atoms."""
        replicas, n, width = values.shape
        rows.totals[(replicas, width)](values, out, n, width, CHUNK=ATOMS)
