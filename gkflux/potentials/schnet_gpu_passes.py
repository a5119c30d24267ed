"""What a device engine asks of whoever computes: Triton, or plain torch.

A pass reads and writes tensors that stay where they are, never waits for the host, and
gives each replica the same bits in any company. `lists_changed` is called when the list, or
the memory it is in, is another one.

=================  =======================================================================
pass               computes (names of ``gkflux/README.md``)
=================  =======================================================================
`place`            which edges are within the cutoff, and where they are in the tables
`convolve`         m = sum y_o W
`backward`         dU/dr of the edges, and dU/dy = sum bm_o W
`collect`          forces, and each atom's part of the virial
`rates`            dm/dt, and the power of messages
`flux`             - sum d P and - sum d0 P of each atom
`powers`           P of each edge
`dense`            a product with a small matrix, and what follows on it
`readout`          energies, and their derivative by the hidden layer
`totals`           sums over atoms
=================  =======================================================================
"""

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from gkflux.device_lists import DeviceLists
from gkflux.potentials.schnet_gpu_weights import DeviceReadout, DeviceWeights

__all__ = ["Passes", "PassesFor"]


class Passes(Protocol):
    """The passes of a SchNet over all replicas; t is the number of a layer.

    ``recordable``: never wait for the host, so a CUDA graph can hold them.
    """

    recordable: bool

    def lists_changed(self, lists: DeviceLists) -> None:
        """Take note of a new list."""

    def place(self, positions: Tensor) -> None:
        """Find the edges within the cutoff at positions ``(N, 3)``, Å, float64.

        ``lists.moved`` grows to the largest distance² from the positions of the list.
        """

    def convolve(self, t: int, y: Tensor, out: Tensor) -> None:
        """Messages ``(N, L)`` from y, ``(N, L)``, of layer 0 by species."""

    def backward(
        self, t: int, y: Tensor, bm: Tensor, by: Tensor | None, *, fresh: bool
    ) -> None:
        """Add to the gradients of the edges (``fresh``: begin); write ``by`` if asked."""

    def collect(self, forces: Tensor, virials: Tensor) -> None:
        """Forces ``(N, 3)``, virials ``(N, 9)``, float64."""

    def rates(
        self,
        t: int,
        velocities: Tensor,
        y: Tensor,
        ydot: Tensor | None,
        bm: Tensor,
        mdot: Tensor | None,
    ) -> None:
        """Write dm/dt if asked; where there is ``ydot``, add to the powers (t 1: begin)."""

    def flux(
        self, velocities: Tensor, lattice: Tensor, out: Tensor, *, messages: bool
    ) -> None:
        """Both gauges of each atom, ``(N, 6)``, float64."""

    def powers(
        self, velocities: Tensor, *, messages: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return P of every edge, eV/fs, float64, its centre and its other end, int64."""

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
        """Out = [base +] x @ w [+ bias], or (x @ w) times."""

    def activate(
        self, x: Tensor, w: Tensor, bias: Tensor, out: Tensor, slope: Tensor
    ) -> None:
        """Out = ssp(z), slope = ssp'(z), z = x @ w + bias."""

    def readout(
        self, x: Tensor, weights: DeviceReadout, cotangent: Tensor, u: Tensor
    ) -> None:
        """Energies ``(N,)``, float64, without scale and shift; dU/d(hidden) ``(N, H)``."""

    def totals(self, values: Tensor, out: Tensor) -> None:
        """Sum ``(R, n, k)`` over atoms into ``(R, k)``, float64."""


PassesFor = Callable[[DeviceWeights, Tensor, int], Passes]
"""``(weights, species, replicas)``; species: rows of the embedding, ``(N,)``, int64."""
