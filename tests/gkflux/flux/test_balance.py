"""The power balance of every atom, by the books of each engine and a tangent of its own."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gkflux.flux.balance import Imbalance, energy_rates, imbalance, limit_of
from gkflux.potentials.autograd import AutogradBatch
from gkflux.potentials.base import Books, KeepsBooks
from gkflux.potentials.lennard_jones import LennardJones
from gkflux.potentials.schnet_engine import SchNetBatch
from gkflux.potentials.schnet_potential import SchNetPotential
from gkflux.potentials.schnet_torch import TorchBatch
from gkflux.system import System

Network = Callable[..., SchNetPotential]
Crystal = Callable[..., System]


def worst(
    potential: Any, batch: Any, system: System, *, formulation: str = "semilocal"
) -> Imbalance:
    """Of the second of two replicas, in a batch that has computed one step before."""
    assert isinstance(batch, KeepsBooks)
    moving: Any = system.velocities
    x = np.stack([system.positions, system.positions + 0.1 * moving])
    v = np.stack([moving, 2.0 * moving])
    batch.forces(x + 0.05)  # type: ignore[attr-defined]
    batch.heat_flux(v[::-1].copy(), formulation=formulation)  # type: ignore[attr-defined]
    forces = batch.forces(x).forces  # type: ignore[attr-defined]
    batch.heat_flux(v, formulation=formulation)  # type: ignore[attr-defined]
    gain, size = batch.books()
    assert gain.shape == size.shape == (2, system.n_atoms)
    rates = energy_rates(potential, system.moved(x[1]), v[1])
    return imbalance(rates + np.sum(forces[1] * v[1], axis=1), gain[1], size[1])


def engines(network: Network, layers: int, system: System) -> list[tuple[Any, Any]]:
    single, double = network(layers, dtype="float32"), network(layers)
    plain = SchNetPotential(network(layers).network, exact_filters=True)
    found = [(p, p.batch([system] * 2)) for p in (single, double, plain)]
    assert [type(batch) for _, batch in found] == [SchNetBatch, TorchBatch, TorchBatch]
    return [*found, (double, AutogradBatch(double, [system] * 2))]


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize(("n", "length"), [(4, 3.0), (20, 7.5)])
def test_every_engine_keeps_its_books(
    network: Network, crystal: Crystal, layers: int, n: int, length: float
) -> None:
    system = crystal(n, length)
    for potential, batch in engines(network, layers, system):
        found = worst(potential, batch, system)
        assert found.relative < limit_of(potential) / 10


@pytest.mark.filterwarnings("ignore:the local")
@pytest.mark.parametrize("layers", [2, 3])
def test_the_virial_form_does_not(network: Network, crystal: Crystal, layers: int) -> None:
    system = crystal(20, 7.5)
    for potential, batch in engines(network, layers, system):
        found = worst(potential, batch, system, formulation="local")
        assert found.relative > 3 * limit_of(potential)


def test_an_engine_without_messages_balances_in_the_virial_form(crystal: Crystal) -> None:
    system, potential = crystal(), LennardJones(epsilon=0.01, sigma=1.5)
    batch = potential.batch([system] * 2)
    assert worst(potential, batch, system, formulation="local").relative < 1e-13


def test_rates_are_those_of_the_clock(network: Network, crystal: Crystal) -> None:
    potential, system = network(3), crystal(20, 7.5)
    v, errors = np.array(system.velocities), []
    for h in (0.2, 0.1):
        ahead, behind = (
            potential(system.moved(system.positions + t * v), compute=("energies",))
            for t in (h, -h)
        )
        slope = (ahead.energies - behind.energies) / (2 * h)  # type: ignore[operator]
        errors.append(np.abs(slope - energy_rates(potential, system, v)).max())
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.05)


def test_the_worst_atom_is_named_with_both_sides() -> None:
    found = imbalance([1.0, 2.0, 3.0], [1.0, 2.5, 2.9], [3.0, 4.0, 5.0])
    assert found[:3] == (1, 2.5, 2.0)
    assert found.relative == pytest.approx(0.5 / np.sqrt(50 / 3))
    assert imbalance([1.0, np.nan], [1.0, 1.0], [1.0, 1.0]).atom == 1
    assert np.isnan(imbalance([1.0, np.nan], [1.0, 1.0], [1.0, 1.0]).relative)
    assert imbalance([0.0], [0.0], [0.0]).relative == 0
    assert imbalance([1e-9], [0.0], [0.0]).relative == 1


def test_books_come_after_a_flux(network: Network, crystal: Crystal) -> None:
    system = crystal()
    for _, batch in engines(network, 2, system):
        with pytest.raises(ValueError, match=r"those of a heat_flux\(\): call that first"):
            batch.books()
        assert Books._fields == ("gain", "size")
