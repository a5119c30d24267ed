"""Lennard-Jones against ASE, against finite differences, and against published fluxes."""

from typing import Any

import numpy as np
import pytest
from ase.calculators.lj import LennardJones as Reference

from gkflux.errors import FluxError
from gkflux.flux import FORMULATIONS, heat_flux
from gkflux.potentials.lennard_jones import LennardJones
from gkflux.system import System
from stepson.units import ASE_TIME

EPSILON, SIGMA = 0.01032, 3.405


@pytest.fixture(scope="module")
def liquid() -> System:
    """Disordered argon in a triclinic cell, smaller than two cutoffs."""
    rng = np.random.default_rng(0)
    cell = np.array([[11.0, 0, 0], [2.0, 10.5, 0], [-1.0, 1.5, 11.5]])
    grid = np.stack(np.meshgrid(*[np.arange(3) / 3] * 3, indexing="ij"), -1).reshape(-1, 3)
    return System(
        positions=grid @ cell + rng.normal(0, 0.15, (27, 3)), numbers=[18] * 27, cell=cell
    )


def test_energy_forces_and_stress_are_those_of_ase(liquid: System) -> None:
    potential = LennardJones(epsilon=EPSILON, sigma=SIGMA, cutoff=7.0, shift="energy")
    result: Any = potential(liquid, compute=("energy", "energies", "forces", "stress"))
    atoms: Any = liquid.to_ase()
    reference: Any = Reference
    atoms.calc = reference(epsilon=EPSILON, sigma=SIGMA, rc=7.0)
    assert result.energy == pytest.approx(atoms.get_potential_energy(), rel=1e-12)
    np.testing.assert_allclose(result.energies, atoms.get_potential_energies(), rtol=1e-12)
    np.testing.assert_allclose(result.forces, atoms.get_forces(), atol=1e-14)
    expected = atoms.get_stress(voigt=False)
    np.testing.assert_allclose(result.stress, expected, atol=1e-15)


@pytest.mark.parametrize("shift", ["energy", "force", "none"])
def test_forces_are_minus_the_slope_of_the_energy(liquid: System, shift: str) -> None:
    potential = LennardJones(epsilon=EPSILON, sigma=SIGMA, cutoff=7.0, shift=shift)  # type: ignore[arg-type]
    forces = potential(liquid).forces
    assert forces is not None
    energies = []
    for h in (1e-4, -1e-4):
        moved = np.array(liquid.positions)
        moved[4, 1] += h
        energies.append(potential(liquid.moved(moved)).energy)
    assert energies[0] is not None
    assert energies[1] is not None
    slope = (energies[0] - energies[1]) / 2e-4
    assert forces[4, 1] == pytest.approx(-slope, rel=1e-6)


def pair(r: float) -> System:
    return System(positions=np.array([[0, 0, 0], [r, 0, 0]]), numbers=[18, 18])


def test_the_end_is_as_smooth_as_the_shift_says() -> None:
    def at(r: float, shift: str) -> tuple[float, float]:
        potential = LennardJones(epsilon=EPSILON, sigma=SIGMA, shift=shift)  # type: ignore[arg-type]
        result = potential(pair(r))
        assert result.energy is not None
        assert result.forces is not None
        return result.energy, result.forces[1, 0]

    inside, outside = 2.5 * SIGMA - 1e-6, 2.5 * SIGMA + 1e-6
    for shift in ("energy", "force", "none"):
        assert at(outside, shift) == (0.0, 0.0)
    energy, force = at(inside, "none")
    assert energy < -1e-4
    assert force < -1e-4
    assert at(inside, "energy")[0] == pytest.approx(0, abs=1e-9)
    assert at(inside, "energy")[1] == pytest.approx(force)
    assert at(inside, "force") == pytest.approx((0, 0), abs=1e-9)


def test_the_well_is_where_it_should_be() -> None:
    potential = LennardJones(epsilon=EPSILON, sigma=SIGMA, shift="none")
    bottom: Any = potential(pair(2 ** (1 / 6) * SIGMA))
    assert bottom.energy == pytest.approx(-EPSILON, rel=1e-12)
    np.testing.assert_allclose(bottom.forces, 0, atol=1e-14)
    assert potential(pair(SIGMA)).energy == pytest.approx(0, abs=1e-15)


def published(cell: list[list[float]]) -> System:
    """Eight atoms and a Maxwell-Boltzmann draw at 300 K, made as ASE makes it."""
    from ase import Atoms

    single: Any = Atoms("Ar", cell=cell, pbc=True)
    atoms = single.repeat(2)
    width = np.sqrt(atoms.get_masses() * 300 * 8.617330337217213e-05)
    momenta = np.random.default_rng(42).standard_normal((8, 3)) * width[:, None]
    v = momenta / atoms.get_masses()[:, None] / ASE_TIME
    return System.from_ase(atoms).moved(atoms.get_positions(), velocities=v)


@pytest.mark.parametrize("formulation", FORMULATIONS)
@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ([[6, 0, 0], [0, 6, 0], [0, 0, 6]], (8.8238e-05, -2.5559e-04, -2.0570e-04)),
        ([[6, 3, 1], [2, 6, 0], [0, 0, 6]], (9.8061e-05, -2.6314e-04, -2.0004e-04)),
    ],
)
def test_total_flux_as_published_by_metatomic(
    cell: list[list[float]], expected: tuple[float, ...], formulation: str
) -> None:
    """metatensor/metatomic, pull request 144: all digits that it gives."""
    potential = LennardJones(epsilon=EPSILON, sigma=SIGMA, cutoff=7.0, shift="energy")
    flux = heat_flux(potential, published(cell), formulation=formulation)
    np.testing.assert_allclose(flux, expected, rtol=0, atol=6e-9)


def test_mistakes() -> None:
    with pytest.raises(FluxError, match="known are energy, force, none"):
        LennardJones(epsilon=1.0, sigma=1.0, shift="smooth")  # type: ignore[arg-type]
    with pytest.raises(FluxError, match="must be positive"):
        LennardJones(epsilon=1.0, sigma=-1.0)
