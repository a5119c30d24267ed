"""Per-atom heat-flux virials against brute force, and heat between groups of atoms."""

from collections.abc import Callable

import numpy as np
import pytest

from gkflux.flux import edge_powers, hardy_virials, heat_flux_virials
from gkflux.potentials.schnet_potential import SchNetPotential
from gkflux.system import System

Network = Callable[..., SchNetPotential]
Crystal = Callable[..., System]


@pytest.mark.parametrize("layers", [1, 2, 3, 4])
def test_virials_are_those_of_the_explicit_crystal(
    network: Network, crystal: Crystal, layers: int
) -> None:
    potential, system = network(layers), crystal()
    expected = hardy_virials(potential, system)
    virials = heat_flux_virials(potential, system)
    np.testing.assert_allclose(
        virials, expected, rtol=0, atol=1e-12 * np.abs(expected).max()
    )


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_flux_and_stress_follow(network: Network, crystal: Crystal, layers: int) -> None:
    potential, system = network(layers), crystal(12, 5.5)
    v = system.velocities
    assert v is not None
    virials = heat_flux_virials(potential, system)
    flux = edge_powers(potential, system, v).flux()
    np.testing.assert_allclose(
        np.einsum("jab,jb->a", virials, v), flux, rtol=0, atol=1e-12 * np.abs(flux).max()
    )
    stress = potential(system, compute=("stress",)).stress
    assert stress is not None
    np.testing.assert_allclose(virials.sum(0), -system.volume * stress, atol=1e-10)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_groups_exchange_what_they_gain(
    network: Network, crystal: Crystal, layers: int
) -> None:
    system = crystal(12, 5.5)
    assert system.velocities is not None
    powers = edge_powers(network(layers), system, system.velocities)
    groups = np.arange(12) % 3
    exchange = powers.exchange(groups)
    work = np.sum(powers.forces * system.velocities, axis=1)
    gain = np.bincount(groups, powers.energy_rates + work)
    np.testing.assert_array_equal(exchange, -exchange.T)
    np.testing.assert_allclose(exchange.sum(0), gain, rtol=0, atol=1e-12)
    assert np.abs(gain).max() > 1e-4
