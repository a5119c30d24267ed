"""The public function: words, parts, and one clear line for every mistake."""

from collections.abc import Callable

import numpy as np
import pytest

import gkflux
from gkflux.errors import FluxError, GkfluxWarning
from gkflux.flux import FORMULATIONS, convective_flux, edge_powers, fluxes, heat_flux
from gkflux.flux.balance import energy_rates
from gkflux.potentials.schnet_potential import SchNetPotential
from gkflux.system import System
from stepson.units import KINETIC

Network = Callable[..., SchNetPotential]
Crystal = Callable[..., System]


def test_the_flat_name_is_this_function() -> None:
    assert gkflux.heat_flux is heat_flux


def test_convection_is_the_energy_less_the_models_own_constants(
    network: Network, crystal: Crystal
) -> None:
    potential, system = network(2), crystal()
    v = system.velocities
    assert v is not None
    u = potential(system, compute=("energies",)).energies
    assert u is not None
    expected = np.zeros(3)
    for i in range(system.n_atoms):
        constant = potential.network.mean + potential.network.atomref[system.numbers[i]]
        energy = KINETIC * system.masses[i] * (v[i] @ v[i]) / 2 + u[i] - constant.item()
        expected += energy * v[i]
    np.testing.assert_allclose(convective_flux(potential, system, v, u), expected)
    whole = heat_flux(potential, system)
    rest = heat_flux(potential, system, convective=False)
    np.testing.assert_allclose(whole - rest, expected)


def test_momentum_is_not_removed(network: Network, crystal: Crystal) -> None:
    potential, system = network(2), crystal()
    v = system.velocities
    assert v is not None
    wind = heat_flux(potential, system, v + 0.01) - heat_flux(potential, system, v)
    assert np.abs(wind).max() > 1e-3


def test_all_formulations_are_one_flux(network: Network, crystal: Crystal) -> None:
    potential, system = network(1), crystal()
    results = [heat_flux(potential, system, formulation=name) for name in FORMULATIONS]
    for result in results[1:]:
        np.testing.assert_allclose(result, results[0], rtol=1e-11)


def test_local_is_said_to_be_wrong_for_two_layers(
    network: Network, crystal: Crystal
) -> None:
    with pytest.warns(GkfluxWarning, match="network of 2 layers leaves out the power"):
        heat_flux(network(2), crystal(), formulation="local")


def test_mistakes(network: Network, crystal: Crystal) -> None:
    potential, system = network(1), crystal()
    still = system.moved(system.positions)
    with pytest.raises(FluxError, match="known are semilocal, local, hardy, unfolded"):
        heat_flux(potential, system, formulation="virial")
    with pytest.raises(FluxError, match="known are none, lattice"):
        heat_flux(potential, system, gauge="coulomb")
    with pytest.raises(FluxError, match="needs velocities"):
        heat_flux(potential, still)
    with pytest.raises(FluxError, match=r"shape \(2, 3\), expected \(6, 3\)"):
        heat_flux(potential, still, np.zeros((2, 3)))
    with pytest.raises(FluxError, match="not finite"):
        heat_flux(potential, still, np.full((6, 3), np.nan))
    with pytest.raises(FluxError, match="semilocal or local, not 'hardy'"):
        fluxes(potential, still, np.zeros((6, 3)), formulation="hardy")
    for function in (fluxes, edge_powers, energy_rates):
        for wrong in (np.zeros((1, 3)), np.zeros(3), np.full((6, 3), np.nan)):
            with pytest.raises(FluxError, match="velocities"):
                function(potential, still, wrong)


def test_an_untrained_element_is_refused(crystal: Crystal, network: Network) -> None:
    known = SchNetPotential(network(1).network, elements=frozenset({1, 2, 3}))
    with pytest.raises(FluxError, match="not trained on Be"):
        heat_flux(known, crystal())
