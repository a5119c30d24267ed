"""The calculator: same numbers as the potential, and dynamics that conserve energy."""

from typing import Any

import numpy as np
import pytest
import torch
from ase.build import bulk
from ase.md.verlet import VelocityVerlet
from ase.units import fs

from gkflux.ase import Calculator
from gkflux.potentials.schnet import Architecture, SchNet
from gkflux.potentials.schnet_potential import SchNetPotential
from gkflux.system import System


@pytest.fixture
def potential() -> SchNetPotential:
    torch.manual_seed(0)
    return SchNetPotential(SchNet(Architecture(features=16, gaussians=8, cutoff=4.0)))


def crystal() -> Any:
    atoms: Any = bulk("Si", cubic=True)
    atoms.rattle(0.1, seed=1)
    return atoms


def test_numbers_are_those_of_the_potential(potential: SchNetPotential) -> None:
    atoms = crystal()
    atoms.calc = Calculator(potential)
    ours = potential(System.from_ase(atoms), compute=("energy", "forces", "stress"))
    assert atoms.get_potential_energy() == ours.energy
    assert np.array_equal(atoms.get_forces(), ours.forces)  # type: ignore[arg-type]
    assert ours.stress is not None
    stress = atoms.get_stress(voigt=False)
    assert stress == pytest.approx((ours.stress + ours.stress.T) / 2, abs=1e-7)


def test_a_new_cell_is_a_new_list(potential: SchNetPotential) -> None:
    atoms = crystal()
    atoms.calc = Calculator(potential)
    before = atoms.get_potential_energy()
    atoms.set_cell(atoms.cell * 1.02, scale_atoms=True)
    after = atoms.get_potential_energy()
    assert after != before
    assert after == potential(System.from_ase(atoms)).energy


def test_dynamics_conserve_energy(potential: SchNetPotential) -> None:
    atoms = crystal()
    atoms.calc = Calculator(potential)
    atoms.set_velocities(np.random.default_rng(0).normal(0, 0.03, (8, 3)))
    start = atoms.get_total_energy()
    VelocityVerlet(atoms, timestep=0.5 * fs).run(40)  # type: ignore[no-untyped-call]
    moved = abs(atoms.get_kinetic_energy() + atoms.get_potential_energy() - start)
    assert moved < 2e-3 * atoms.get_kinetic_energy()
