"""A SchNet as a `Potential`: the network, its precision, its elements, its engine."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gkflux.potentials.autograd import AutogradBatch, evaluate
from gkflux.potentials.base import Batch, Gather, Result, gather
from gkflux.potentials.schnet import SchNet
from gkflux.system import System

__all__ = ["SchNetPotential"]

Floats = NDArray[np.float64]


class SchNetPotential:
    """A trained network, ready for dynamics.

    Args:
        network: copied to dtype and device; its gradients are not needed any more.
        elements: atomic numbers it is trained on; None accepts all.
        provenance: what is known of the file; recorded with every run.
        dtype: "float32" or "float64", of the network; sums are float64 always.
        device: "cpu" or "cuda".
        exact_filters: evaluate the filter network for every edge instead of a table;
            None: in float64 only, where a table would spoil the precision.
    """

    def __init__(
        self,
        network: SchNet,
        *,
        elements: frozenset[int] | None = None,
        provenance: Mapping[str, Any] | None = None,
        dtype: str = "float32",
        device: str = "cpu",
        exact_filters: bool | None = None,
    ) -> None:
        self.dtype = {"float32": torch.float32, "float64": torch.float64}[dtype]
        self.device = torch.device(device)
        self.exact_filters = dtype == "float64" if exact_filters is None else exact_filters
        self.network = deepcopy(network).to(device=self.device, dtype=self.dtype)
        self.network.requires_grad_(False)
        self.elements = elements
        self.cutoff = network.shape.cutoff
        self.layers = network.shape.interactions
        self.provenance: Mapping[str, Any] = {
            **(provenance or {}),
            "kind": "schnet",
            "dtype": dtype,
            "layers": self.layers,
            "cutoff": self.cutoff,
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
        """U_i by the plain network; see `Potential.energies`."""
        u = self.network(numbers, d, centre, other, n_atoms, gather)
        return torch.as_tensor(u)

    def reference_energies(self, numbers: NDArray[np.int64]) -> Floats:
        """u_s = mean + atomref, shape ``(n,)``, eV."""
        u = self.network.references(torch.as_tensor(np.array(numbers)).to(self.device))
        return u.cpu().numpy()

    def __call__(
        self,
        system: System,
        velocities: Floats | None = None,
        compute: Sequence[str] = ("energy", "forces"),
    ) -> Result:
        """See `Potential.__call__`."""
        return evaluate(self, system, velocities, compute)

    def batch(self, systems: Sequence[System], *, skin: float | None = None) -> Batch:
        """See `Potential.batch`."""
        return AutogradBatch(self, systems)
