"""The engines for dynamics, written by hand, against the generic route."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gkflux.flux import fit_lattice, fluxes
from gkflux.potentials.load import load_potential
from gkflux.potentials.schnet_potential import SchNetPotential
from gkflux.system import System

Network = Callable[..., SchNetPotential]
Crystal = Callable[..., System]
TOLERANCE = {"float64": 1e-11, "float32": 3e-5}


def compare(
    engine: SchNetPotential,
    exact: SchNetPotential,
    systems: list[System],
    *,
    formulation: str,
    lattice: NDArray[np.float64],
    tolerance: float,
) -> None:
    """One batch of replicas against the float64 network, one by one, in both gauges."""
    batch = engine.batch(systems)
    positions: Any = [system.positions for system in systems]
    batch.forces(np.stack(positions))
    moving: Any = [system.velocities for system in systems]
    velocities: Any = np.stack(moving)
    result = batch.heat_flux(velocities, formulation=formulation, lattice=lattice)
    assert result.lattice is not None
    for r, system in enumerate(systems):
        expected: Any = fluxes(
            exact, system, velocities[r], formulation=formulation, lattice=lattice
        )
        for got, want in (
            (result.plain[r], expected.plain),
            (result.lattice[r], expected.lattice),
        ):
            assert np.linalg.norm(got - want) < tolerance * np.linalg.norm(want)


def replicas(system: System, count: int) -> list[System]:
    rng = np.random.default_rng(5)
    return [
        system.moved(
            system.positions + rng.normal(0, 0.05, system.positions.shape),
            velocities=rng.normal(0, 0.01, system.positions.shape),
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.filterwarnings("ignore:the local")
def test_random_networks(
    network: Network, crystal: Crystal, layers: int, dtype: str
) -> None:
    for n, length in ((6, 4.2), (20, 7.5)):
        system = crystal(n, length)
        systems = replicas(system, 3)
        for formulation in ("semilocal", "local"):
            compare(
                network(layers, dtype=dtype),
                network(layers),
                systems,
                formulation=formulation,
                lattice=np.array(system.positions),
                tolerance=TOLERANCE[dtype],
            )


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("model", ["model_n1", "model_n2"])
def test_zirconia(shared_data: Path, model: str, dtype: str) -> None:
    folder = shared_data / "zro2"
    perfect = System.read(folder / "primitive.in").repeat((2, 1, 1))
    system = replicas(perfect, 1)[0]
    potentials = {
        name: load_potential(folder / f"{model}.torch", dtype=name)
        for name in ("float64", dtype)
    }
    compare(
        potentials[dtype],
        potentials["float64"],
        [system],
        formulation="semilocal",
        lattice=fit_lattice(system, perfect),
        tolerance=TOLERANCE[dtype],
    )
