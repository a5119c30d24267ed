"""The exact flux against its definition, against the clock, and against symmetry."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from gkflux.flux import (
    edge_powers,
    hardy_flux,
    hardy_virials,
    heat_flux,
    local_power,
    unfolded_flux,
)
from gkflux.potentials.base import Potential
from gkflux.potentials.load import load_potential
from gkflux.potentials.schnet_potential import SchNetPotential
from gkflux.system import System
from stepson.units import KINETIC

Network = Callable[..., SchNetPotential]
Crystal = Callable[..., System]
Array = NDArray[np.float64]


def distance(a: Array, b: Array) -> float:
    """Relative distance of two fluxes."""
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def flux(potential: Potential, system: System) -> Array:
    assert system.velocities is not None
    return edge_powers(potential, system, system.velocities).flux()


@pytest.mark.parametrize("layers", [1, 2, 3, 4])
@pytest.mark.parametrize(("n", "length"), [(4, 3.0), (6, 4.2), (10, 5.5)])
def test_three_formulations_agree(
    network: Network, crystal: Crystal, layers: int, n: int, length: float
) -> None:
    potential, system = network(layers), crystal(n, length)
    v = system.velocities
    assert v is not None
    exact = flux(potential, system)
    assert distance(exact, hardy_flux(potential, system, v)) < 1e-12
    assert distance(exact, unfolded_flux(potential, system, v)) < 1e-12


@pytest.mark.parametrize("layers", [1, 2, 3, 4])
def test_the_virial_form_is_exact_for_one_layer_only(
    network: Network, crystal: Crystal, layers: int
) -> None:
    system = crystal()
    assert system.velocities is not None
    powers = edge_powers(network(layers), system, system.velocities)
    missing = distance(powers.flux(power=local_power(powers)), powers.flux())
    assert missing < 1e-13 if layers == 1 else missing > 1e-3


@pytest.mark.parametrize("layers", [1, 2, 3, 4])
def test_the_energy_of_every_atom_balances(
    network: Network, crystal: Crystal, layers: int
) -> None:
    system = crystal()
    assert system.velocities is not None
    powers = edge_powers(network(layers), system, system.velocities)
    assert np.abs(powers.imbalance()).max() < 1e-12 * np.abs(powers.energy_rates).max()


def moment(potential: Potential, system: System, h: float) -> Array:
    """sum r_i E_i a time h (fs) along the trajectory, up to even powers of h, and h³."""
    forces = potential(system).forces
    assert forces is not None
    assert system.velocities is not None
    a = forces / (KINETIC * system.masses[:, None])
    v = system.velocities + h * a
    moved = system.moved(system.positions + h * system.velocities + h * h / 2 * a)
    u = potential(moved, compute=("energies",)).energies
    assert u is not None
    total = 0.5 * KINETIC * system.masses * np.sum(v * v, axis=1) + u
    total -= potential.reference_energies(system.numbers)
    return np.asarray(total @ moved.positions)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_cluster_in_vacuum_obeys_the_clock(
    network: Network, cluster: System, layers: int
) -> None:
    potential = network(layers)
    exact = heat_flux(potential, cluster)
    errors = []
    for h in (0.05, 0.025, 0.0125):
        ahead, behind = (moment(potential, cluster, t) for t in (h, -h))
        errors.append(distance((ahead - behind) / (2 * h), exact))
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.01)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.01)
    assert errors[2] < 2e-7


@pytest.mark.parametrize("layers", [2, 3])
def test_cluster_in_vacuum_refutes_the_virial_form(
    network: Network, cluster: System, layers: int
) -> None:
    potential = network(layers)
    with pytest.warns(UserWarning, match="wrong conductivity"):
        local = heat_flux(potential, cluster, formulation="local")
    errors = []
    for h in (0.05, 0.0125):
        ahead, behind = (moment(potential, cluster, t) for t in (h, -h))
        errors.append(distance(local, (ahead - behind) / (2 * h)))
    assert errors[1] == pytest.approx(errors[0], rel=1e-3)
    assert errors[1] > 5e-3


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_eight_copies_carry_eight_times_the_flux(
    network: Network, crystal: Crystal, layers: int
) -> None:
    potential, system = network(layers), crystal(4, 3.0)
    assert distance(flux(potential, system.repeat(2)), 8 * flux(potential, system)) < 1e-12


def rotation(seed: int) -> Array:
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return np.asarray(q * np.sign(np.linalg.det(q)))


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_symmetries(network: Network, crystal: Crystal, layers: int) -> None:
    potential, system = network(layers), crystal()
    cell, v = system.cell, system.velocities
    assert cell is not None
    assert v is not None
    expected = heat_flux(potential, system)
    q, rng = rotation(1), np.random.default_rng(2)
    turned = system.moved(system.positions @ q.T, cell @ q.T, v @ q.T)
    assert distance(heat_flux(potential, turned), q @ expected) < 1e-12
    hops = rng.integers(-3, 4, (system.n_atoms, 3)) @ cell
    wrapped = system.moved(system.positions + hops, velocities=v)
    assert distance(heat_flux(potential, wrapped), expected) < 1e-12
    moved = system.moved(system.positions + np.array([11.0, -7.0, 0.3]), velocities=v)
    assert distance(heat_flux(potential, moved), expected) < 1e-12
    order = rng.permutation(system.n_atoms)
    permuted = System(
        positions=system.positions[order],
        numbers=system.numbers[order],
        cell=cell,
        velocities=v[order],
    )
    assert distance(heat_flux(potential, permuted), expected) < 1e-12


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_uniform_velocity_carries_the_stress(
    network: Network, crystal: Crystal, layers: int
) -> None:
    potential, system = network(layers), crystal()
    stress = potential(system, compute=("stress",)).stress
    assert stress is not None
    wind = np.array([0.01, -0.02, 0.005])
    moving = system.moved(system.positions, velocities=np.tile(wind, (system.n_atoms, 1)))
    assert distance(flux(potential, moving), -system.volume * stress @ wind) < 1e-12


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_forces_are_those_of_the_potential(
    network: Network, crystal: Crystal, layers: int
) -> None:
    potential, system = network(layers), crystal()
    assert system.velocities is not None
    powers = edge_powers(potential, system, system.velocities)
    result: Any = potential(system, compute=("energies", "forces"))
    np.testing.assert_allclose(powers.forces, result.forces, rtol=0, atol=1e-12)
    np.testing.assert_allclose(powers.energies, result.energies, rtol=1e-14)


def slope(function: Callable[[float], float], h: float) -> float:
    """Derivative at zero, wrong by h⁴."""
    near, far = (function(k * h) - function(-k * h) for k in (1, 2))
    return (8 * near - far) / (12 * h)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_forces_are_slopes_of_the_energy(
    network: Network, crystal: Crystal, layers: int
) -> None:
    potential, system = network(layers), crystal()

    def energy(t: float, atom: int, axis: int) -> float:
        moved = np.array(system.positions)
        moved[atom, axis] += t
        found = potential(system.moved(moved), compute=("energy",)).energy
        assert found is not None
        return found

    forces = potential(system).forces
    assert forces is not None
    expected = [
        [-slope(partial(energy, atom=i, axis=a), 2e-3) for a in range(3)] for i in range(6)
    ]
    atol = 1e-8 * np.abs(forces).max()
    np.testing.assert_allclose(forces, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_stress_is_the_slope_of_the_energy_by_strain(
    network: Network, crystal: Crystal, layers: int
) -> None:
    potential, system = network(layers), crystal()
    cell: Any = system.cell

    def energy(t: float, a: int, b: int) -> float:
        strain = np.eye(3)
        strain[a, b] += t
        strained = system.moved(system.positions @ strain.T, cell @ strain.T)
        found = potential(strained, compute=("energy",)).energy
        assert found is not None
        return found

    stress = potential(system, compute=("stress",)).stress
    assert stress is not None
    expected = [
        [slope(partial(energy, a=a, b=b), 5e-4) for b in range(3)] for a in range(3)
    ]
    virial = stress * system.volume
    atol = 1e-8 * np.abs(virial).max()
    np.testing.assert_allclose(virial, expected, rtol=0, atol=atol)


def test_heat_flux_virials_sum_to_the_stress(network: Network, crystal: Crystal) -> None:
    potential, system = network(3), crystal()
    stress = potential(system, compute=("stress",)).stress
    assert stress is not None
    virials = hardy_virials(potential, system)
    np.testing.assert_allclose(virials.sum(0), -system.volume * stress, atol=1e-11)
    assert np.abs(virials - virials.transpose(0, 2, 1)).max() > 1e-3 * np.abs(virials).max()


def test_float32_is_float64_up_to_rounding(network: Network, crystal: Crystal) -> None:
    system = crystal()
    for layers in (1, 2, 3):
        single, double = network(layers, dtype="float32"), network(layers)
        assert 0 < distance(flux(single, system), flux(double, system)) < 1e-4


class Vectors:
    """Messages of another kind: vectors, read at the other end in the second round."""

    cutoff = 3.5
    layers = 2
    elements: frozenset[int] | None = None
    provenance: Mapping[str, Any] = {}

    def __init__(self, *, declared: bool = True) -> None:
        self.declared = declared

    def energies(
        self,
        numbers: Tensor,
        d: Tensor,
        centre: Tensor,
        other: Tensor,
        n_atoms: int,
        gather: Callable[[Tensor, Tensor], Tensor],
    ) -> Tensor:
        r = torch.linalg.vector_norm(d, dim=1)
        w = (1 - (r / self.cutoff) ** 2) ** 3
        x = torch.zeros(n_atoms, 3, dtype=d.dtype).index_add(0, centre, w[:, None] * d)
        rows = gather(x, other) if self.declared else x[other]
        pairs = w * (rows * x[centre]).sum(1) + w**2 * (rows * d).sum(1)
        return torch.zeros(n_atoms, dtype=d.dtype).index_add(0, centre, pairs)

    def reference_energies(self, numbers: NDArray[np.int64]) -> Array:
        return np.zeros(len(numbers))


def test_any_potential_with_declared_gathers(crystal: Crystal) -> None:
    system: Any = crystal()
    potential: Any = Vectors()
    powers = edge_powers(potential, system, system.velocities)
    expected = hardy_flux(potential, system, system.velocities)
    assert distance(powers.flux(), expected) < 1e-12
    assert np.abs(powers.imbalance()).max() < 1e-12 * np.abs(powers.energy_rates).max()


def test_a_gather_that_is_not_declared_shows_in_the_balance(crystal: Crystal) -> None:
    system: Any = crystal()
    potential: Any = Vectors(declared=False)
    powers = edge_powers(potential, system, system.velocities)
    assert np.abs(powers.imbalance()).max() > 1e-2 * np.abs(powers.energy_rates).max()


def test_atoms_alone_carry_nothing_but_themselves(network: Network) -> None:
    far = System(positions=np.array([[0, 0, 0], [50.0, 0, 0]]), numbers=[1, 2])
    v = np.array([[0.01, 0, 0], [0, 0.02, 0]])
    assert np.all(edge_powers(network(2), far, v).flux() == 0)
    whole = heat_flux(network(2), far, v)
    assert np.all(whole[:2] != 0)
    assert whole[2] == 0


@pytest.mark.parametrize("cell", ["primitive", "cell96"])
@pytest.mark.parametrize("model", ["model_n1", "model_n2"])
def test_zirconia_against_another_program(shared_data: Path, cell: str, model: str) -> None:
    potential = load_potential(shared_data / "zro2" / f"{model}.torch", dtype="float64")
    with np.load(shared_data / "zro2" / "reference.npz") as file:
        key = f"{cell}/{model}/"
        stored = {k.removeprefix(key): file[k] for k in file.files if k.startswith(key)}
    system = System(
        positions=stored["positions"], numbers=stored["numbers"], cell=stored["cell"]
    )
    powers = edge_powers(potential, system, stored["velocities"])
    assert len(powers.power) == stored["n_edges"]
    assert distance(powers.flux(), stored["flux_semilocal"]) < 1e-9
    local = powers.flux(power=local_power(powers))
    assert distance(local, stored["flux_local"]) < 1e-9
    if "flux_hardy_bruteforce" in stored:
        assert distance(powers.flux(), stored["flux_hardy_bruteforce"]) < 1e-9
    np.testing.assert_allclose(powers.forces, stored["forces"], rtol=0, atol=1e-9)
