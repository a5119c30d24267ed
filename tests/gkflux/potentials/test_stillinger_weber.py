"""Stillinger-Weber against its sum over triples, and against what is known of silicon."""

from itertools import combinations
from math import exp
from typing import Any

import numpy as np
import pytest
from ase.build import bulk
from numpy.typing import NDArray

from gkflux.errors import FluxError
from gkflux.flux import edge_powers, hardy_flux, local_power, unfolded_flux
from gkflux.potentials.base import Potential
from gkflux.potentials.stillinger_weber import StillingerWeber
from gkflux.system import System

Array = NDArray[np.float64]
GPA = 160.2176634
SILICON = StillingerWeber()


@pytest.fixture(scope="module")
def glass() -> System:
    """Silicon far from its sites, in a triclinic cell below twice the cutoff."""
    rng = np.random.default_rng(3)
    atoms: Any = bulk("Si", cubic=True, a=5.43)
    atoms.set_cell(atoms.cell[:] @ (np.eye(3) + rng.normal(0, 0.05, (3, 3))), True)
    atoms.positions += rng.normal(0, 0.2, (8, 3))
    v = rng.normal(0, 0.005, (8, 3))
    return System.from_ase(atoms).moved(atoms.positions, velocities=v)


def by_triples(system: System) -> Array:
    """U_i as the paper writes it: loops over images, pairs and triples; eV."""
    epsilon, sigma, a = 2.168205, 2.0951, 1.8
    assert system.cell is not None
    images = [np.array(s) @ system.cell for s in np.ndindex(5, 5, 5)]
    middle = np.array([2, 2, 2]) @ system.cell
    energies = []
    for i, here in enumerate(system.positions):
        near = []
        for image in images:
            for j, there in enumerate(system.positions):
                d = there + image - middle - here
                x = float(np.linalg.norm(d)) / sigma
                if x < a and not (i == j and x < 1e-9):
                    near.append((x, d / np.linalg.norm(d)))
        u = 0.0
        for x, _ in near:
            u += 0.5 * 7.049556277 * (0.6022245584 * x**-4 - 1) * exp(1 / (x - a))
        for (x, e), (y, f) in combinations(near, 2):
            fade = exp(1.2 / (x - a) + 1.2 / (y - a))
            u += 21 * fade * (float(e @ f) + 1 / 3) ** 2
        energies.append(epsilon * u)
    return np.array(energies)


def test_energies_are_the_sum_over_triples(glass: System) -> None:
    result: Any = SILICON(glass, compute=("energy", "energies"))
    np.testing.assert_allclose(result.energies, by_triples(glass), rtol=1e-13)
    assert result.energy == pytest.approx(result.energies.sum(), rel=1e-13)


def test_forces_and_stress_are_slopes_of_the_energy(glass: System) -> None:
    result: Any = SILICON(glass, compute=("forces", "stress"))
    h = 1e-4

    def slope(at: Any) -> float:
        # fourth order: the error of a central difference would hide a small mistake
        return float((8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h))

    def displaced(h: float) -> float:
        positions = np.array(glass.positions)
        positions[2, 1] += h
        return float(by_triples(glass.moved(positions)).sum())

    def strained(h: float) -> float:
        cell = glass.cell
        assert cell is not None
        f = np.eye(3)
        f[0, 1] += h
        return float(by_triples(glass.moved(glass.positions @ f.T, cell @ f.T)).sum())

    assert result.forces[2, 1] == pytest.approx(-slope(displaced), rel=1e-8)
    assert result.stress[0, 1] * glass.volume == pytest.approx(slope(strained), rel=1e-8)


def diamond(a: float, strain: Array | None = None) -> System:
    """Two atoms; where it is strained, the second moves to where no force acts on it."""
    atoms: Any = bulk("Si", a=a)
    if strain is None:
        return System.from_ase(atoms)
    atoms.set_cell(atoms.cell[:] @ (np.eye(3) + strain), True)
    for _ in range(8):
        result: Any = SILICON(System.from_ase(atoms))
        atoms.positions[1] += result.forces[1] / 20  # 20 eV/Å²: about its spring
    assert np.abs(result.forces).max() < 1e-9
    return System.from_ase(atoms)


def test_diamond_is_bound_by_two_epsilon() -> None:
    """The paper: -2 epsilon an atom at its minimum, where bonds are 2^(1/6) sigma."""
    a = 2 ** (1 / 6) * 2.0951 * 4 / np.sqrt(3)
    lowest: Any = SILICON(diamond(a), compute=("energy", "stress"))
    assert lowest.energy / 2 == pytest.approx(-2 * 2.168205, rel=1e-8)
    assert np.abs(lowest.stress).max() * GPA < 1e-3
    observed: Any = SILICON(diamond(5.431))
    assert observed.energy / 2 == pytest.approx(-4.3364, abs=5e-5)


def test_elastic_constants_of_diamond() -> None:
    """C11 = 151.42, C12 = 76.42, C44 = 56.45 GPa: LAMMPS, its example ELASTIC."""
    a, h = 5.43095, 1e-4

    def response(strain: Array) -> Array:
        ahead: Any = SILICON(diamond(a, h * strain), compute=("stress",))
        behind: Any = SILICON(diamond(a, -h * strain), compute=("stress",))
        return np.asarray((ahead.stress - behind.stress) / (2 * h) * GPA)

    along = response(np.diag([1.0, 0.0, 0.0]))
    assert along[0, 0] == pytest.approx(151.42, abs=0.02)
    assert along[1, 1] == pytest.approx(76.42, abs=0.02)
    shear = np.zeros((3, 3))
    shear[0, 1] = shear[1, 0] = 0.5
    assert response(shear)[0, 1] == pytest.approx(56.45, abs=0.02)


def test_every_formulation_of_the_flux_is_the_same(glass: System) -> None:
    v = glass.velocities
    assert v is not None
    assert isinstance(SILICON, Potential)
    powers = edge_powers(SILICON, glass, v)
    exact = hardy_flux(SILICON, glass, v)
    size = float(np.linalg.norm(exact))
    for other in (
        powers.flux(),
        powers.flux(power=local_power(powers)),
        unfolded_flux(SILICON, glass, v),
    ):
        assert np.linalg.norm(other - exact) < 1e-12 * size
    assert np.abs(powers.imbalance()).max() < 1e-12 * np.abs(powers.energy_rates).max()


def test_nothing_is_beyond_the_cutoff_and_everything_fades_towards_it() -> None:
    def at(r: float) -> tuple[float, float]:
        pair = System(positions=np.diag([0.0, r, 0.0])[:2], numbers=[14, 14])
        result: Any = SILICON(pair)
        return result.energy, result.forces[1, 1]

    edge = SILICON.cutoff
    assert at(edge * (1 + 1e-12)) == (0.0, 0.0)
    assert at(edge) == (0.0, 0.0)
    assert at(edge * (1 - 1e-12)) == (0.0, 0.0)
    assert 0 < abs(at(edge * 0.98)[0]) < 1e-6
    well = 2 ** (1 / 6) * 2.0951
    assert at(well) == pytest.approx((-2.168205, 0), abs=1e-7)


def test_edges_beyond_the_cutoff_add_exact_zeros(glass: System) -> None:
    import torch

    from gkflux.neighbors import edge_vectors, neighbor_list

    found = []
    for reach in (SILICON.cutoff, SILICON.cutoff + 1.0):
        edges = neighbor_list(glass.positions, glass.cell, glass.pbc, reach)
        d = torch.tensor(
            edge_vectors(glass.positions, glass.cell, edges), requires_grad=True
        )
        centre, other = torch.from_numpy(edges.centre), torch.from_numpy(edges.other)
        u = SILICON.energies(torch.full((8,), 14), d, centre, other, 8)
        (g,) = torch.autograd.grad(u.sum(), d)
        assert torch.isfinite(g).all()
        found.append(u.detach())
    assert torch.equal(*found)


def test_mistakes() -> None:
    with pytest.raises(FluxError, match="must be positive"):
        StillingerWeber(sigma=0.0)
    with pytest.raises(FluxError, match="not trained on Ge"):
        SILICON(System(positions=[[0, 0, 0]], numbers=[32]))
