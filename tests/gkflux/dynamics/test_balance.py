"""The balance of powers as a guard of runs: silent when right, a clear stop when wrong."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import Tensor

import gkflux
import stepson
from gkflux.dynamics import balance
from gkflux.dynamics.balance import BalanceCheck, BalanceError
from gkflux.dynamics.config import ConfigError, parse
from gkflux.dynamics.run import run
from gkflux.dynamics.state import Floats
from gkflux.errors import FluxError
from gkflux.potentials.autograd import AutogradBatch
from gkflux.potentials.base import Evaluation
from gkflux.potentials.lennard_jones import LennardJones
from gkflux.system import System
from tests.gkflux.dynamics.harmonic import oscillators
from tests.gkflux.dynamics.runs import TWO_STAGES, Counting, assert_same_files, perform

ARGON = """
[system]
structure = "argon.xyz"
supercell = [2, 2, 2]
temperature = 40
seed = 1
[potential]
model = "argon"
[[stage]]
name = "cold"
timestep = 4.0
steps = 12
replicas = 2
record.every = 4
heat_flux = { every = 2 }
[output]
folder = "out"
"""
CHECKED = ARGON.replace("every = 2 }", "every = 2, check_balance = true }")
EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "argon.xyz").write_text((EXAMPLES / "argon.xyz").read_text())
    return tmp_path


def test_a_run_that_is_checked_is_the_same_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every sample, of an engine in float32 with tables; a restart may switch it off."""
    monkeypatch.setattr(balance, "EVERY", 1)
    plain = ARGON.replace('folder = "out"', 'folder = "plain"')
    assert run(parse(plain, folder / "run.toml")).finished
    assert run(parse(CHECKED, folder / "run.toml"), steps=4).finished
    assert run(parse(ARGON, folder / "run.toml")).finished
    assert_same_files(folder / "plain", folder / "out")


class Coupled(LennardJones):
    """A crystal with messages of its own; one of them may be fetched behind our back."""

    layers = 2
    declared = True
    provenance: Mapping[str, Any]

    def __init__(self) -> None:
        super().__init__(epsilon=0.0104, sigma=3.4, cutoff=5.0)
        self.provenance = {"kind": "coupled", "sha256": "0"}

    def energies(
        self,
        numbers: Tensor,
        d: Tensor,
        centre: Tensor,
        other: Tensor,
        n_atoms: int,
        gather: Any = None,
    ) -> Tensor:
        u = super().energies(numbers, d, centre, other, n_atoms)
        w = (1 - (d * d).sum(1) / self.cutoff**2) ** 3
        x = u.new_zeros(n_atoms).scatter_add(0, centre, w)
        rows = gather(x, other) if self.declared and gather is not None else x[other]
        return u + 0.01 * u.new_zeros(n_atoms).scatter_add(0, centre, w * rows * x[centre])

    def batch(self, systems: Any, *, skin: float | None = None) -> "CoupledBatch":
        self.running = CoupledBatch(self, systems)
        return self.running


class CoupledBatch(AutogradBatch):
    """Calls `each` before every force call, with its number."""

    each: Callable[[int], None] = staticmethod(lambda call: None)

    def forces(self, positions: Floats, *more: Any) -> Evaluation:
        self.each(self.statistics.calls)
        return super().forces(positions, *more)


def crystal() -> System:
    grid = np.stack(np.meshgrid(*[np.arange(2.0)] * 3), axis=-1).reshape(-1, 3)
    noise = np.random.default_rng(0).normal(0, 0.1, (8, 3))
    return System(positions=3.8 * grid + noise, numbers=[18] * 8, cell=np.eye(3) * 7.6)


def coupled(text: str, folder: Path, potential: Coupled) -> None:
    perform(folder, text, potential=potential, system=crystal())


SHORT = (
    TWO_STAGES.replace("steps = 301", "steps = 10")
    .replace("steps = 600", "steps = 20")
    .replace("{ spacing = 40 }", "{ spacing = 2 }")
    .replace("temperature = 300", "temperature = 30")
    .replace("heat_flux = { every = 2 }", "heat_flux = { every = 2, check_balance = true }")
)


def test_a_gather_that_is_not_declared_stops_the_run(tmp_path: Path) -> None:
    coupled(SHORT, tmp_path / "right", Coupled())
    wrong = Coupled()
    wrong.declared = False
    with pytest.raises(BalanceError, match="fetch every feature of another atom") as caught:
        coupled(SHORT, tmp_path / "wrong", wrong)
    assert caught.value.step == 0
    assert caught.value.relative > 1e-3
    assert re.match(r"step 0, replica 0, atom \d: its edges bring", str(caught.value))


def test_frames_before_a_sample_that_is_wrong_are_kept(tmp_path: Path) -> None:
    potential = Coupled()

    def each(call: int) -> None:
        potential.declared = call < 4

    CoupledBatch.each = staticmethod(each)
    try:
        with pytest.raises(BalanceError) as caught:
            coupled(SHORT.replace("replicas = 3", "replicas = 1"), tmp_path, potential)
    finally:
        CoupledBatch.each = staticmethod(lambda call: None)
    assert caught.value.step == 4
    with stepson.open(tmp_path / "cold" / "md.son") as trajectory:
        np.testing.assert_array_equal(trajectory["heat_flux"].steps[:], [0, 2])
        assert not trajectory.sealed


def test_early_samples_and_some_later_ones_are_looked_at() -> None:
    system = crystal()
    potential = Coupled()
    looked = 0

    class Counted(CoupledBatch):
        def books(self) -> Any:
            nonlocal looked
            looked += 1
            return super().books()

    batch = Counted(potential, [system])
    check = BalanceCheck(potential, batch, system, [0])
    v: NDArray[np.float64] = np.random.default_rng(1).normal(0, 1e-3, (1, 8, 3))
    forces = batch.forces(system.positions[None]).forces
    batch.heat_flux(v)
    state = gkflux.dynamics.state.State.at_rest(system.positions[None], v)
    when = []
    for sample in range(1, 10_001):
        before = looked
        check.look(state, forces)
        if looked > before:
            when.append(sample)
    assert when == [1, 2, 3, 5000, 10_000]


def test_molecular_dynamics_checks_too() -> None:
    potential, system = Coupled(), crystal()
    potential.declared = False
    md = gkflux.MolecularDynamics(
        potential,
        system,
        temperature=30,
        timestep=2.0,
        heat_flux_every=1,
        check_balance=True,
    )
    with pytest.raises(BalanceError, match="step 0, replica 0"):
        md.run(2)


def test_what_cannot_balance_is_refused(folder: Path) -> None:
    local = CHECKED.replace("every = 2,", 'every = 2, formulation = "local",')
    with pytest.raises(ConfigError, match="no atom balances; remove check_balance"):
        run(parse(local, folder / "run.toml"))
    with pytest.raises(FluxError, match="CountingBatch does not tell what its edges carry"):
        perform(folder, SHORT, potential=Counting(), system=oscillators())
