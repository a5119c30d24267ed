"""Blocks of steps on a device: the bits of the ordinary engine, whatever the blocks are."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gkflux.dynamics.device_movers import DeviceLangevin, DeviceVerlet, Mover
from gkflux.dynamics.device_steps import DeviceSteps
from gkflux.dynamics.engine import Engine, Flux
from gkflux.dynamics.guards import UnstableError
from gkflux.dynamics.langevin import Langevin
from gkflux.dynamics.state import Floats, State
from gkflux.dynamics.verlet import Integrator, VelocityVerlet
from gkflux.errors import FluxError
from gkflux.potentials.base import Batch
from gkflux.potentials.schnet_gpu import DeviceBatch, DeviceSchNet
from gkflux.potentials.schnet_gpu_weights import DeviceWeights
from gkflux.system import System
from tests.gkflux.potentials.networks import crystal, network

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
WEIGHTS = DeviceWeights.of(network(features=16), DEVICE)
TIMESTEP = 0.5
ALL = (
    "positions",
    "velocities",
    "forces",
    "energy",
    "energy_kinetic",
    "temperature",
    "stress",
    "heat_flux",
)


class Same:
    """A potential whose batches are the device engine, behind the host's interface."""

    cutoff, layers = 4.0, 2
    provenance: dict[str, Any] = {}  # noqa: RUF012

    def batch(self, systems: Sequence[System], *, skin: float | None = None) -> Batch:
        return DeviceBatch(DeviceSchNet(WEIGHTS, systems, skin))


Sample = tuple[int, dict[str, Floats]]


def sampled(steps: DeviceSteps, *counts: int) -> list[Sample]:
    found: list[Sample] = []
    for count in counts:
        steps.advance(count, due, lambda step, values: found.append((step, values)))
    return found


def make(
    kind: str, replicas: int = 2, *, flux: Flux | None = None, **options: Any
) -> DeviceSteps:
    systems, x, v = crystal(replicas)
    state = options.pop("state", None) or State.at_rest(x, v)
    net = DeviceSchNet(WEIGHTS, systems, options.pop("skin", None))
    masses = systems[0].masses
    mover: Mover = DeviceVerlet(net, masses, timestep=TIMESTEP)
    if kind == "langevin":
        mover = DeviceLangevin(net, masses, **langevin(replicas), block=32)
    return DeviceSteps(
        net,
        state,
        mover,
        masses=masses,
        volume=systems[0].volume,
        timestep=TIMESTEP,
        longest=options.pop("longest", 2.0),
        flux=flux,
        **options,
    )


def langevin(replicas: int) -> dict[str, Any]:
    return {
        "timestep": TIMESTEP,
        "temperature": 300.0,
        "friction": 0.01,
        "streams": Langevin.streams(1, 0, range(replicas)),
    }


def host(
    kind: str, replicas: int = 2, flux: Flux | None = None, state: State | None = None
) -> Engine:
    systems, x, v = crystal(replicas)
    masses = systems[0].masses
    integrator: Integrator = VelocityVerlet(masses, timestep=TIMESTEP)
    if kind == "langevin":
        integrator = Langevin(masses, **langevin(replicas))
    engine = Engine(Same(), systems[0], state or State.at_rest(x, v), integrator, flux=flux)
    engine.begin()
    return engine


def due(step: int) -> Collection[str]:
    return ALL if step % 5 == 0 else ("heat_flux", "energy") if step % 2 == 0 else ()


def bits(steps: DeviceSteps) -> list[bytes]:
    s, e = steps.state, steps.evaluation
    return [a.tobytes() for a in (s.positions, s.velocities, s.heat, *e)]


def assert_same_samples(a: list[Sample], b: list[Sample]) -> None:
    assert [step for step, _ in a] == [step for step, _ in b]
    for (step, mine), (_, its) in zip(a, b, strict=True):
        assert mine.keys() == its.keys()
        for name in mine:
            assert mine[name].tobytes() == its[name].tobytes(), (step, name)


@pytest.mark.parametrize("kind", ["nve", "langevin"])
def test_the_same_bits_as_the_ordinary_engine(kind: str) -> None:
    lattice: Floats = crystal()[1][0] + 0.05
    for flux in (Flux(), Flux(gauge="lattice", convective=False, lattice=lattice)):
        steps, engine = make(kind, flux=flux), host(kind, flux=flux)
        steps.begin()
        samples = sampled(steps, 45)
        assert [step for step, _ in samples] == [s for s in range(1, 46) if due(s)]
        by_step = dict(samples)
        for step in range(1, 46):
            engine.step()
            if not due(step):
                continue
            expected = engine.measure(tuple(due(step)))
            assert set(by_step[step]) == set(due(step))
            for name, found in by_step[step].items():
                assert found.shape == expected[name].shape, name
                if name in ("energy_kinetic", "temperature") or DEVICE == "cuda":
                    assert found == pytest.approx(expected[name], rel=1e-12), name
                else:
                    assert found.tobytes() == expected[name].tobytes(), (step, name)
        assert steps.step == 45
        assert steps.state.positions.tobytes() == engine.state.positions.tobytes()
        assert steps.state.velocities.tobytes() == engine.state.velocities.tobytes()
        assert steps.state.heat == pytest.approx(engine.state.heat, rel=1e-12)


@pytest.mark.parametrize("kind", ["nve", "langevin"])
def test_no_bit_depends_on_blocks_or_lists(kind: str) -> None:
    expected = make(kind)
    expected.begin()
    samples = sampled(expected, 32)
    for options in ({"block": 7}, {"skin": 0.001}, {"skin": 0.08}):
        other = make(kind, **options)
        other.begin()
        assert_same_samples(samples, sampled(other, 11, 21))
        assert bits(other) == bits(expected), options
    assert other._net.lists.rebuilds > 4


@pytest.mark.parametrize("kind", ["nve", "langevin"])
def test_a_restart_and_the_company_change_no_bit(kind: str) -> None:
    whole = make(kind, 3)
    whole.begin()
    whole.advance(20)
    middle = whole.state
    whole.advance(25)
    again = make(kind, 3, state=middle)
    again.begin()
    again.advance(25)
    assert bits(again) == bits(whole)
    _, x, v = crystal(3)
    alone = make(kind, 1, state=State.at_rest(x[:1], v[:1]))
    alone.begin()
    alone.advance(45)
    assert alone.state.positions[0].tobytes() == whole.state.positions[0].tobytes()
    assert alone.state.heat[0] == whole.state.heat[0]


def test_energy_is_conserved() -> None:
    steps = make("nve", 1)
    steps.begin()
    names, kept = ("energy", "energy_kinetic"), []
    steps.advance(120, lambda step: names, lambda step, values: kept.append(values))
    total = np.array([v["energy"][0] + v["energy_kinetic"][0] for v in kept])
    potential = np.array([v["energy"][0] for v in kept])
    assert total.std() < 0.01 * potential.std()


@pytest.mark.parametrize("longest", [0.02, 0.05])
def test_an_atom_that_flies_away_is_named(longest: float) -> None:
    _, x, v = crystal(2)
    v[1, 4, 0] = 0.1
    steps = make("nve", state=State.at_rest(x, v), longest=longest)
    engine = host("nve", state=State.at_rest(x, v))
    engine._longest = longest
    steps.begin()
    kept: list[int] = []
    with pytest.raises(UnstableError, match=r"replica 1, atom 4: it moved") as found:
        steps.advance(40, lambda step: ("energy",), lambda step, _: kept.append(step))
    with pytest.raises(UnstableError) as expected:
        move(engine, 40)
    assert str(found.value) == str(expected.value)
    assert kept == list(range(1, found.value.step))


def test_an_atom_that_is_too_fast_in_the_middle_of_a_block_only() -> None:
    """The limit is the largest speed of 32 steps, which is not that of the last."""
    engine, fastest = host("nve"), []
    for _ in range(32):
        engine.step()
        fastest.append(float(np.linalg.norm(engine.state.velocities, axis=2).max()))
    peak = int(np.argmax(fastest))
    assert fastest[-1] < 0.999 * fastest[peak]
    longest = fastest[peak] * TIMESTEP * (1 - 1e-6)
    steps = make("nve", longest=longest, skin=6.0)  # one list lasts: no block is halved
    steps.begin()
    with pytest.raises(UnstableError) as found:
        steps.advance(32)
    assert found.value.step <= peak + 1


def move(engine: Engine, steps: int) -> None:
    for _ in range(steps):
        engine.step()


def test_a_place_that_is_nowhere_stops_the_run() -> None:
    _, x, v = crystal(2)
    v[0, 2, 1] = np.nan
    steps = make("nve", state=State.at_rest(x, v))
    steps.begin()
    with pytest.raises(FluxError, match="not finite"):
        steps.advance(3)


def test_what_the_readme_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(__file__).parents[3]
    section = (root / "gkflux/README.md").read_text().partition("## On a GPU")[2]
    code = (
        section.partition("```python")[2]
        .partition("```")[0]
        .replace('"cuda"', f'"{DEVICE}"')
    )
    assert "steps.advance(100" in code
    monkeypatch.chdir(root)
    found: list[int] = []
    exec(
        code.replace("print)", "lambda step, values: found.append(step))"), {"found": found}
    )
    assert found == list(range(2, 101, 2))
