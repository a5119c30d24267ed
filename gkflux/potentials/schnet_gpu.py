"""The engine on a device: R replicas of a SchNet, float32, tabulated filters.

`DeviceSchNet` is the network on tensors that stay where they are: positions in; energies,
forces, virials, heat flux out; nothing waits for the host, so its work can be recorded in a
CUDA graph (`gkflux.dynamics.device_steps`). `DeviceBatch` is the same behind the `Batch`
that every other engine has: positions go to the device, results come back, call by call.

Sums over edges see only those within the cutoff, in canonical order, and sums over atoms
run replica by replica: the bits of a replica depend neither on its company nor on the age
or the skin of the lists.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gkflux.device_lists import DeviceLists
from gkflux.errors import FluxError
from gkflux.potentials.base import Books, Evaluation, FluxResult, Statistics
from gkflux.potentials.flux_parts import (
    books_of,
    check_formulation,
    check_motion,
    check_shape,
)
from gkflux.potentials.schnet_gpu_passes import Passes, PassesFor
from gkflux.potentials.schnet_gpu_weights import DeviceWeights
from gkflux.system import System
from stepson.units import KINETIC

__all__ = ["DeviceBatch", "DeviceSchNet"]

Floats = NDArray[np.float64]


class DeviceSchNet:
    """The network, its lists, and all that it keeps between passes.

    Attributes:
        positions, velocities: ``(N, 3)``, Å, Å/fs, float64, N = R n: whoever moves the
            atoms writes here.
        lattice: ``(N, 3)``, Å: sites of the reference lattice, zeros without one.
        forces: ``(N, 3)``, eV/Å, of the last `evaluate`.
        energies: ``(N, 1)``, U_i, eV. energy: ``(R, 1)``, eV. virial: ``(R, 9)``, eV.
        plain, gauged: ``(R, 3)``, eV Å/fs, of the last `flux`.
        lists: `DeviceLists`; `build` them before the first `evaluate`.
    """

    def __init__(
        self,
        weights: DeviceWeights,
        systems: Sequence[System],
        skin: float | None = None,
        passes: PassesFor | None = None,
    ) -> None:
        """Allocate everything.

        Args:
            weights: of the network, on the device.
            systems: replicas: the same species, cells of their own.
            skin: Å; None tunes itself.
            passes: who computes; None: Triton on a CUDA device, plain torch elsewhere.
        """
        self.weights, self.device = weights, weights.device
        self.replicas, self.n = len(systems), systems[0].n_atoms
        self.lists = DeviceLists(systems, weights.cutoff, skin, self.device)
        species = torch.tensor(np.array(systems[0].numbers), device=self.device)
        species = species.long().repeat(self.replicas)
        chosen = _passes(self.device) if passes is None else passes
        self.passes: Passes = chosen(weights, species, self.replicas)
        masses = np.concatenate([system.masses for system in systems])
        self._half_masses = self._doubles(masses[:, None]) * (0.5 * KINETIC)
        self._allocate(species)

    def _doubles(self, values: Floats) -> Tensor:
        return torch.tensor(np.array(values, dtype=np.float64), device=self.device)

    def _allocate(self, species: Tensor) -> None:
        w, rows = self.weights, self.replicas * self.n
        f, l, h, layers = w.features, w.filters, len(w.readout.bias), len(w.layers)

        def floats(width: int) -> Tensor:
            return torch.zeros(rows, width, device=self.device)

        def doubles(count: int, width: int) -> Tensor:
            return torch.zeros(count, width, dtype=torch.float64, device=self.device)

        self.positions, self.velocities = doubles(rows, 3), doubles(rows, 3)
        self.lattice, self.forces = doubles(rows, 3), doubles(rows, 3)
        self._virials, self._fluxes = doubles(rows, 9), doubles(rows, 6)
        self._u, self.energies = doubles(rows, 1), doubles(rows, 1)
        self.energy, self.virial = doubles(self.replicas, 1), doubles(self.replicas, 9)
        self._both, self._carried = doubles(self.replicas, 6), doubles(self.replicas, 3)
        self.plain, self.gauged = self._both[:, :3], self._both[:, 3:]
        self.kinetic = doubles(self.replicas, 1)
        self._embedded = w.embedding[species].contiguous()
        self._own = w.reference[species, None].contiguous()
        self._x, self._bx, self._xdot = floats(f), floats(f), floats(f)
        self._hidden, self._message, self._cotangent = floats(f), floats(l), floats(h)
        self._y = [w.gathered, *(floats(l) for _ in range(layers - 1))]
        self._ydot: list[Tensor | None] = [None, *(floats(l) for _ in range(layers - 1))]
        self._bm = [floats(l) for _ in range(layers)]
        self._slope = [floats(f) for _ in range(layers)]

    def active(self) -> AbstractContextManager[object]:
        """Make this device the current one: kernels are launched there, and only there."""
        on_gpu = self.device.type == "cuda"
        return torch.cuda.device(self.device) if on_gpu else nullcontext()

    def build(self) -> None:
        """Make the lists for the present positions. Waits for the device.

        Raises:
            FluxError: positions that are not finite.
        """
        self.lists.build(self.positions)
        self.passes.lists_changed(self.lists)

    def evaluate(self) -> None:
        """Energies, forces and virial at the present positions, with the lists as they are.

        Whether the lists still hold is for the caller to ask.
        """
        self.passes.place(self.positions)
        self._forward()
        self._backward()
        self.passes.collect(self.forces, self._virials)
        w = self.weights
        torch.mul(self._u, w.stddev, out=self.energies)
        self.energies.add_(self._own).add_(w.offset)
        self._total(self.energies, self.energy)
        self._total(self._virials, self.virial)

    def _total(self, values: Tensor, out: Tensor) -> None:
        self.passes.totals(values.view(self.replicas, self.n, -1), out)

    def _forward(self) -> None:
        layers, p = self.weights.layers, self.passes
        before = self._embedded
        for t, layer in enumerate(layers):
            p.convolve(t, self._y[t], self._message)
            p.activate(self._message, layer.d1, layer.d1_bias, self._hidden, self._slope[t])
            p.dense(self._hidden, layer.d2, self._x, bias=layer.d2_bias, base=before)
            before = self._x
            if t + 1 < len(layers):
                p.dense(self._x, layers[t + 1].b, self._y[t + 1])
        p.readout(self._x, self.weights.readout, self._cotangent, self._u[:, 0])

    def _backward(self) -> None:
        layers, p, message = self.weights.layers, self.passes, self._message
        last = len(layers) - 1
        p.dense(self._cotangent, self.weights.readout.hidden_t, self._bx)
        for t in range(last, -1, -1):
            layer = layers[t]
            p.dense(self._bx, layer.d2_t, self._hidden, times=self._slope[t])
            p.dense(self._hidden, layer.d1_t, self._bm[t])
            by = message if t else None
            p.backward(t, self._y[t], self._bm[t], by, fresh=t == last)
            if t:
                p.dense(message, layer.b_t, self._bx, base=self._bx)

    def flux(self, *, messages: bool = True, convective: bool = True) -> None:
        """Heat flux at the positions of the last `evaluate`, with the present velocities.

        Args:
            messages: count the power that messages carry (formulation "semilocal").
            convective: add sum_i (m v^2 / 2 + U_i - u_s) v_i to ``plain``.
        """
        messages = messages and len(self.weights.layers) > 1
        if messages:
            self._tangent()
        self.passes.flux(self.velocities, self.lattice, self._fluxes, messages=messages)
        self._total(self._fluxes, self._both)
        if convective:
            own = self._kinetic_energies() + (self.energies - self._own)
            self._total(own * self.velocities, self._carried)
            self.plain.add_(self._carried)

    def _kinetic_energies(self) -> Tensor:
        v = self.velocities
        square = (v[:, 0] * v[:, 0] + v[:, 1] * v[:, 1]) + v[:, 2] * v[:, 2]
        return self._half_masses * square[:, None]

    def _tangent(self) -> None:
        layers, p, mdot = self.weights.layers, self.passes, self._message
        last = len(layers) - 1
        for t, layer in enumerate(layers):
            out = None if t == last else mdot
            p.rates(t, self.velocities, self._y[t], self._ydot[t], self._bm[t], out)
            following = self._ydot[t + 1] if t < last else None
            if following is None:
                continue
            p.dense(mdot, layer.d1, self._hidden, times=self._slope[t])
            p.dense(self._hidden, layer.d2, self._xdot, base=self._xdot if t else None)
            p.dense(self._xdot, layers[t + 1].b, following)

    def set_lattice(self, sites: Floats | None) -> None:
        """Use these sites, ``(n, 3)``, Å, for ``gauged``; None: zeros."""
        if sites is None:
            self.lattice.zero_()
            return
        each = self.lattice.view(self.replicas, self.n, 3)
        each.copy_(torch.tensor(np.array(sites), device=self.device))

    def evaluation(self) -> Evaluation:
        """What the last `evaluate` gave, copied to the host. Waits for the device."""
        shape = (self.replicas, self.n)
        return Evaluation(
            _numpy(self.energy[:, 0]),
            _numpy(self.energies.view(shape)),
            _numpy(self.forces.view(*shape, 3)),
            _numpy(self.virial.view(-1, 3, 3)),
        )

    def measure_kinetic(self) -> None:
        """Write the kinetic energy of each replica to ``kinetic``, ``(R, 1)``, eV."""
        self._total(self._kinetic_energies(), self.kinetic)


class DeviceBatch:
    """The `Batch` of a `DeviceSchNet`.

    Args:
        network: the engine.
    """

    def __init__(self, network: DeviceSchNet) -> None:
        self.network = network
        self._calls = 0
        self._messages = False

    @property
    def statistics(self) -> Statistics:
        """Counters; see `Statistics`."""
        lists = self.network.lists
        return Statistics(self._calls, lists.rebuilds, lists.skin, lists.edges)

    @torch.no_grad()
    def forces(self, positions: Floats, cells: Floats | None = None) -> Evaluation:
        """See `Batch.forces`."""
        net = self.network
        check_shape("positions", positions, (net.replicas, net.n, 3))
        with net.active():
            net.positions.copy_(torch.tensor(np.array(positions)).view(-1, 3))
            net.lists.take(cells)
            if not net.lists.fits(net.positions):
                net.build()
            net.evaluate()
        self._calls += 1
        return net.evaluation()

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
        if not self._calls:
            raise FluxError("heat_flux() uses the features of forces(): call that first")
        net = self.network
        check_motion(velocities, lattice, (net.replicas, net.n, 3))
        self._messages = check_formulation(formulation) and len(net.weights.layers) > 1
        with net.active():
            net.velocities.copy_(torch.tensor(np.array(velocities)).view(-1, 3))
            net.set_lattice(lattice)
            net.flux(messages=self._messages, convective=convective)
        gauged = None if lattice is None else _numpy(net.gauged)
        return FluxResult(_numpy(net.plain), gauged)

    @torch.no_grad()
    def books(self) -> Books:
        """See `KeepsBooks.books`; added up in float64, on the host."""
        net = self.network
        with net.active():
            edges = net.passes.powers(net.velocities, messages=self._messages)
        power, centre, other = (_numpy(tensor) for tensor in edges)
        found = books_of(power, centre, other, net.replicas * net.n)
        return Books(*(column.reshape(net.replicas, net.n) for column in found))


def _numpy(tensor: Tensor) -> NDArray[Any]:
    return np.array(tensor.cpu().numpy())


def _passes(device: torch.device) -> PassesFor:
    """Triton on a CUDA device, plain torch elsewhere."""
    if device.type == "cuda":
        from gkflux.potentials.schnet_triton_passes import TritonPasses

        return TritonPasses
    from gkflux.potentials.schnet_gpu_torch import TorchPasses

    return TorchPasses
