"""The engines for dynamics, written by hand, against the generic route."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gkflux.errors import FluxError
from gkflux.flux import edge_powers, fit_lattice, fluxes, heat_flux
from gkflux.potentials.base import Potential
from gkflux.potentials.lennard_jones import LennardJones
from gkflux.potentials.load import load_potential
from gkflux.potentials.schnet_potential import SchNetPotential
from gkflux.system import System

Network = Callable[..., SchNetPotential]
Crystal = Callable[..., System]
TOLERANCE = {"float64": 1e-11, "float32": 3e-5}


def compare(
    engine: Potential,
    exact: Potential,
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


@pytest.mark.parametrize("layers", [1, 2])
def test_beyond_the_threshold_of_softplus(
    network: Network, crystal: Crystal, layers: int
) -> None:
    """Where torch's softplus is the identity, and its slope one, to the last digit."""
    wide = network(layers).network
    with torch.no_grad():
        for module in wide.modules():
            if isinstance(module, torch.nn.Linear) and module.bias is not None:
                module.bias.add_(torch.linspace(18, 24, len(module.bias)))
    potential, system = SchNetPotential(wide, dtype="float64"), crystal()
    batch, velocities = potential.batch([system]), np.array(system.velocities)
    found: Any = batch.forces(system.positions[None])
    flux = batch.heat_flux(velocities[None], convective=False).plain[0]
    powers = edge_powers(potential, system, velocities)
    for got, want in ((found.forces[0], powers.forces), (flux, powers.flux())):
        assert np.linalg.norm(got - want) < 1e-12 * np.linalg.norm(want)


def test_the_generic_engine_takes_a_lattice_as_it_is(crystal: Crystal) -> None:
    """A run fits its lattice once: an atom that has hopped later is no error here."""
    potential = LennardJones(epsilon=0.01, sigma=2.0, cutoff=4.0)
    system = crystal(6, 5.0)
    sites = np.array(system.positions)
    sites[2] += 3.0
    with pytest.raises(FluxError, match="atom 2 is"):
        heat_flux(potential, system, gauge="lattice", lattice=sites)
    batch = potential.batch([system, system])
    batch.forces(np.stack([system.positions] * 2))
    velocities: Any = [system.velocities] * 2
    result: Any = batch.heat_flux(np.array(velocities), lattice=sites)
    expected = fluxes(potential, system, velocities[0], lattice=sites)
    np.testing.assert_array_equal(result.plain, [expected.plain] * 2)
    np.testing.assert_array_equal(result.lattice, [expected.lattice] * 2)
