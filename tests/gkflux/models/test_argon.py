"""The shipped argon model does what its card says."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import gkflux
from gkflux.errors import FluxError
from gkflux.flux import edge_powers, local_power
from gkflux.potentials.lennard_jones import LennardJones
from gkflux.potentials.model_file import read_model
from gkflux.system import System
from stepson.units import BOLTZMANN, KINETIC

MODELS = Path(gkflux.__file__).parent / "models"
TEACHER = LennardJones(epsilon=119.8 * BOLTZMANN, sigma=3.405)


@pytest.fixture(scope="module")
def warm() -> System:
    """A crystal of 108 atoms at the density of the liquid, well shaken, with velocities."""
    rng = np.random.default_rng(4)
    basis = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    cells = np.stack(np.meshgrid(*[np.arange(3)] * 3, indexing="ij"), -1).reshape(-1, 1, 3)
    sites = 5.6 * (cells + basis).reshape(-1, 3)
    velocities = rng.normal(0, 0.0014, (108, 3))
    return System(
        positions=sites + rng.normal(0, 0.2, (108, 3)),
        numbers=[18] * 108,
        cell=[16.8] * 3,
        velocities=velocities - velocities.mean(axis=0),
    )


def relative(values: NDArray[np.float64], expected: NDArray[np.float64]) -> float:
    return float(np.linalg.norm(values - expected) / np.linalg.norm(expected))


def test_it_is_as_close_to_its_teacher_as_the_card_says(warm: System) -> None:
    student: Any = gkflux.load_potential("argon")(warm)
    teacher: Any = TEACHER(warm)
    assert relative(student.forces, teacher.forces) < 0.04
    assert abs(student.energy - teacher.energy) / 108 < 5e-4


def test_stress_is_that_of_the_teacher(warm: System) -> None:
    student: Any = gkflux.load_potential("argon")(warm, compute=("stress",))
    teacher: Any = TEACHER(warm, compute=("stress",))
    assert np.abs(student.stress - teacher.stress).max() < 2e-4


def test_only_argon_and_small(warm: System) -> None:
    model = read_model(MODELS / "argon.safetensors")
    assert model.elements == frozenset({18})
    assert (MODELS / "argon.safetensors").stat().st_size < 300_000
    neon = System(positions=warm.positions, numbers=[10] * 108, cell=warm.cell)
    with pytest.raises(FluxError, match="not trained on Ne"):
        gkflux.load_potential("argon")(neon)


def test_the_card_tells_the_errors_in_the_file() -> None:
    card = (MODELS / "argon.md").read_text(encoding="utf-8")
    errors = read_model(MODELS / "argon.safetensors").provenance["errors"]
    assert f"| {errors['force_mae']:.2f} |" in card
    assert f"| {errors['energy_mae']:.3f} |" in card
    assert f"| {errors['force_relative']:.1%} |" in card


def test_messages_carry_power(warm: System) -> None:
    potential = gkflux.load_potential("argon", dtype="float64")
    assert warm.velocities is not None
    powers = edge_powers(potential, warm, warm.velocities)
    missing = relative(powers.flux(power=local_power(powers)), powers.flux())
    assert missing > 1e-3
    assert np.abs(powers.imbalance()).max() < 1e-10 * np.abs(powers.energy_rates).max()


def test_energy_is_conserved(warm: System) -> None:
    """Two picoseconds at 5 fs: no drift beyond 1 K, and the error falls as timestep²."""
    noise = [_noise(warm, timestep) for timestep in (5.0, 2.5)]
    assert noise[0] < 1e-2 * 1.5 * BOLTZMANN * 100
    assert noise[0] > 2 * noise[1]


def _noise(system: System, timestep: float) -> float:
    """rms of the total energy about its mean, eV/atom."""
    batch = gkflux.load_potential("argon").batch([system])
    x, v = np.array(system.positions), np.array(system.velocities)
    kick = 0.5 * timestep / (KINETIC * system.masses[:, None])
    now = batch.forces(x[None])
    total = []
    for _ in range(int(2000 / timestep)):
        v += kick * now.forces[0]
        x += timestep * v
        now = batch.forces(x[None])
        v += kick * now.forces[0]
        kinetic = 0.5 * KINETIC * np.sum(system.masses[:, None] * v * v)
        total.append(kinetic + now.energy[0])
    return float(np.std(total) / system.n_atoms)


def test_the_script_labels_with_the_same_teacher(warm: System) -> None:
    teacher = pytest.importorskip("models.argon.teacher", reason="not in the wheel")
    energy, forces = teacher.energy_forces(warm.positions, 16.8)
    expected: Any = TEACHER(warm)
    assert energy == pytest.approx(expected.energy, rel=1e-12)
    np.testing.assert_allclose(forces, expected.forces, rtol=0, atol=1e-13)
