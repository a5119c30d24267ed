"""The guards: what stops a run, what warns, and what does not."""

import re
import threading
from pathlib import Path

import numpy as np
import pytest

import gkflux
import stepson
from gkflux.dynamics.guards import Drift, DriftError, Hops, UnstableError, check_motion
from gkflux.dynamics.state import State
from gkflux.trajectories import trajectory_runs
from stepson.units import BOLTZMANN
from tests.gkflux.dynamics.harmonic import oscillators
from tests.gkflux.dynamics.runs import TWO_STAGES, Counting, perform


def drift_of(kelvin_per_ns: float, noise: float, steps: int, seed: int = 0) -> Drift:
    """Feed a line of this slope and noise (K), one replica of 10 atoms, 2 fs a step."""
    drift = Drift(replicas=2, n_atoms=10, timestep=2.0, steps=500_000, target=300)
    rng, unit = np.random.default_rng(seed), 30 * BOLTZMANN
    for step in range(0, steps + 1, 10):
        value = kelvin_per_ns * step * 2e-6 + noise * rng.normal()
        drift.add(step, -7.0 + unit * np.array([value, 0.0]))
    return drift


def test_slope_of_a_line_is_exact() -> None:
    slope, error = drift_of(12.0, 0.0, 10_000).slope()
    assert slope[0] == pytest.approx(12.0, rel=1e-6)
    assert slope[1] == 0
    assert error[0] < 1e-4


def test_standard_error_is_that_of_repeated_experiments() -> None:
    found = [drift_of(5.0, 0.5, 10_000, seed) for seed in range(60)]
    slopes = np.array([each.slope()[0][0] for each in found])
    errors = np.array([each.slope()[1][0] for each in found])
    assert slopes.mean() == pytest.approx(5.0, abs=4 * slopes.std() / np.sqrt(60))
    assert errors.mean() == pytest.approx(slopes.std(), rel=0.35)


def test_nothing_is_judged_before_ten_picoseconds() -> None:
    assert drift_of(1000.0, 0.0, 4999).judge(4999) is None


def test_a_drift_is_warned_of_once_and_stops_the_run_when_large() -> None:
    drift = drift_of(10.0, 1e-4, 6000)
    warning = drift.judge(6000)
    assert warning is not None
    assert "replica 0" in warning
    assert "+10.0" in warning
    assert drift.judge(6001) is None
    with pytest.raises(DriftError, match="drifts by") as caught:
        drift_of(-100.0, 0.01, 6000).judge(6000)
    assert caught.value.replica == 0
    assert caught.value.change == pytest.approx(-100, rel=0.01)


def test_a_small_or_uncertain_drift_is_no_drift() -> None:
    assert drift_of(4.0, 0.01, 6000).judge(6000) is None
    noisy = drift_of(10.0, 4.0, 6000)
    assert noisy.slope()[1][0] > 2
    assert noisy.judge(6000) is None


def test_sums_restore_the_fit_to_the_bit() -> None:
    whole = drift_of(10.0, 0.5, 10_000)
    half = drift_of(10.0, 0.5, 5_130)
    other = Drift(replicas=2, n_atoms=10, timestep=2.0, steps=500_000, target=300)
    other.restore(np.stack([half.sums(0), half.sums(1)]))
    rng, unit = np.random.default_rng(0), 30 * BOLTZMANN
    for step in range(0, 10_001, 10):
        value = 10.0 * step * 2e-6 + 0.5 * rng.normal()
        if step > 5_130:
            other.add(step, -7.0 + unit * np.array([value, 0.0]))
    for k in range(2):
        np.testing.assert_array_equal(other.sums(k), whole.sums(k))


@pytest.mark.parametrize("bad", [np.nan, np.inf, 3.0])
def test_a_lost_atom_is_found(bad: float) -> None:
    velocities = np.full((2, 5, 3), 1e-3)
    state = State.at_rest(np.zeros_like(velocities), velocities, step=77)
    check_motion(state, longest=2.0, timestep=1.0)
    state.velocities[1, 3, 2] = bad
    with pytest.raises(UnstableError, match="step 77, replica 1, atom 3") as caught:
        check_motion(state, longest=2.0, timestep=1.0)
    assert (caught.value.step, caught.value.replica, caught.value.atom) == (77, 1, 3)


def test_many_slow_atoms_are_no_lost_atom() -> None:
    velocities = np.full((1, 5000, 3), 0.1)
    state = State.at_rest(np.zeros_like(velocities), velocities)
    check_motion(state, longest=2.0, timestep=1.0)


def freed(folder: Path, stop_at: int = 0) -> list[str]:
    """Run free atoms at 300 K, perhaps until so many force calls; return what was said.

    Limits are half the 2 Å to a neighbour.
    """
    stop, calls = threading.Event(), 0

    def each() -> None:
        nonlocal calls
        calls += 1
        if calls == stop_at:
            stop.set()

    free, lattice = Counting(each), oscillators().positions
    free.springs, free.quartic = free.springs * 1e-9, 0.0
    text = TWO_STAGES.replace("{ every = 2 }", '{ every = 2, gauge = "lattice" }')
    text = text.replace("[potential]", 'lattice = "none"\n[potential]')
    summary = perform(folder, text, potential=free, lattice=lattice, stop=stop)
    return [line for line in summary.messages if "has left its site" in line]


def test_the_first_hop_of_a_replica_is_said_once_and_kept(tmp_path: Path) -> None:
    """Restarts say nothing twice, and Green-Kubo is told of all of them."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    lines = freed(whole)
    assert sorted(line.split(":")[0][-1] for line in lines) == ["0", "1", "2"]
    assert freed(broken, 301 + 1 + 240) == []
    assert freed(broken, 1 + 30) == lines
    assert freed(broken) == []
    for line in lines:
        step, replica, atom = map(int, re.findall(r"\d+", line)[:3])
        for folder in (whole, broken):
            file = folder / "cold" / f"{replica:02d}" / "md.son"
            with stepson.open(file) as found:
                assert found.checkpoint()["hop"] == {"step": step, "atom": atom}
                assert found.checkpoint(0)["hop"] is None
            (run,) = trajectory_runs(file)
            assert run.facts["hop"] == {"step": step, "atom": atom, "file": str(file)}
    result = gkflux.GreenKubo.from_trajectories(whole / "cold")
    check = next(check for check in result.checks if check.name == "lattice")
    assert check.status == "fail"
    for step, replica, atom in (map(int, re.findall(r"\d+", line)[:3]) for line in lines):
        assert f"atom {atom} at step {step} of " in check.message
        assert f"{replica:02d}/md.son" in check.message


def test_hops_are_counted_from_the_mean_of_all_atoms() -> None:
    system = oscillators()
    hops = Hops(system, system.positions, 1)
    shifted = system.positions[None] + 5.0
    assert hops.look(6, shifted) == []
    assert hops.first == [None]
    shifted[0, 2, 0] += 3.0
    assert hops.look(7, shifted) == [(0, {"step": 7, "atom": 2})]
    assert hops.look(8, shifted) == []
    assert hops.first == [{"step": 7, "atom": 2}]
