"""What must hold on a GPU: ``pytest -m gpu``, on a machine that has one.

The tests of the kernels, of the lists and of the blocks of steps
(``potentials/test_schnet_triton.py``, ``dynamics/test_device_steps.py``) run on the GPU too
where there is one; here is what the interpreter and a CPU cannot show.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gkflux.dynamics.device_movers import DeviceLangevin, DeviceVerlet, Mover
from gkflux.dynamics.device_noise import device_normals
from gkflux.dynamics.device_steps import DeviceSteps
from gkflux.dynamics.langevin import Langevin
from gkflux.dynamics.noise import normals
from gkflux.dynamics.state import State
from gkflux.neighbors import neighbor_list
from gkflux.neighbors_gpu import device_neighbor_list
from gkflux.potentials.load import load_potential
from gkflux.potentials.schnet import Architecture, SchNet
from gkflux.potentials.schnet_gpu import DeviceBatch, DeviceSchNet
from gkflux.potentials.schnet_gpu_weights import DeviceWeights
from gkflux.potentials.schnet_potential import SchNetPotential
from gkflux.system import System

Floats = NDArray[np.float64]
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]
TIMESTEP, REPLICAS = 1.0, 3
FIELDS = ("positions", "velocities", "energy", "energy_kinetic", "heat_flux", "stress")
CORNERS = np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]]) / 2


@pytest.fixture(scope="module")
def network() -> SchNet:
    torch.manual_seed(0)
    net = SchNet(Architecture(), mean=-3.0, stddev=0.3).requires_grad_(False)
    for p in net.parameters():
        p.add_(0.02 * torch.randn_like(p))
    return net


@pytest.fixture(scope="module")
def systems() -> list[System]:
    """Fluorite ZrO2, 96 atoms, three times, each jittered in its own way."""
    oxygen = np.concatenate([CORNERS + 0.25, CORNERS + 0.75])
    crystal = System(
        positions=np.concatenate([CORNERS, oxygen]) * 5.2,
        numbers=[40] * 4 + [8] * 8,
        cell=np.eye(3) * 5.2,
    ).repeat(2)
    rng = np.random.default_rng(1)
    shape = crystal.positions.shape
    return [
        crystal.moved(crystal.positions + rng.normal(0, 0.05, shape))
        for _ in range(REPLICAS)
    ]


def stacked(systems: list[System]) -> tuple[Floats, Floats]:
    x = np.stack([system.positions for system in systems])
    return x, np.random.default_rng(2).normal(0, 0.004, x.shape)


def due(step: int) -> Collection[str]:
    return FIELDS if step % 8 == 0 else ("heat_flux",) if step % 2 == 0 else ()


def run(
    network: SchNet,
    systems: list[System],
    state: State,
    steps: int,
    kind: str,
    *,
    graphs: bool = True,
    **options: Any,
) -> tuple[State, list[tuple[int, dict[str, Floats]]]]:
    weights = DeviceWeights.of(network, "cuda")
    net = DeviceSchNet(weights, systems, options.pop("skin", None))
    masses = systems[0].masses
    mover: Mover = DeviceVerlet(net, masses, timestep=TIMESTEP)
    if kind == "langevin":
        mover = DeviceLangevin(
            net,
            masses,
            timestep=TIMESTEP,
            temperature=300.0,
            friction=0.01,
            streams=Langevin.streams(1, 0, range(len(systems))),
            block=32,
        )
    device = DeviceSteps(
        net,
        state,
        mover,
        masses=masses,
        volume=systems[0].volume,
        timestep=TIMESTEP,
        longest=2.5,
        **options,
    )
    assert device.graphs
    device.graphs = graphs
    device.begin()
    samples: list[tuple[int, dict[str, Floats]]] = []
    device.advance(steps, due, lambda step, values: samples.append((step, values)))
    recorded = [each for each in device._patterns.values() if each.graph is not None]
    assert bool(recorded) == (graphs and steps > 64)
    return device.state, samples


def assert_same(a: Any, b: Any) -> None:
    for name in ("positions", "velocities", "heat"):
        assert getattr(a[0], name).tobytes() == getattr(b[0], name).tobytes(), name
    assert [step for step, _ in a[1]] == [step for step, _ in b[1]]
    for (step, mine), (_, its) in zip(a[1], b[1], strict=True):
        for name in its:
            assert mine[name].tobytes() == its[name].tobytes(), (step, name)


def test_equals_float64(network: SchNet, systems: list[System]) -> None:
    x, v = stacked(systems)
    fast = SchNetPotential(network, device="cuda").batch(systems)
    assert isinstance(fast, DeviceBatch)
    exact = SchNetPotential(network, dtype="float64").batch(systems)
    a, b = fast.forces(x), exact.forces(x)
    n = x.shape[1]
    assert np.abs(a.energy - b.energy).max() / n < 3e-6
    assert np.abs(a.forces - b.forces).max() < 3e-5
    for formulation in ("semilocal", "local"):
        p, q = (
            engine.heat_flux(v, formulation=formulation, lattice=x[0])
            for engine in (fast, exact)
        )
        assert p.lattice is not None
        assert q.lattice is not None
        assert np.abs(p.lattice - q.lattice).max() < 1e-5 * np.abs(q.lattice).max()
        assert np.abs(p.plain - q.plain).max() < 1e-5 * np.abs(q.plain).max()
    assert a.virial == pytest.approx(b.virial, abs=1e-5 * np.abs(b.virial).max())


def test_zirconia(shared_data: Path) -> None:
    """Numbers of an independent program; what md.md asks of the error."""
    potential = load_potential(shared_data / "zro2" / "model_n2.torch", device="cuda")
    with np.load(shared_data / "zro2" / "reference.npz") as file:
        expected = {
            key.rsplit("/", 1)[1]: value
            for key, value in file.items()
            if key.startswith("cell96/model_n2/")
        }
    system = System(
        positions=expected["positions"], numbers=expected["numbers"], cell=expected["cell"]
    )
    batch = potential.batch([system])
    e = batch.forces(system.positions[None])
    assert abs(e.energy[0] - expected["energy"]) / system.n_atoms < 3e-6
    assert np.abs(e.forces[0] - expected["forces"]).max() < 3e-5
    flux = batch.heat_flux(expected["velocities"][None], convective=False).plain[0]
    reference = expected["flux_semilocal"]
    assert np.linalg.norm(flux - reference) < 1e-5 * np.linalg.norm(reference)


@pytest.mark.parametrize("kind", ["nve", "langevin"])
@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"graphs": False}, id="kernel by kernel"),
        pytest.param({}, id="once more"),
        pytest.param({"skin": 0.1}, id="other lists"),
        pytest.param({"block": 17}, id="other blocks"),
    ],
)
def test_the_same_bits(
    kind: str, other: dict[str, Any], network: SchNet, systems: list[System]
) -> None:
    state = State.at_rest(*stacked(systems))
    expected = run(network, systems, state, 200, kind)
    assert_same(expected, run(network, systems, state, 200, kind, **other))


@pytest.mark.parametrize("kind", ["nve", "langevin"])
def test_a_restart_changes_no_bit(
    kind: str, network: SchNet, systems: list[System]
) -> None:
    state = State.at_rest(*stacked(systems))
    whole = run(network, systems, state, 200, kind)
    middle, early = run(network, systems, state, 90, kind)
    end, late = run(network, systems, middle, 110, kind)
    assert_same(whole, (end, early + late))


@pytest.mark.parametrize("kind", ["nve", "langevin"])
def test_the_company_changes_no_bit(
    kind: str, network: SchNet, systems: list[System]
) -> None:
    x, v = stacked(systems)
    together, _ = run(network, systems, State.at_rest(x, v), 200, kind)
    alone, _ = run(network, systems[:1], State.at_rest(x[:1], v[:1]), 200, kind)
    for name in ("positions", "velocities", "heat"):
        assert getattr(alone, name)[0].tobytes() == getattr(together, name)[0].tobytes()


def test_noise_has_the_bits_of_the_host() -> None:
    keys = Langevin.streams(3, 1, range(2))
    streams = torch.tensor(np.array(keys, dtype=np.uint64).view(np.int64), device="cuda")
    steps = torch.tensor([0, 5, 2**33], device="cuda")
    found = device_normals(streams, steps, 5000).cpu().numpy()
    for k, step in enumerate(steps.tolist()):
        for r, key in enumerate(keys):
            assert found[k, r].tobytes() == normals(key, step, 5000).tobytes()


def test_lists_are_those_of_the_cpu(systems: list[System]) -> None:
    for system in systems:
        assert system.cell is not None
        expected = neighbor_list(system.positions, system.cell, True, 6.0)
        x = torch.tensor(system.positions, device="cuda")
        found = device_neighbor_list(x, system.cell, (True,) * 3, 6.0)
        assert np.array_equal(found.other.cpu().numpy(), expected.other)
        assert np.array_equal(found.shift.cpu().numpy(), expected.shift)


def test_energy_is_conserved(network: SchNet, systems: list[System]) -> None:
    state = State.at_rest(*stacked(systems))
    _, samples = run(network, systems, state, 1000, "nve")
    kept = [values for _, values in samples if "energy" in values]
    potential = np.array([values["energy"] for values in kept])
    total = potential + np.array([values["energy_kinetic"] for values in kept])
    assert (total.std(axis=0) < 0.02 * potential.std(axis=0)).all()
