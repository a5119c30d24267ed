"""The guards: what stops a run, what warns, and what does not."""

import re
import threading
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

import gkflux
import stepson
from gkflux.dynamics.cell_guards import CellError, Escapes, LostAtomError
from gkflux.dynamics.drift import Drift, DriftError
from gkflux.dynamics.guards import Hops, UnstableError, check_motion
from gkflux.dynamics.progress import Progress
from gkflux.dynamics.state import Floats, State
from gkflux.errors import FluxError
from gkflux.potentials.base import Evaluation
from gkflux.potentials.lennard_jones import LennardJones
from gkflux.potentials.load import load_potential
from gkflux.system import System
from gkflux.trajectories import trajectory_runs
from stepson.units import BOLTZMANN
from tests.gkflux.dynamics.harmonic import SITES, HarmonicBatch, oscillators
from tests.gkflux.dynamics.runs import TWO_STAGES, Counting, perform


def drift_of(
    kelvin_per_ns: float, noise: float, steps: int, seed: int = 0, length: int = 500_000
) -> Drift:
    """Feed a line of this slope and noise (K), one replica of 10 atoms, 2 fs a step."""
    drift = Drift(replicas=2, n_atoms=10, timestep=2.0, steps=length, target=300)
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


def wandering(seed: int, keep: float) -> Drift:
    """Block means that remember: x_i = keep x_{i-1} + noise, K, no drift."""
    drift = Drift(replicas=1, n_atoms=10, timestep=500.0, steps=100, target=300)
    rng, value = np.random.default_rng(seed), 0.0
    for step in range(82):
        value = keep * value + rng.normal()
        drift.add(step, np.array([-7.0 + 30 * BOLTZMANN * value]))
    return drift


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.9])
def test_standard_error_counts_what_neighbouring_blocks_share(keep: float) -> None:
    found = [wandering(seed, keep).slope() for seed in range(200)]
    slopes, errors = (np.array([pair[i][0] for pair in found]) for i in range(2))
    assert slopes.std() == pytest.approx(np.sqrt((errors**2).mean()), rel=0.35)
    assert (np.abs(slopes) > 3 * errors).mean() < 0.06


def test_correlation_from_running_sums_is_that_of_the_residuals() -> None:
    drift = wandering(3, 0.8)
    rng, value, values = np.random.default_rng(3), 0.0, []
    for _ in range(81):
        value = 0.8 * value + rng.normal()
        values.append(value)
    x, t = np.array(values), 500.0 * np.arange(81)
    slope, start = np.polyfit(t, x, 1)
    rest = x - start - slope * t
    rho = (rest[1:] * rest[:-1]).sum() / (rest**2).sum()
    rho += (1 + 4 * rho) / 81
    white = np.sqrt((rest**2).sum() / 79 / ((t - t.mean()) ** 2).sum())
    expected = 1e6 * white * np.sqrt((1 + rho) / (1 - rho))
    assert drift.slope()[0][0] == pytest.approx(1e6 * slope, rel=1e-6)
    assert drift.slope()[1][0] == pytest.approx(expected, rel=1e-6)


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


def test_a_slope_is_not_extrapolated_to_thousands_of_times_what_was_seen() -> None:
    """A stage of 100 ns: 12 ps tell of 1.2 ns; the same slope stops it after 1 ns."""
    stage = 50_000_000
    assert drift_of(1.0, 1e-4, 6000, length=stage).judge(6000) is None
    warning = drift_of(10.0, 1e-4, 6000, length=stage).judge(6000)
    assert warning is not None
    assert "+12.0 ± 0.0 K over 1.2 ns, more than 2%" in warning
    with pytest.raises(DriftError, match=r"by \+100 K over this stage"):
        drift_of(1.0, 1e-4, 500_000, length=stage).judge(500_000)


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


def freed(
    folder: Path, stop_at: int = 0, fail_at: int = 0, text: str = TWO_STAGES
) -> list[str]:
    """Run free atoms at 300 K, perhaps until so many force calls; return what was said.

    Limits are half the 2 Å to a neighbour.
    """
    stop, calls = threading.Event(), 0

    def each() -> None:
        nonlocal calls
        calls += 1
        if calls == stop_at:
            stop.set()
        if calls == fail_at:
            free.running.springs[:] = np.nan

    free, lattice = Counting(each), oscillators().positions
    free.springs, free.quartic = free.springs * 1e-9, 0.0
    text = text.replace("{ every = 2 }", '{ every = 2, gauge = "lattice" }')
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


@pytest.mark.parametrize("stop_at", [0, 301 + 1 + 40])
def test_a_hop_is_noted_though_the_run_fails_before_a_commit(
    stop_at: int, tmp_path: Path
) -> None:
    """In a run whose writer is at work, and in one that has just been taken up."""
    text = TWO_STAGES.replace("1e-9\ncommit_steps = 50", "1000\ncommit_steps = 200")
    fail_at = 301 + 1 + 300
    if stop_at:
        text, fail_at = text.replace("= 200", "= 2000"), 250
        assert freed(tmp_path, stop_at, text=text) == []
    with pytest.raises(UnstableError):
        freed(tmp_path, fail_at=fail_at, text=text)
    hop = msgpack.packb("hop") + msgpack.packb({"step": 250, "atom": 0})[:-1]
    files = sorted(tmp_path.glob("cold/*/md.son"))
    assert [hop in file.read_bytes() for file in files] == [True] * 3


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


# --- each guard, provoked in a run --------------------------------------------------------

ONE_STAGE = """
[system]
structure = "none"
temperature = 60
seed = 4
[potential]
model = "none"
[[stage]]
name = "only"
timestep = 2.0
steps = 400
record = { every = 4, fields = ["positions"] }
[output]
folder = "out"
commit_seconds = 1000
commit_steps = 20
"""
FILE = Path("only") / "md.son"


def dimer(length: float) -> System:
    """Two pairs of argon atoms in a large box, one of them squeezed to a length, Å."""
    places = np.array([[2, 2, 2], [2, 2, 5.9], [12, 12, 12], [12, 12, 12 + length]])
    return System(positions=places, numbers=[18] * 4, cell=np.eye(3) * 30, pbc=True)


def argon() -> LennardJones:
    return LennardJones(epsilon=0.0104, sigma=3.4, cutoff=8.0)


def test_an_explosion_names_step_and_atom_and_keeps_what_was_good(tmp_path: Path) -> None:
    """A timestep ten times too long: all goes well until the first hard collision."""
    text = ONE_STAGE.replace("timestep = 2.0", "timestep = 90.0").replace("= 60", "= 3000")
    with pytest.raises(UnstableError, match="Å in one step; the frames before") as caught:
        perform(tmp_path, text, potential=argon(), system=dimer(3.9))
    error = caught.value
    assert "Try a shorter timestep" in str(error)
    assert 0 < error.step < 400
    assert error.atom in range(4)
    with stepson.open(tmp_path / FILE) as trajectory:
        last = int(trajectory["positions"].steps[-1])
        assert error.step - 4 <= last < error.step
        assert np.isfinite(trajectory["energy"][:]).all()


@pytest.mark.parametrize("length", [0.001, 0.4, 1.2])
def test_atoms_on_top_of_one_another_are_found_before_a_list_is_made(
    tmp_path: Path, length: float
) -> None:
    with pytest.raises(UnstableError, match=r"step 1, replica 0, atom [23]:"):
        perform(tmp_path, ONE_STAGE, potential=argon(), system=dimer(length))
    with stepson.open(tmp_path / FILE) as trajectory:
        assert list(trajectory["positions"].steps[:]) == [0]


class Whirl(Counting):
    """Oscillators whose forces have a part that no energy has: it does work, on and on."""

    def __init__(self, strength: float) -> None:
        super().__init__()
        self._strength = strength

    def batch(self, systems: Any, *, skin: float | None = None) -> HarmonicBatch:
        plain, strength = super().batch(systems), self._strength
        right = plain.forces

        def forces(positions: Floats, cells: Floats | None = None) -> Evaluation:
            found = right(positions, cells)
            around = np.cross([0.0, 0.0, strength], positions - plain.sites)
            return found._replace(forces=found.forces + around)

        plain.forces = forces  # type: ignore[method-assign]
        return plain


@pytest.mark.parametrize(
    ("ensemble", "strength"), [("nve", 0.01), ("langevin", 0.3), ("csvr", 0.01)]
)
def test_a_run_that_drifts_is_stopped(
    tmp_path: Path, ensemble: str, strength: float
) -> None:
    """A thermostat takes the heat away, and still the books do not fit."""
    more = {"nve": "", "langevin": "friction = 0.01\n", "csvr": "relaxation = 100\n"}
    text = ONE_STAGE.replace(
        'name = "only"\n', f'name = "only"\nensemble = "{ensemble}"\n{more[ensemble]}'
    ).replace("steps = 400", "steps = 6000")
    with pytest.raises(DriftError, match="Try a shorter timestep") as caught:
        perform(tmp_path, text, potential=Whirl(strength))
    assert caught.value.step * 2.0 >= 10_000
    assert caught.value.change > 0.2 * 60
    with stepson.open(tmp_path / FILE) as trajectory:
        assert trajectory["energy"].steps[-1] == caught.value.step
    summary = perform(tmp_path / "right", text, potential=Whirl(0.0))
    assert summary.finished
    assert not any("drifts" in line for line in summary.messages)


def slab(speed: float) -> System:
    """Four free atoms between two walls, 10 Å apart; the last one flies up."""
    v = np.zeros((4, 3))
    v[3, 2] = speed
    return System(
        positions=np.array([[1, 1, 3], [5, 1, 4], [1, 5, 5], [5, 5, 9.0]]),
        numbers=[18] * 4,
        cell=np.eye(3) * 10,
        pbc=[True, True, False],
        velocities=v,
    )


def test_an_atom_that_leaves_the_box_is_said_and_one_that_is_lost_stops_the_run(
    tmp_path: Path,
) -> None:
    free = Counting()
    free.springs, free.quartic = free.springs * 0, 0.0
    text = ONE_STAGE.replace("seed = 4", 'seed = 4\nvelocities = "file"')
    text = text.replace("steps = 400", "steps = 8000")
    said: list[str] = []

    def listen(progress: Progress) -> None:
        said.extend([] if progress.message is None else [progress.message])

    with pytest.raises(LostAtomError, match="replica 0: atom 3 is 4") as caught:
        perform(tmp_path, text, potential=free, system=slab(0.002), listener=listen)
    assert "a larger box" in str(caught.value)
    (line,) = (text for text in said if "has left the box" in text)
    assert "atom 3" in line
    # the momentum is removed: 3/4 of the speed is left
    left = int(line.split()[1].rstrip(","))
    assert left * 2.0 == pytest.approx(1 / 0.0015, abs=500)
    assert caught.value.step * 2.0 == pytest.approx(5 / 0.0015, abs=500)
    with stepson.open(tmp_path / FILE) as trajectory:
        assert trajectory["positions"].steps[-1] >= caught.value.step - 4


def test_walls_are_those_of_open_directions() -> None:
    periodic, cluster = oscillators(), System(positions=SITES, numbers=[18] * 4)
    assert Escapes.of(periodic, 4.0, [0]) is None
    assert Escapes.of(cluster, 4.0, [0]) is None
    cell = np.array([[10.0, 0, 0], [0, 10, 0], [0, 6, 8]])
    oblique = System(positions=SITES + 1, numbers=[18] * 4, cell=cell, pbc=[1, 0, 1])
    escapes = Escapes.of(oblique, 4.0, [7])
    assert escapes is not None
    inside = oblique.positions[None].copy()
    inside[0, 0] += [50, 0, 80]
    inside[0, 0, 1] += 60
    assert escapes.look(5, inside) == []
    # 1 Å beyond the wall, whose normal is (0, 0.8, -0.6)
    inside[0, 2] = [3.0, 10.8, -0.6]
    (line,) = escapes.look(6, inside)
    assert line.startswith("step 6, replica 7: atom 2 has left the box")
    assert escapes.look(7, inside) == []
    inside[0, 2] += 3.5 * np.array([0, 0.8, -0.6])
    with pytest.raises(LostAtomError, match=r"atom 2 is 4\.5 Å outside"):
        escapes.look(8, inside)


def test_a_collapsing_cell_stops_a_run_with_its_good_frames(tmp_path: Path) -> None:
    text = ONE_STAGE.replace(
        'name = "only"\n',
        'name = "only"\nensemble = "npt"\nrelaxation = 100\npressure = 30\n'
        "compressibility = 0.1\n",
    )
    with pytest.raises(CellError, match=r"replica 0: its volume is 0\.49") as caught:
        perform(tmp_path, text)
    assert "Check the pressure (GPa)" in str(caught.value)
    with stepson.open(tmp_path / FILE) as trajectory:
        assert caught.value.step - 4 <= trajectory["volume"].steps[-1] < caught.value.step
        assert (trajectory["volume"][:] > 480).all()


def test_an_element_that_the_model_does_not_know_is_refused_at_once(
    tmp_path: Path,
) -> None:
    system = oscillators()
    strange = System(positions=system.positions, numbers=[18, 18, 54, 18], cell=system.cell)
    model = load_potential("argon")
    with pytest.raises(FluxError, match="not trained on Xe, first at atom 2"):
        perform(tmp_path, ONE_STAGE, potential=model, system=strange)
    assert not (tmp_path / FILE).exists()
