"""Integrators on tensors: the formulas of `verlet.py` and `langevin.py`, bit for bit.

Products and sums are separate operations, as numpy does them. Random numbers are made for a
block of steps before it, so a recorded block (a CUDA graph) finds them where it expects.
"""

from collections.abc import Sequence
from math import exp
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from gkflux.dynamics.device_noise import device_normals
from gkflux.dynamics.state import Floats
from gkflux.potentials.schnet_gpu import DeviceSchNet
from stepson.units import BOLTZMANN, KINETIC

__all__ = ["DeviceLangevin", "DeviceVerlet", "Mover"]


class Mover(Protocol):
    """One timestep in two halves, with new forces between them."""

    conserves_momentum: bool

    def prepare(self, step: int, count: int) -> None:
        """Make ready for ``count`` steps that begin at ``step``."""

    def first(self, net: DeviceSchNet, heat: Tensor, j: int) -> None:
        """Move with the forces at the old positions; j counts from `prepare`."""

    def second(self, net: DeviceSchNet) -> None:
        """Complete the velocities with the forces at the new positions."""


class DeviceVerlet:
    """Velocity Verlet; see `verlet.VelocityVerlet`.

    Args:
        net: whose atoms move.
        masses: ``(n,)``, amu.
        timestep: fs.
    """

    conserves_momentum = True

    def __init__(self, net: DeviceSchNet, masses: Floats, *, timestep: float) -> None:
        half = 0.5 * timestep / (KINETIC * masses[:, None])
        self._half = torch.tensor(half, device=net.device).repeat(net.replicas, 1)
        self._timestep = timestep
        self._work = torch.empty_like(net.positions)

    def prepare(self, step: int, count: int) -> None:
        """Nothing to prepare."""

    def first(self, net: DeviceSchNet, heat: Tensor, j: int) -> None:
        """Half a kick, a whole drift."""
        net.velocities.add_(torch.mul(net.forces, self._half, out=self._work))
        net.positions.add_(torch.mul(net.velocities, self._timestep, out=self._work))

    def second(self, net: DeviceSchNet) -> None:
        """Half a kick."""
        net.velocities.add_(torch.mul(net.forces, self._half, out=self._work))


class DeviceLangevin:
    """BAOAB; see `langevin.Langevin`.

    Args:
        net: whose atoms move.
        masses: ``(n,)``, amu.
        timestep: fs.
        temperature: K.
        friction: 1/fs.
        streams: for each replica the key of its noise (`noise.key`).
        block: steps that are prepared together at most.
    """

    conserves_momentum = False

    def __init__(
        self,
        net: DeviceSchNet,
        masses: Floats,
        *,
        timestep: float,
        temperature: float,
        friction: float,
        streams: Sequence[np.uint64],
        block: int,
    ) -> None:
        keep = exp(-friction * timestep)
        width = np.sqrt((1 - keep * keep) * BOLTZMANN * temperature / (KINETIC * masses))

        def column(values: Floats) -> Tensor:
            return torch.tensor(values[:, None], device=net.device).repeat(net.replicas, 1)

        self._half = column(0.5 * timestep / (KINETIC * masses))
        self._width, self._energies = column(width), column(0.5 * KINETIC * masses)
        self._keep, self._half_time = keep, 0.5 * timestep
        bits = np.array(streams, dtype=np.uint64).view(np.int64)
        self._streams = torch.tensor(bits, device=net.device)
        self._noise = net.positions.new_empty(block, *net.positions.shape)
        self._gained = torch.empty_like(net.kinetic)
        self._work = torch.empty_like(net.positions)

    def prepare(self, step: int, count: int) -> None:
        """Draw the random numbers of the steps."""
        steps = torch.arange(step, step + count, device=self._noise.device)
        n = self._noise.shape[1] // len(self._streams)
        self._noise[:count] = device_normals(self._streams, steps, n).flatten(1, 2)

    def first(self, net: DeviceSchNet, heat: Tensor, j: int) -> None:
        """B, A, O, A."""
        v, work = net.velocities, self._work
        v.add_(torch.mul(net.forces, self._half, out=work))
        net.positions.add_(torch.mul(v, self._half_time, out=work))
        before = _square(v)
        torch.mul(self._noise[j], self._width, out=work)
        v.mul_(self._keep).add_(work)
        gained = self._energies * (_square(v) - before)
        net.passes.totals(gained.view(net.replicas, net.n, 1), self._gained)
        heat.add_(self._gained)
        net.positions.add_(torch.mul(v, self._half_time, out=work))

    def second(self, net: DeviceSchNet) -> None:
        """B."""
        net.velocities.add_(torch.mul(net.forces, self._half, out=self._work))


def _square(v: Tensor) -> Tensor:
    return ((v[:, :1] * v[:, :1]) + v[:, 1:2] * v[:, 1:2]) + v[:, 2:] * v[:, 2:]
