"""Random networks and a hard little crystal, for the tests of the device engine."""

import numpy as np
import torch
from numpy.typing import NDArray

from gkflux.potentials.schnet import Architecture, SchNet
from gkflux.system import System

Floats = NDArray[np.float64]
SPECIES = [14, 8, 8, 14, 8, 14, 14, 8, 1]
SHAPES: list[dict[str, object]] = [
    {"interactions": 1},
    {"interactions": 2},
    {"interactions": 3, "filters": 20, "readout": "silu", "readout_features": 7},
]


def network(**shape: object) -> SchNet:
    """A random network whose numbers are of the size of trained ones."""
    torch.manual_seed(3)
    sizes: dict[str, object] = {"features": 24, "gaussians": 12, "cutoff": 4.0}
    net = SchNet(
        Architecture(**(sizes | shape)),  # type: ignore[arg-type]
        mean=-2.0,
        stddev=3.0,
        atomref=torch.linspace(-50.0, 0.0, 100),
    )
    for p in net.parameters():
        p.data += 0.1 * torch.randn_like(p)
    return net


def crystal(replicas: int = 1) -> tuple[list[System], Floats, Floats]:
    """Nine atoms in a cell smaller than twice the cutoff; positions, velocities."""
    rng = np.random.default_rng(4)
    cell = np.array([[5.5, 0.0, 0.0], [1.1, 5.2, 0.0], [-0.8, 0.6, 5.8]])
    grid = np.stack(np.meshgrid(*[np.arange(3.0)] * 3), axis=-1).reshape(-1, 3)[::3]
    x = (grid / 3) @ cell + rng.uniform(-0.4, 0.4, (replicas, 9, 3))
    system = System(positions=x[0], numbers=np.array(SPECIES), cell=cell)
    return [system.moved(p) for p in x], x, rng.normal(0, 0.01, x.shape)
