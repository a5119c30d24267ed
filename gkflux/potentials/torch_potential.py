"""Any torch module as a `Potential`: energies, forces, stress, dynamics, exact heat flux.

The module has one method of its own,

    forward(numbers, d, centre, other, n_atoms, gather) -> U_i, shape (n,), eV

in plain differentiable torch, and fetches whatever lives on atoms along edges with
``gather(x, other)`` alone. A model that indexes ``x[other]`` behind its back has right
forces, and a wrong heat flux; what it then leaves out is missing in the energy balance of
single atoms, so that is looked at before the first flux (`check_gathers`).
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gkflux.errors import FluxError
from gkflux.potentials.autograd import AutogradBatch, Differentiated
from gkflux.potentials.base import (
    Batch,
    FluxResult,
    Gather,
    Potential,
    gather,
)
from gkflux.potentials.model_file import digest
from gkflux.system import System

__all__ = ["TorchPotential", "check_gathers"]

Floats = NDArray[np.float64]

CLOSED = {torch.float64: 1e-9, torch.float32: 1e-4}
"""Largest imbalance of an atom, relative to the largest rate of an energy."""
ENOUGH = 64
"""Atoms that are looked at: more cost time, and show no more."""


class TorchPotential(Differentiated):
    """A torch module, ready for everything that a `Potential` can do.

    Args:
        network: the module; copied to dtype and device, its gradients are not needed.
        cutoff: the longest edge that it wants to see, Å.
        layers: how often rows of atoms travel along edges: 1 where only what is constant
            (embeddings) or nothing is gathered, T for a network of T interaction layers.
        elements: atomic numbers that it is trained on; None accepts all.
        references: u_s by atomic number, eV: constants that forward adds to U_i of a
            species; the convective flux leaves them out. 0 where absent.
        dtype: "float32" or "float64", of the network; sums over edges are float64 always.
        device: "cpu" or "cuda".
        provenance: plain values, recorded with every run; the sha256 of the weights is
            added.

    Raises:
        FluxError: a cutoff or a number of layers that is none.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        cutoff: float,
        layers: int,
        elements: Iterable[int] | None = None,
        references: Mapping[int, float] | None = None,
        dtype: str = "float64",
        device: str = "cpu",
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        if dtype not in ("float32", "float64"):
            raise FluxError(f"dtype {dtype!r} is neither float32 nor float64")
        if not cutoff > 0 or layers < 1:
            raise FluxError(
                f"cutoff {cutoff} must be a length in Å, and layers {layers} at least 1"
            )
        self.cutoff, self.layers = float(cutoff), int(layers)
        self.elements = None if elements is None else frozenset(int(z) for z in elements)
        self.references = dict(references or {})
        self.dtype = torch.float32 if dtype == "float32" else torch.float64
        self.device = torch.device(device)
        self.network = deepcopy(network).to(device=self.device, dtype=self.dtype).eval()
        self.network.requires_grad_(False)
        self.balanced = False
        self.provenance: Mapping[str, Any] = {
            "kind": type(network).__name__,
            "dtype": dtype,
            "layers": self.layers,
            "cutoff": self.cutoff,
            **(provenance or {}),
            "sha256": _digest(network),
        }

    def energies(
        self,
        numbers: Tensor,
        d: Tensor,
        centre: Tensor,
        other: Tensor,
        n_atoms: int,
        gather: Gather = gather,
    ) -> Tensor:
        """U_i as the module gives it; see `Potential.energies`.

        Raises:
            FluxError: not one energy an atom.
        """
        u = self.network(numbers, d, centre, other, n_atoms, gather)
        if not isinstance(u, Tensor) or u.shape != (n_atoms,):
            found = tuple(u.shape) if isinstance(u, Tensor) else type(u).__name__
            raise FluxError(
                f"forward of {type(self.network).__name__} returns {found}, expected one "
                f"energy an atom, shape ({n_atoms},), in eV"
            )
        return u

    def reference_energies(self, numbers: NDArray[np.int64]) -> Floats:
        """u_s as given, shape ``(n,)``, eV."""
        return np.array([self.references.get(int(z), 0.0) for z in numbers])

    def batch(self, systems: Sequence[System], *, skin: float | None = None) -> Batch:
        """See `Potential.batch`; without a skin, the list is built at every step."""
        return _Watched(self, systems)


class _Watched(AutogradBatch):
    """The generic engine; it sees to the gathers before it computes the first flux."""

    def __init__(self, potential: TorchPotential, systems: Sequence[System]) -> None:
        super().__init__(potential, systems)
        self._own = potential

    def _one(self, r: int) -> tuple[Floats, Floats, Floats]:
        u, forces, virial = super()._one(r)
        good = np.isfinite(u) & np.isfinite(forces).all(axis=1)
        if not good.all():
            raise FluxError(
                f"{type(self._own.network).__name__} gives values that are not finite, "
                f"first at atom {int(good.argmin())}; look for 0/0 in its forward or "
                "backward (a norm of a zero vector, a division by a distance)"
            )
        return u, forces, virial

    def heat_flux(
        self,
        velocities: Floats,
        *,
        formulation: str = "semilocal",
        lattice: Floats | None = None,
        convective: bool = True,
    ) -> FluxResult:
        """See `Batch.heat_flux`."""
        if not self._own.balanced and self._positions is not None:
            check_gathers(
                self._own, self.systems[0].moved(self._positions[0], self._cells[0])
            )
            self._own.balanced = True
        return super().heat_flux(
            velocities, formulation=formulation, lattice=lattice, convective=convective
        )


def check_gathers(potential: Potential, system: System) -> None:
    """See that a potential moves nothing between atoms but through `gather`.

    With velocities drawn at random, the energy of every atom must change by what flows in
    along its edges less what flows out. What travels by another way is missing there.

    Args:
        potential: any.
        system: a structure as it will be used; a part of it is enough.

    Raises:
        FluxError: it does not balance, there are more layers than it says, or torch cannot
            differentiate it forwards, or not to finite numbers.
    """
    from gkflux.flux import edge_powers, local_power

    part = _part(system)
    v = np.random.default_rng(0).normal(0.0, 0.01, part.positions.shape)
    try:
        powers = edge_powers(potential, part, v)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise FluxError(
            "the heat flux needs a forward derivative of the model, and torch has none: "
            f"{reason}"
        ) from error
    dtype: torch.dtype = getattr(potential, "dtype", torch.float64)
    work = np.einsum("ia,ia->i", powers.forces, v)
    size = np.abs(powers.energy_rates).max(initial=0) + np.abs(work).max(initial=0)
    wrong = np.abs(powers.imbalance())
    worst = int(wrong.argmax())
    if not np.isfinite(wrong[worst]):
        raise FluxError(
            f"the rate of the energy of atom {worst} is not finite: look for a function "
            "without a derivative (a norm of a zero vector) in the forward of the model"
        )
    if wrong[worst] > CLOSED.get(dtype, 1e-4) * size:
        raise FluxError(
            f"the energy of atom {worst} does not balance ({wrong[worst] / size:.1e} of "
            "the largest rate): the model reads features of other atoms without gather; "
            "use gather(x, other) wherever rows of atoms are taken along edges"
        )
    messages = np.abs(powers.power - local_power(powers)).max(initial=0)
    if potential.layers == 1 and messages > CLOSED.get(dtype, 1e-4) * size:
        raise FluxError(
            "the model says layers = 1, but gathers features that change in time; give the "
            "number of its interaction layers"
        )


def _part(system: System) -> System:
    """The structure, or the atoms around its first one, if it is large."""
    if system.n_atoms <= ENOUGH:
        return system
    far = np.linalg.norm(system.positions - system.positions[0], axis=1)
    near = np.sort(np.argsort(far, kind="stable")[:ENOUGH])
    return System(positions=system.positions[near], numbers=system.numbers[near])


def _digest(network: nn.Module) -> str:
    """The sha256 of the class and of the weights, by name."""
    state = {k: v for k, v in network.state_dict().items() if isinstance(v, Tensor)}
    text = f"{type(network).__qualname__} {digest(state)}"
    return hashlib.sha256(text.encode()).hexdigest()
