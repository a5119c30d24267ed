"""The reference-lattice gauge: the right flux, the right images, and what is refused."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gkflux.errors import FluxError
from gkflux.flux import (
    displacements,
    fit_lattice,
    fluxes,
    hardy_flux,
    heat_flux,
    hop,
    hop_limits,
    unfolded_flux,
)
from gkflux.potentials.schnet_potential import SchNetPotential
from gkflux.system import System
from stepson.units import KINETIC

Network = Callable[..., SchNetPotential]
Array = NDArray[np.float64]
OBLIQUE = np.array([[4.4, 0.3, 0.0], [2.1, 4.0, 0.2], [-1.9, 1.2, 4.1]])


@pytest.fixture(scope="module")
def lattice() -> System:
    """Eight sites of two species, in a cell that is far from a box."""
    corners = np.stack(np.meshgrid(*[[0, 0.5]] * 3, indexing="ij"), -1).reshape(-1, 3)
    return System(positions=corners @ OBLIQUE, numbers=[8, 14] * 4, cell=OBLIQUE)


@pytest.fixture(scope="module")
def warm(lattice: System) -> System:
    """The same, displaced by some temperature, with velocities."""
    rng = np.random.default_rng(1)
    shaken = lattice.positions + rng.normal(0, 0.08, (8, 3))
    return lattice.moved(shaken, velocities=rng.normal(0, 0.01, (8, 3)))


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_slow_formulations_agree(
    network: Network, lattice: System, warm: System, layers: int
) -> None:
    potential, v = network(layers), warm.velocities
    assert v is not None
    flux = heat_flux(potential, warm, gauge="lattice", lattice=lattice)
    sites = fit_lattice(warm, lattice)
    for slow in (hardy_flux, unfolded_flux):
        expected = slow(potential, warm, v, lattice=sites)
        assert np.linalg.norm(flux - expected) < 1e-12 * np.linalg.norm(expected)
    by_name = heat_flux(
        potential, warm, gauge="lattice", lattice=lattice, formulation="hardy"
    )
    np.testing.assert_allclose(by_name, flux, rtol=0, atol=1e-12 * np.abs(flux).max())


def dipole(potential: SchNetPotential, system: System, sites: Array, h: float) -> Array:
    """sum u_i E_i a time h (fs) along the trajectory, up to even powers of h, and h³."""
    forces, v = potential(system).forces, system.velocities
    assert forces is not None
    assert v is not None
    a = forces / (KINETIC * system.masses[:, None])
    x = system.positions + h * v + h * h / 2 * a
    u = potential(system.moved(x), compute=("energies",)).energies
    assert u is not None
    kinetic = 0.5 * KINETIC * system.masses * np.sum((v + h * a) ** 2, axis=1)
    energy = kinetic + u - potential.reference_energies(system.numbers)
    return np.asarray(energy @ (x - sites))


def test_gauges_differ_by_a_time_derivative(
    network: Network, lattice: System, warm: System
) -> None:
    potential = network(2)
    sites = fit_lattice(warm, lattice)
    plain = heat_flux(potential, warm)
    other = heat_flux(potential, warm, gauge="lattice", lattice=lattice)
    assert np.linalg.norm(plain - other) > 1e-3 * np.linalg.norm(plain)
    errors = []
    for h in (0.4, 0.2):
        ahead, behind = (dipole(potential, warm, sites, t) for t in (h, -h))
        errors.append(np.linalg.norm((ahead - behind) / (2 * h) - (plain - other)))
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.05)
    assert errors[1] < 1e-4 * np.linalg.norm(plain)


def test_images_and_drift_of_the_crystal_do_not_matter(
    network: Network, lattice: System, warm: System
) -> None:
    rng = np.random.default_rng(3)
    hops = rng.integers(-4, 5, (8, 3)) @ OBLIQUE
    moved = warm.moved(warm.positions + hops + [1.6, -2.3, 0.9], velocities=warm.velocities)
    sites = fit_lattice(moved, lattice)
    expected = displacements(warm.positions, lattice.positions)
    np.testing.assert_allclose(displacements(moved.positions, sites), expected, atol=1e-10)
    flux, same = (
        heat_flux(network(2), system, gauge="lattice", lattice=lattice)
        for system in (moved, warm)
    )
    np.testing.assert_allclose(flux, same, rtol=0, atol=1e-12 * np.abs(same).max())


def test_fitting_twice_changes_nothing(lattice: System, warm: System) -> None:
    sites = fit_lattice(warm, lattice)
    np.testing.assert_allclose(fit_lattice(warm, sites), sites, rtol=0, atol=1e-12)


def test_both_gauges_come_from_one_evaluation(
    network: Network, lattice: System, warm: System
) -> None:
    potential, v = network(2), warm.velocities
    assert v is not None
    both: Any = fluxes(potential, warm, v, lattice=fit_lattice(warm, lattice))
    np.testing.assert_array_equal(both.plain, heat_flux(potential, warm))
    expected = heat_flux(potential, warm, gauge="lattice", lattice=lattice)
    np.testing.assert_allclose(both.lattice, expected, rtol=1e-12)


def test_atoms_in_another_order_are_refused(lattice: System, warm: System) -> None:
    order = [2, 1, 0, 3, 4, 5, 6, 7]
    swapped = warm.positions[order]
    with pytest.raises(FluxError, match=r"atom [02] is \d\.\d\d Å from its site"):
        fit_lattice(warm.moved(swapped), lattice)


def test_other_species_cells_and_numbers_are_refused(lattice: System, warm: System) -> None:
    numbers = lattice.numbers[::-1]
    other = System(positions=lattice.positions, numbers=numbers, cell=OBLIQUE)
    with pytest.raises(FluxError, match="atom 0 is species 8 in the structure and 14 in"):
        fit_lattice(warm, other)
    with pytest.raises(FluxError, match="another cell"):
        fit_lattice(warm, lattice.moved(lattice.positions, OBLIQUE * 1.01))
    with pytest.raises(FluxError, match="64 atoms, the structure 8"):
        fit_lattice(warm, lattice.repeat(2))
    with pytest.raises(FluxError, match=r"shape \(3, 3\)"):
        fit_lattice(warm, lattice.positions[:3])


def test_a_hop_is_noticed(lattice: System, warm: System) -> None:
    sites = fit_lattice(warm, lattice)
    limits = hop_limits(warm, sites)
    assert hop(warm.positions, sites, limits) is None
    assert hop(warm.positions + np.array([1.6, 0, 0]), sites, limits) is None
    left = np.array(warm.positions)
    left[5] += 0.6 * OBLIQUE[0]
    assert hop(left, sites, limits) == 5


def test_limits_are_half_the_way_to_the_neighbour(lattice: System) -> None:
    images = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij"), -1).reshape(-1, 3)
    all_sites = (lattice.positions[None] + (images @ OBLIQUE)[:, None]).reshape(-1, 3)
    away = np.linalg.norm(lattice.positions[:, None] - all_sites[None], axis=2)
    expected = np.sort(away, axis=1)[:, 1] / 2
    np.testing.assert_allclose(hop_limits(lattice, lattice.positions), expected)
    alone = System(positions=[[0, 0, 0]], numbers=[8])
    assert hop_limits(alone, alone.positions) == np.inf
    pair = System(positions=np.array([[0, 0, 0], [0, 0, 31.0]]), numbers=[8, 8])
    np.testing.assert_allclose(hop_limits(pair, pair.positions), 15.5)


def test_a_lattice_must_be_given_with_its_gauge(
    network: Network, lattice: System, warm: System
) -> None:
    with pytest.raises(FluxError, match="needs the equilibrium structure"):
        heat_flux(network(1), warm, gauge="lattice")
    with pytest.raises(FluxError, match="ask for gauge='lattice'"):
        heat_flux(network(1), warm, lattice=lattice)


def test_only_periodic_directions_move_sites(lattice: System) -> None:
    """A slab, whose third lattice vector is missing, and a cluster without a cell."""
    cell = np.array([OBLIQUE[0], OBLIQUE[1], [0, 0, 0]])
    shaken = lattice.positions + np.random.default_rng(1).normal(0, 0.08, (8, 3))
    shifts = np.random.default_rng(2).integers(-2, 3, (8, 3)) * [1, 1, 0]
    slab = System(
        positions=shaken + shifts @ cell,
        numbers=lattice.numbers,
        cell=cell,
        pbc=[True, True, False],
    )
    sites = fit_lattice(slab, lattice.positions)
    expected = displacements(shaken, lattice.positions)
    np.testing.assert_allclose(displacements(slab.positions, sites), expected, atol=1e-12)
    cluster = System(positions=shaken + 5.0, numbers=lattice.numbers)
    np.testing.assert_array_equal(
        fit_lattice(cluster, lattice.positions), lattice.positions
    )
