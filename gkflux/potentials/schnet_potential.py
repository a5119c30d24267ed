"""A SchNet as a `Potential`: the network, its precision, its elements, its engine."""

import warnings
from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gkflux.errors import FluxError, GkfluxWarning
from gkflux.potentials.autograd import check_replicas, result
from gkflux.potentials.base import Batch, Gather, Result, check_elements, gather
from gkflux.potentials.schnet import SchNet
from gkflux.potentials.schnet_torch import TorchBatch
from gkflux.system import System

if TYPE_CHECKING:
    from gkflux.potentials.schnet_gpu_weights import DeviceWeights
    from gkflux.potentials.schnet_weights import Weights

__all__ = ["SchNetPotential"]

Floats = NDArray[np.float64]
DTYPES = {"float32": torch.float32, "float64": torch.float64}


class SchNetPotential:
    """A trained network, ready for dynamics.

    Args:
        network: copied to dtype and device; its gradients are not needed any more.
        elements: atomic numbers it is trained on; None accepts all.
        provenance: what is known of the file; recorded with every run.
        dtype: "float32" or "float64", of the network; sums are float64 always.
        device: "cpu" or "cuda".
        exact_filters: evaluate the filter network for every edge instead of a table;
            None: in float64 only, where a table would spoil the precision. A hard cutoff
            has no table, whose ends must meet at zero.

    Raises:
        FluxError: another dtype; elements that are none of the embedding.
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
        if dtype not in DTYPES:
            raise FluxError(f"dtype {dtype!r} is neither float32 nor float64")
        self.dtype = DTYPES[dtype]
        self.device = torch.device(device)
        hard = network.shape.cutoff_function == "hard"
        self.exact_filters = bool(exact_filters) or dtype == "float64" or hard
        self.network = deepcopy(network).to(device=self.device, dtype=self.dtype)
        self.network.requires_grad_(False)
        self.elements = elements
        self._rows = frozenset(range(1, network.shape.max_z))
        if elements is not None and not (elements and elements <= self._rows):
            raise FluxError(
                f"elements are numbers from 1 to {network.shape.max_z - 1}, the rows of "
                f"the embedding, at least one; not {sorted(elements - self._rows)[:3]}"
            )
        self.cutoff = network.shape.cutoff
        self.layers = network.shape.interactions
        self.provenance: dict[str, Any] = {
            **(provenance or {}),
            "kind": "schnet",
            "dtype": dtype,
            "layers": self.layers,
            "cutoff": self.cutoff,
            "exact_filters": self.exact_filters,
        }
        self._weights: Weights | None = None
        self._device_weights: DeviceWeights | None = None
        if not self.exact_filters:
            self._tabulate(network)

    def _tabulate(self, network: SchNet) -> None:
        """Make the tables of the fast engine for this device, if it can be had."""
        if self.device.type == "cuda":
            if not find_spec("triton"):
                _say_once_that_triton_is_missing()
                return
            from gkflux.potentials import schnet_gpu_weights
            from gkflux.potentials.schnet_tables import tables_error

            weights = schnet_gpu_weights.DeviceWeights.of(deepcopy(network), self.device)
            self._device_weights = weights
            error = tables_error(network)
        elif find_spec("numba"):
            from gkflux.potentials import schnet_weights

            self._weights = schnet_weights.Weights.of(deepcopy(network))
            error = self._weights.error
        else:
            return
        self.provenance["table_error"] = error | self._check_tables(network)

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

    def _check_tables(self, network: SchNet) -> dict[str, float]:
        """Compare the engine with the exact network in float64, on atoms anywhere.

        Returns:
            the largest of ``energy``, eV an atom, ``forces`` and ``flux``, each relative to
            the largest component.
        """
        system = _anywhere(self.cutoff, sorted(self.elements or self._rows)[:2])
        engines = (
            self.batch([system]),
            TorchBatch(deepcopy(network).double(), [system], 0.0),
        )
        found = []
        for engine in engines:
            e = engine.forces(system.positions[None])
            found.append(
                (e, engine.heat_flux(system.positions[None], convective=False).plain)
            )
        (fast, fast_flux), (exact, exact_flux) = found
        return {
            "energy": float(np.abs(fast.energies - exact.energies).max()),
            "forces": _relative(fast.forces, exact.forces),
            "flux": _relative(fast_flux, exact_flux),
        }

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
        return result(self.batch([system], skin=0.0), system, velocities, compute)

    def batch(self, systems: Sequence[System], *, skin: float | None = None) -> Batch:
        """Engine for dynamics: tables in float32 (numba, Triton), else plain torch."""
        check_replicas(systems)
        for system in systems:
            check_elements(self.elements or self._rows, system.numbers)
        if self._device_weights is not None:
            from gkflux.potentials.schnet_gpu import DeviceBatch, DeviceSchNet

            return DeviceBatch(DeviceSchNet(self._device_weights, systems, skin))
        if self._weights is None:
            return TorchBatch(self.network, systems, skin)
        from gkflux.potentials.schnet_engine import SchNetBatch

        return SchNetBatch(self._weights, systems, skin)


@cache
def _say_once_that_triton_is_missing() -> None:
    warnings.warn(
        "Triton is not installed, so the plain torch engine runs on the GPU, which is many "
        "times slower; pip install the version of triton that this torch asks for",
        GkfluxWarning,
        stacklevel=5,
    )


def _anywhere(cutoff: float, species: Sequence[int]) -> System:
    """A cluster of 27 atoms at random places of a grid, with distances of every length."""
    grid = np.stack(np.meshgrid(*[np.arange(3.0)] * 3), axis=-1).reshape(-1, 3)
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, grid.shape)
    numbers = np.resize(np.array(species, dtype=np.int64), len(grid))
    return System(positions=(grid + noise) * cutoff / 2, numbers=numbers)


def _relative(values: Floats, exact: Floats) -> float:
    return float(np.abs(values - exact).max() / np.abs(exact).max(initial=1e-300))
