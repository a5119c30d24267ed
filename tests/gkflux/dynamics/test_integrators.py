"""Velocity Verlet and BAOAB on oscillators of which everything is known."""

import numpy as np
import pytest

from gkflux.dynamics.engine import Engine
from gkflux.dynamics.langevin import Langevin
from gkflux.dynamics.state import (
    Floats,
    State,
    degrees_of_freedom,
    draw_velocities,
    kinetic_energy,
    remove_momentum,
    temperature,
)
from gkflux.dynamics.verlet import VelocityVerlet
from gkflux.potentials.load import load_potential
from gkflux.system import System
from stepson.units import BOLTZMANN, KINETIC
from tests.gkflux.dynamics.harmonic import Harmonic, oscillators

STIFF = Harmonic([1.0, 2.0, 3.0, 4.0], quartic=5.0)


def engine(system: System, *, timestep: float, replicas: int = 1, seed: int = 0) -> Engine:
    velocities = draw_velocities(
        system.masses, 300, seed=seed, stage=0, replicas=range(replicas)
    )
    state = State.at_rest(np.stack([system.positions] * replicas), velocities)
    verlet = VelocityVerlet(system.masses, timestep=timestep)
    return Engine(STIFF, system, state, verlet)


def worst_energy_error(timestep: float) -> float:
    md = engine(oscillators(), timestep=timestep)
    md.begin()
    start, worst = float(md.conserved()[0]), 0.0
    for _ in range(round(400 / timestep)):
        md.step()
        worst = max(worst, abs(float(md.conserved()[0]) - start))
    return worst


def test_energy_error_falls_with_the_square_of_the_timestep() -> None:
    coarse, fine = worst_energy_error(2.0), worst_energy_error(1.0)
    assert coarse / fine == pytest.approx(4.0, rel=0.05)


def test_the_slow_part_takes_the_integrators_own_fluctuations_away() -> None:
    """Fast and slow modes exchange energy, and with it H fluctuates, but not the sum."""
    potential, system = load_potential("argon"), crystal()
    v = draw_velocities(system.masses, 60, seed=1, stage=0, replicas=range(2))
    state = State.at_rest(np.stack([system.positions] * 2), v)
    verlet = VelocityVerlet(system.masses, timestep=30.0)
    md = Engine(potential, system, state, verlet)
    md.begin()
    means = []
    for _ in range(24):
        energies = []
        for _ in range(240):
            md.step()
            energies.append((md.conserved(), md.steady()))
        means.append(np.mean(energies, axis=0))
    plain, steady = np.std(means[2:], axis=0)
    assert (steady < 0.4 * plain).all()


def crystal() -> System:
    corners = np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]]) * 2.7
    cell = System(positions=corners, numbers=[18] * 4, cell=np.eye(3) * 5.4, pbc=True)
    return cell.repeat(2)


def test_verlet_runs_backwards_to_where_it_came_from() -> None:
    md = engine(oscillators(), timestep=2.0)
    before = md.state.positions.copy(), md.state.velocities.copy()
    md.begin()
    for _ in range(200):
        md.step()
    assert np.abs(md.state.positions - before[0]).max() > 1e-2
    md.state.velocities *= -1
    for _ in range(200):
        md.step()
    np.testing.assert_allclose(md.state.positions, before[0], atol=1e-11)
    np.testing.assert_allclose(-md.state.velocities, before[1], atol=1e-13)


def langevin(system: System, replicas: list[int], *, timestep: float, seed: int) -> Engine:
    streams = Langevin.streams(seed, 0, replicas)
    integrator = Langevin(
        system.masses, timestep=timestep, temperature=300, friction=0.02, streams=streams
    )
    velocities = draw_velocities(system.masses, 300, seed=seed, stage=0, replicas=replicas)
    positions = np.stack([system.positions] * len(replicas))
    state = State.at_rest(positions, velocities)
    return Engine(Harmonic([1.0, 2.0, 3.0, 4.0]), system, state, integrator)


def test_langevin_samples_what_theory_says_at_a_finite_timestep() -> None:
    """Positions at T exactly, kinetic energy low by (1 - ω²dt²/4), for every oscillator."""
    n, timestep = 2000, 12.0
    system = oscillators(n)
    md = langevin(system, [0], timestep=timestep, seed=3)
    sites = md.state.positions.copy()
    md.begin()
    kinetic, square = np.zeros(n), np.zeros(n)
    for _ in range(40):
        md.step()
    samples = 150
    for _ in range(samples):
        for _ in range(4):
            md.step()
        kinetic += (md.state.velocities[0] ** 2).sum(axis=1)
        square += ((md.state.positions - sites)[0] ** 2).sum(axis=1)
    springs = np.resize([1.0, 2.0, 3.0, 4.0], n)
    omega2 = springs / (KINETIC * system.masses)
    theory = 1 - omega2 * timestep**2 / 4
    found = kinetic * KINETIC * system.masses / (samples * 3 * BOLTZMANN * 300)
    spread = square * springs / (samples * 3 * BOLTZMANN * 300)
    assert theory[3] < 0.97
    for kind in range(4):
        mine = slice(kind, None, 4)
        error = found[mine].std() / np.sqrt(n / 4)
        assert abs(found[mine].mean() - theory[kind]) < 4 * error
        assert error < 0.006
        error = spread[mine].std() / np.sqrt(n / 4)
        assert abs(spread[mine].mean() - 1) < 4 * error


def test_heat_of_the_thermostat_balances_the_energy() -> None:
    md = langevin(oscillators(64), [0], timestep=1.0, seed=5)
    md.begin()
    start = float(md.conserved()[0])
    for _ in range(2000):
        md.step()
    exchanged = abs(float(md.state.heat[0]))
    assert exchanged > 0.5
    assert abs(float(md.conserved()[0]) - start) < 0.01 * exchanged


def states(md: Engine, steps: int) -> tuple[Floats, Floats, Floats]:
    md.begin()
    for _ in range(steps):
        md.step()
    return md.state.positions, md.state.velocities, md.state.heat


def test_a_replica_is_the_same_bits_alone_and_in_a_batch() -> None:
    system = oscillators(7)
    together = states(langevin(system, [0, 1, 2], timestep=2.0, seed=9), 50)
    for replica in range(3):
        alone = states(langevin(system, [replica], timestep=2.0, seed=9), 50)
        for mine, all_of_them in zip(alone, together, strict=True):
            assert mine[0].tobytes() == all_of_them[replica].tobytes()
    assert not np.any(together[0][0] == together[0][1])


def test_drawn_velocities_have_the_temperature_and_no_momentum() -> None:
    masses = np.resize([16.0, 91.2], 3000)
    drawn = draw_velocities(masses, 500, seed=1, stage=0, replicas=[0, 1])
    np.testing.assert_allclose((masses[:, None] * drawn).sum(axis=1), 0, atol=1e-9)
    kelvin = temperature(
        kinetic_energy(drawn, masses), degrees_of_freedom(3000, momentum_conserved=True)
    )
    np.testing.assert_allclose(kelvin, 500, rtol=4 * np.sqrt(2 / 9000))
    for kind in range(2):
        width = drawn[:, kind::2].std() ** 2 * KINETIC * masses[kind] / BOLTZMANN
        assert width == pytest.approx(500, rel=4 * np.sqrt(2 / 9000))


def test_degrees_of_freedom() -> None:
    assert degrees_of_freedom(96, momentum_conserved=True) == 285
    assert degrees_of_freedom(96, momentum_conserved=False) == 288
    assert degrees_of_freedom(1, momentum_conserved=True) == 3


def test_removing_momentum_keeps_relative_velocities() -> None:
    rng = np.random.default_rng(0)
    masses, v = rng.uniform(1, 50, 10), rng.normal(size=(2, 10, 3))
    before = v[:, 1:] - v[:, :1]
    remove_momentum(v, masses)
    np.testing.assert_allclose(v[:, 1:] - v[:, :1], before, atol=1e-14)
    np.testing.assert_allclose((masses[:, None] * v).sum(axis=1), 0, atol=1e-12)
