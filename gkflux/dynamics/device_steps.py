"""Blocks of steps on a device: state, lists and samples stay there until a block is done.

A block of at most 32 steps is a fixed sequence of kernels without a word from the host. On
a CUDA device it is recorded once as a graph, and then costs one launch; elsewhere, and at
first, the same kernels run one by one, with the same bits. At the end one copy brings the
samples, and two numbers that say whether the block counts:

* how far atoms came from where the neighbour lists were built. Too far for the skin: back
  to the start of the block, new lists, again. A step that is too long even for fresh lists
  is done alone, with lists looked at in its middle. No result depends on lists, so nobody
  can tell.
* how fast atoms were. Too fast: back again, and on step by step until
  `guards.check_motion` names the step and the atom.

What the loop of a run needs::

    steps = DeviceSteps(network, state, mover, masses=masses, longest=..., timestep=...)
    steps.begin()
    steps.advance(1000, recorder.due, recorder.put)
    steps.state, steps.evaluation  # copies, at a step that is complete

``put(step, values)`` is called in order, after every block, with what was due: the values
of `Engine.measure`, each ``(R, ...)``, float64. Where a step fails, all steps before it
have been handed over.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gkflux.dynamics.device_movers import Mover
from gkflux.dynamics.engine import Flux
from gkflux.dynamics.guards import check_motion
from gkflux.dynamics.state import Floats, State, degrees_of_freedom, temperature
from gkflux.potentials.base import Evaluation
from gkflux.potentials.schnet_gpu import DeviceSchNet

__all__ = ["BLOCK", "DeviceSteps", "Put"]

BLOCK = 32

Put = Callable[[int, dict[str, Floats]], None]
"""Takes a step, and the fields that are due there, each ``(R, ...)``."""

Pattern = tuple[tuple[str, ...], ...]
"""Fields to sample, by step of a block."""

# a graph for every pattern that keeps coming back; cadences of 100 make 25
PATTERNS = 64
# the numbers in front of the samples: distance² from the lists, speed²
FLAGS = 2


@dataclass
class _Recorded:
    """A pattern that was seen: where its samples go, and its graph once there is one."""

    samples: Tensor
    host: Tensor
    version: int
    graph: torch.cuda.CUDAGraph | None = None


class DeviceSteps:
    """Steps of R replicas on a device.

    Attributes:
        step: number of the last completed step.
        graphs: record blocks as CUDA graphs; False runs the same kernels one by one.
    """

    def __init__(
        self,
        network: DeviceSchNet,
        state: State,
        mover: Mover,
        *,
        masses: Floats,
        volume: float,
        timestep: float,
        longest: float,
        flux: Flux | None = None,
        block: int = BLOCK,
    ) -> None:
        """Put the state on the device; `begin` computes the first forces.

        Args:
            network: engine of these replicas; their cells stay as they are.
            state: copied.
            mover: integrator of that engine's atoms.
            masses: ``(n,)``, amu.
            volume: of the cell, Å³, for the stress.
            timestep: fs.
            longest: distance that no atom may move in one step, Å.
            flux: which heat flux to compute where it is due.
            block: steps without the host at most; the mover must be ready for as many.
        """
        self._net, self._mover, self.step = network, mover, state.step
        self._volume, self._timestep, self._longest = volume, timestep, longest
        self._block_steps, self._cells = block, state.cells
        self._flux = Flux() if flux is None else flux
        self._freedom = degrees_of_freedom(
            len(masses), momentum_conserved=mover.conserves_momentum
        )
        self.graphs = network.device.type == "cuda" and network.passes.recordable
        self._patterns: dict[Pattern, _Recorded] = {}
        net = network
        self._heat = torch.tensor(state.heat[:, None], device=net.device)
        net.positions.copy_(torch.tensor(state.positions).view(-1, 3))
        net.velocities.copy_(torch.tensor(state.velocities).view(-1, 3))
        net.set_lattice(self._flux.lattice)
        self._moving = (net.positions, net.velocities, net.forces, self._heat)
        self._saved = [tensor.clone() for tensor in self._moving]
        self._fast = net.positions.new_zeros(len(net.positions))

    @torch.no_grad()
    def begin(self) -> None:
        """Compute the forces at the present positions."""
        with self._net.active():
            if not self._net.lists.fits(self._net.positions):
                self._net.build()
            self._net.evaluate()

    @property
    def state(self) -> State:
        """The present state, copied to the host."""
        r, v, _, heat = (_host(tensor) for tensor in self._moving)
        shape = (self._net.replicas, self._net.n, 3)
        return State(
            self.step, r.reshape(shape), v.reshape(shape), heat[:, 0].copy(), self._cells
        )

    @property
    def evaluation(self) -> Evaluation:
        """Energies and forces at the present positions, copied to the host.

        After a block they are those of its last step, as the forces are that it ends with.
        """
        return self._net.evaluation()

    @torch.no_grad()
    def advance(
        self,
        steps: int,
        due: Callable[[int], Collection[str]] = lambda step: (),
        put: Put = lambda step, values: None,
    ) -> None:
        """Compute so many steps.

        Args:
            steps: to compute.
            due: names of the fields of which a step needs a sample.
            put: takes the samples of a step.

        Raises:
            UnstableError: an atom flew away, or its place is not finite.
        """
        end, length = self.step + steps, self._block_steps
        with self._net.active():
            while self.step < end:
                # blocks begin at multiples of their length, so that patterns come back
                count = min(length - self.step % length, end - self.step)
                pattern = tuple(tuple(due(self.step + 1 + j)) for j in range(count))
                self._attempt(pattern, put, fresh=False)

    def _attempt(self, pattern: Pattern, put: Put, *, fresh: bool) -> None:
        """Compute a block; ``fresh``: the lists were built where it starts."""
        recorded = self._launch(pattern)
        moved, speed = recorded.host[:FLAGS].tolist()
        fast = not speed * self._timestep**2 < self._longest**2
        if not fast and self._net.lists.held(moved):
            self._completed(pattern, recorded, put)
            return
        self._go_back()
        if fast or len(pattern) == 1:
            for names in pattern:
                self._careful(names, put)
        elif fresh:
            half = len(pattern) // 2
            self._attempt(pattern[:half], put, fresh=True)
            self._attempt(pattern[half:], put, fresh=False)
        else:
            self._net.build()
            self._net.lists.widen()
            self._attempt(pattern, put, fresh=True)

    def _go_back(self) -> None:
        for tensor, saved in zip(self._moving, self._saved, strict=True):
            tensor.copy_(saved)

    def _launch(self, pattern: Pattern) -> _Recorded:
        """Run a block, and wait for its samples."""
        self._mover.prepare(self.step, len(pattern))
        recorded = self._patterns.get(pattern)
        version = self._net.lists.version
        if recorded is None or recorded.version != version:
            # the first time one by one: kernels must be compiled before they are recorded
            if len(self._patterns) >= PATTERNS:
                self._patterns.clear()
            recorded = self._patterns[pattern] = self._prepared(pattern, version)
            self._block(pattern, recorded.samples)
        elif not self.graphs:
            self._block(pattern, recorded.samples)
        else:
            if recorded.graph is None:
                recorded.graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(recorded.graph):
                    self._block(pattern, recorded.samples)
            recorded.graph.replay()
        recorded.host.copy_(recorded.samples, non_blocking=True)
        if self._net.device.type == "cuda":
            torch.cuda.current_stream().synchronize()
        return recorded

    def _prepared(self, pattern: Pattern, version: int) -> _Recorded:
        size = FLAGS + sum(self._size(name) for names in pattern for name in names)
        samples = self._heat.new_zeros(size)
        pinned = self._net.device.type == "cuda"
        host = torch.zeros(size, dtype=torch.float64, pin_memory=pinned)
        return _Recorded(samples, host, version)

    def _block(self, pattern: Pattern, samples: Tensor) -> None:
        """The kernels of a block: nothing in here may wait for the host."""
        net = self._net
        for tensor, saved in zip(self._moving, self._saved, strict=True):
            saved.copy_(tensor)
        self._fast.zero_()
        at = FLAGS
        for j, names in enumerate(pattern):
            self._mover.first(net, self._heat, j)
            net.evaluate()
            at = self._finish(names, samples, at)
        samples[0] = net.lists.moved.max()
        samples[1] = self._fast.max()

    def _careful(self, names: tuple[str, ...], put: Put) -> None:
        """One step that nothing is presumed of: lists are looked at in its middle."""
        net = self._net
        self._mover.prepare(self.step, 1)
        recorded = self._prepared((names,), -1)
        self._mover.first(net, self._heat, 0)
        check_motion(self.state, self._longest, self._timestep, step=self.step + 1)
        if not net.lists.fits(net.positions):
            net.build()
        net.evaluate()
        self._finish(names, recorded.samples, FLAGS)
        recorded.host.copy_(recorded.samples)
        check_motion(self.state, self._longest, self._timestep, step=self.step + 1)
        self._completed((names,), recorded, put)

    def _finish(self, names: Sequence[str], samples: Tensor, at: int) -> int:
        """Second half of a step, its guard, and its samples from place ``at`` on."""
        net = self._net
        self._mover.second(net)
        v = net.velocities
        torch.maximum(self._fast, (v * v).sum(1), out=self._fast)
        if "heat_flux" in names:
            net.flux(
                messages=self._flux.formulation == "semilocal",
                convective=self._flux.convective,
            )
        if {"energy_kinetic", "temperature"} & set(names):
            net.measure_kinetic()
        for name in names:
            values = self._source(name)
            samples[at : at + values.numel()].view(values.shape).copy_(values)
            at += values.numel()
        return at

    def _source(self, name: str) -> Tensor:
        net = self._net
        flux = net.plain if self._flux.lattice is None else net.gauged
        return {
            "positions": net.positions,
            "velocities": net.velocities,
            "forces": net.forces,
            "energy": net.energy,
            "energy_kinetic": net.kinetic,
            "temperature": net.kinetic,
            "stress": net.virial,
            "heat_flux": flux,
        }[name]

    def _size(self, name: str) -> int:
        return self._source(name).numel()

    def _completed(self, pattern: Pattern, recorded: _Recorded, put: Put) -> None:
        """Count the steps; take the samples apart, and hand them over."""
        at = FLAGS
        for names in pattern:
            self.step += 1
            values = {}
            for name in names:
                size = self._size(name)
                values[name] = self._shaped(name, _host(recorded.host[at : at + size]))
                at += size
            if names:
                put(self.step, values)

    def _shaped(self, name: str, values: Floats) -> Floats:
        if name in ("energy", "energy_kinetic"):
            return values
        if name == "temperature":
            return temperature(values, self._freedom)
        if name == "heat_flux":
            return values.reshape(-1, 3)
        if name == "stress":
            return values.reshape(-1, 3, 3) / self._volume
        return values.reshape(self._net.replicas, self._net.n, 3)


def _host(tensor: Tensor) -> Floats:
    return np.array(tensor.cpu().numpy())
