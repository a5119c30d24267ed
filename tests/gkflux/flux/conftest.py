"""Networks that nobody trained, and crystals that are hard: triclinic, below the cutoff."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from gkflux.potentials.schnet import Architecture, SchNet
from gkflux.potentials.schnet_potential import SchNetPotential
from gkflux.system import System


@pytest.fixture(scope="session")
def network() -> Callable[..., SchNetPotential]:
    """A random SchNet with some number of layers, in float64."""

    def build(layers: int, *, dtype: str = "float64") -> SchNetPotential:
        torch.manual_seed(layers)
        shape = Architecture(
            features=8, gaussians=8, cutoff=3.5, interactions=layers, max_z=20
        )
        # Fresh biases are zero: fill everything.
        net = SchNet(shape, mean=-3.0, stddev=1.0, atomref=torch.linspace(-1, 1, 20))
        with torch.no_grad():
            for weight in net.parameters():
                weight.add_(0.1 * torch.randn_like(weight))
        return SchNetPotential(net, dtype=dtype)

    return build


@pytest.fixture(scope="session")
def crystal() -> Callable[..., System]:
    """n atoms of four species with velocities, in a triclinic cell of about a length."""

    def build(n: int = 6, length: float = 4.2, *, seed: int = 0) -> System:
        rng = np.random.default_rng(seed)
        cell = length * np.eye(3) + rng.normal(0, 0.1 * length, (3, 3))
        return System(
            positions=rng.random((n, 3)) @ cell,
            numbers=1 + np.arange(n) % 4,
            cell=cell,
            velocities=rng.normal(0, 0.01, (n, 3)),
        )

    return build


@pytest.fixture(scope="session")
def cluster() -> System:
    """Eight atoms in open space, with velocities."""
    rng = np.random.default_rng(7)
    corners = np.stack(np.meshgrid(*[[0.0, 2.0]] * 3, indexing="ij"), -1).reshape(-1, 3)
    return System(
        positions=corners + rng.normal(0, 0.2, (8, 3)),
        numbers=[1, 2, 3, 4] * 2,
        velocities=rng.normal(0, 0.01, (8, 3)),
    )
