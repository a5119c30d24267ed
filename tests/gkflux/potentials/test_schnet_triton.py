"""The device engine: plain torch and Triton's interpreter against the other engines.

Without a CUDA device Triton's kernels run in its interpreter, which must be chosen before
Triton is imported; with one they run there. That they compile for a GPU is checked either
way, by the compiler itself, which needs none.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gkflux.errors import FluxError, GkfluxWarning
from gkflux.potentials import schnet_potential
from gkflux.potentials.base import KeepsBooks
from gkflux.potentials.schnet_gpu import DeviceBatch, DeviceSchNet
from gkflux.potentials.schnet_gpu_passes import Passes
from gkflux.potentials.schnet_gpu_torch import TorchPasses
from gkflux.potentials.schnet_gpu_weights import DeviceWeights
from gkflux.potentials.schnet_potential import SchNetPotential
from gkflux.potentials.schnet_torch import TorchBatch
from gkflux.system import System
from tests.gkflux.potentials.networks import SHAPES, crystal, network

Floats = NDArray[np.float64]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu":
    os.environ.setdefault("TRITON_INTERPRET", "1")
needs_triton = pytest.mark.skipif(not find_spec("triton"), reason="triton is missing")
PASSES = ["torch", pytest.param("triton", marks=needs_triton)]
# the interpreter takes seconds: what other tests cover too waits for the long suite
LONG = ["torch", pytest.param("triton", marks=[needs_triton, pytest.mark.slow])]


def device_batch(
    kind: str,
    systems: list[System],
    shape: dict[str, object],
    skin: float | None = None,
) -> DeviceBatch:
    weights = DeviceWeights.of(network(**shape), DEVICE)
    if kind == "torch":
        return DeviceBatch(DeviceSchNet(weights, systems, skin, TorchPasses))
    from gkflux.potentials.schnet_triton_passes import TritonPasses

    return DeviceBatch(DeviceSchNet(weights, systems, skin, TritonPasses))


def dense_crystal(replicas: int = 1) -> tuple[list[System], Floats, Floats]:
    """Two atoms with 75 edges each: three tiles of 32, two chunks of 64.

    The interpreter takes its time for every program and tile.
    """
    rng = np.random.default_rng(4)
    cell = np.array([[2.0, 0.0, 0.0], [0.3, 1.9, 0.0], [-0.2, 0.4, 1.9]])
    x = np.array([[0.1, 0.2, 0.1], [0.5, 0.6, 0.4]]) @ cell
    x = x + rng.uniform(-0.1, 0.1, (replicas, 2, 3))
    system = System(positions=x[0], numbers=[14, 8], cell=cell)
    return [system.moved(p) for p in x], x, rng.normal(0, 0.01, x.shape)


def some_crystal(kind: str, replicas: int = 1) -> tuple[list[System], Floats, Floats]:
    return dense_crystal(replicas) if kind == "triton" else crystal(replicas)


# three layers are a first one, one between, and a last one
@pytest.mark.parametrize("kind", PASSES)
def test_equals_the_network_in_float64(kind: str) -> None:
    assert_equals_float64(kind, SHAPES[2], some_crystal(kind))


@pytest.mark.parametrize("kind", LONG)
@pytest.mark.parametrize("shape", SHAPES)
def test_any_shape_equals_the_network_in_float64(
    kind: str, shape: dict[str, object]
) -> None:
    assert_equals_float64(kind, shape, crystal(2))


def assert_equals_float64(
    kind: str,
    shape: dict[str, object],
    structure: tuple[list[System], Floats, Floats],
) -> None:
    systems, x, v = structure
    lattice = x[0] + np.linspace(-0.2, 0.3, x[0].size).reshape(x[0].shape)
    fast = device_batch(kind, systems, shape)
    exact = SchNetPotential(network(**shape), dtype="float64").batch(systems)
    a, b = fast.forces(x), exact.forces(x)
    for name, p, q in zip(a._fields, a, b, strict=True):
        assert p.dtype == np.float64
        assert p == pytest.approx(q, rel=3e-6, abs=1e-5 * np.abs(q).max()), name
    for formulation, convective in (("semilocal", True), ("local", False)):
        ours, theirs = (
            engine.heat_flux(
                v, formulation=formulation, lattice=lattice, convective=convective
            )
            for engine in (fast, exact)
        )
        assert theirs.lattice is not None
        size = np.abs(theirs.lattice).max()
        assert ours.plain == pytest.approx(theirs.plain, abs=2e-5 * size)
        assert ours.lattice == pytest.approx(theirs.lattice, abs=2e-5 * size)


@needs_triton
def test_a_kernel_sees_every_tile() -> None:
    """Rows, columns and depths of more than one tile, where there are no edges."""
    from gkflux.potentials.schnet_triton_passes import ATOMS, ROWS, TritonPasses

    rng = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=rng).to(DEVICE)

    weights = DeviceWeights.of(network(features=64, readout_features=20), DEVICE)
    n = ROWS + 3
    species = torch.full((n,), 8, device=DEVICE)
    ours: Passes = TritonPasses(weights, species, 1)
    theirs: Passes = TorchPasses(weights, species, 1)
    x, w, bias, base = draw(n, 64), draw(64, 64), draw(64), draw(n, 64)
    for options in ({}, {"bias": bias, "base": base}, {"times": base}):
        a, b = torch.zeros(2, n, 64, device=DEVICE)
        ours.dense(x, w, a, **options)
        theirs.dense(x, w, b, **options)
        torch.testing.assert_close(a, b, atol=3e-5, rtol=0)
    found = torch.zeros(2, 2, n, 64, device=DEVICE)
    for passes, (out, slope) in zip((ours, theirs), found, strict=True):
        passes.activate(x, w / 8, bias, out, slope)
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=0)
    for silu in (True, False):
        readout = weights.readout._replace(silu=silu)
        change = torch.zeros(2, n, len(readout.bias), device=DEVICE)
        u = torch.zeros(2, n, dtype=torch.float64, device=DEVICE)
        for passes, c, e in zip((ours, theirs), change, u, strict=True):
            passes.readout(x, readout, c, e)
        torch.testing.assert_close(u[0], u[1], atol=1e-5, rtol=1e-6)
        torch.testing.assert_close(change[0], change[1], atol=1e-5, rtol=1e-5)
    values = draw(2, ATOMS + 5, 2).double()
    sums = torch.zeros(2, 2, dtype=torch.float64, device=DEVICE)
    ours.totals(values, sums)
    torch.testing.assert_close(sums, values.sum(1))


@pytest.mark.parametrize("kind", LONG)
def test_equals_the_cpu_engine(kind: str) -> None:
    systems, x, v = crystal(2)
    ours = device_batch(kind, systems, {"features": 128})
    theirs = SchNetPotential(network(features=128)).batch(systems)
    a, b = ours.forces(x), theirs.forces(x)
    for name, p, q in zip(a._fields, a, b, strict=True):
        assert p == pytest.approx(q, rel=1e-6, abs=1e-5 * np.abs(q).max()), name
    p, q = (engine.heat_flux(v).plain for engine in (ours, theirs))
    assert p == pytest.approx(q, abs=2e-5 * np.abs(q).max())


def everything(batch: DeviceBatch, x: Floats, v: Floats) -> list[bytes]:
    """All that a batch computes, as bytes."""
    e = batch.forces(x)
    flux = batch.heat_flux(v, lattice=x[0])
    return [np.ascontiguousarray(a).tobytes() for a in (*e, flux.plain, flux.lattice)]


@pytest.mark.parametrize("kind", PASSES)
def test_bits_do_not_depend_on_the_list(kind: str) -> None:
    systems, x, v = some_crystal(kind)
    expected = everything(device_batch(kind, systems, {}, 0.0), x, v)
    batch = device_batch(kind, systems, {}, 2.0 if kind == "torch" else 0.6)
    drift = np.random.default_rng(5).uniform(-0.08, 0.08, x.shape)
    batch.forces(x + drift)  # the list is built elsewhere, and used here
    assert everything(batch, x, v) == expected
    assert batch.statistics.rebuilds == 1
    moved = batch.network.lists.moved.cpu().numpy()
    assert moved == pytest.approx((drift**2).sum(axis=2)[0], rel=1e-12)
    if kind == "triton":  # the rest is of the lists
        return
    batch.network.positions.add_(3.0)
    batch.network.build()
    assert everything(batch, x, v) == expected
    assert batch.statistics.rebuilds == 3
    assert batch.statistics.calls == 3
    assert batch.statistics.edges > 300


@pytest.mark.parametrize("kind", PASSES)
def test_bits_do_not_depend_on_the_company(kind: str) -> None:
    systems, x, v = some_crystal(kind, 3 if kind == "torch" else 2)
    together = device_batch(kind, systems, {})
    e = together.forces(x)
    flux = together.heat_flux(v).plain
    for r in (0, 2) if kind == "torch" else (1,):
        alone = device_batch(kind, [systems[r]], {})
        mine = alone.forces(x[r : r + 1])
        for name, a, b in zip(e._fields, e, mine, strict=True):
            assert a[r].tobytes() == b[0].tobytes(), name
        assert flux[r].tobytes() == alone.heat_flux(v[r : r + 1]).plain[0].tobytes()


@pytest.mark.parametrize("kind", LONG)
def test_the_books_are_those_of_the_cpu_engine(kind: str) -> None:
    systems, x, v = crystal(2)
    ours = device_batch(kind, systems, {})
    theirs = SchNetPotential(network()).batch(systems)
    for formulation in ("semilocal", "local"):
        found = []
        for engine in (ours, theirs):
            engine.forces(x)
            engine.heat_flux(v, formulation=formulation)
            assert isinstance(engine, KeepsBooks)
            found.append(engine.books())
        for p, q in zip(*found, strict=True):
            assert p == pytest.approx(q, abs=2e-5 * np.abs(found[1].size).max())


@pytest.mark.parametrize("kind", ["torch"])
def test_another_cell_is_another_system(kind: str) -> None:
    (system,), x, v = crystal()
    assert system.cell is not None
    batch = device_batch(kind, [system], {}, 1.0)
    batch.forces(x)
    for scale in (1.01, 0.97, 1.3, 0.75):
        cell, places = system.cell * scale, x * scale
        fresh = device_batch(kind, [system.moved(places[0], cell)], {}, 0.0)
        expected = everything(fresh, places, v)
        batch.forces(places, cell[None])
        found = batch.heat_flux(v, lattice=places[0])
        assert found.lattice is not None
        assert [found.plain.tobytes(), found.lattice.tobytes()] == expected[-2:], scale
    assert batch.statistics.rebuilds == 2


@pytest.mark.parametrize("kind", PASSES)
def test_edges_beyond_the_cutoff_add_nothing(kind: str) -> None:
    far = System(positions=np.diag([0.0, 4.0, 4.2]), numbers=[14, 8, 8])
    alone = System(positions=[[0, 0, 0]], numbers=[14])
    a = device_batch(kind, [far], {}, 2.0).forces(far.positions[None])
    b = device_batch(kind, [alone], {}).forces(alone.positions[None])
    # torch multiplies one row and three rows in different ways
    tolerance = 0.0 if kind == "triton" else 1e-7
    assert a.energies[0, 0] == pytest.approx(b.energies[0, 0], rel=tolerance, abs=0.0)
    assert not a.forces.any()


@pytest.mark.parametrize("kind", PASSES)
def test_the_force_sums_to_zero(kind: str) -> None:
    systems, x, _ = some_crystal(kind)
    forces = device_batch(kind, systems, {"interactions": 1}).forces(x).forces
    assert np.abs(forces.sum(axis=1)).max() < 1e-12 * np.abs(forces).max() * 9


def test_what_cannot_be_done_is_said() -> None:
    systems, x, v = crystal(2)
    batch = device_batch("torch", systems, {})
    with pytest.raises(FluxError, match="call that first"):
        batch.heat_flux(v)
    with pytest.raises(FluxError, match="this batch is for"):
        batch.forces(x[:1])
    with pytest.raises(FluxError, match="not finite"):
        batch.forces(np.full_like(x, np.nan))
    batch.forces(x)
    with pytest.raises(FluxError, match="not 'hardy'"):
        batch.heat_flux(v, formulation="hardy")


@pytest.mark.skipif(DEVICE == "cuda", reason="the potential is put on a device in earnest")
def test_a_potential_on_a_device_takes_this_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    # a CPU that says that it is something else
    potential = SchNetPotential(network())
    potential.device = torch.device("cuda")
    monkeypatch.setattr(DeviceWeights, "of", staticmethod(_on_the_cpu(DeviceWeights.of)))
    potential._weights = None
    potential._tabulate(network())
    systems, _, _ = crystal(2)
    batch = potential.batch(systems)
    assert isinstance(batch, DeviceBatch)
    assert potential.provenance["table_error"]["forces"] < 1e-4
    assert potential.provenance["table_error"]["intervals"] == 512
    monkeypatch.setattr(schnet_potential, "find_spec", lambda name: None)
    potential._device_weights = None
    with pytest.warns(GkfluxWarning, match="Triton is not installed"):
        potential._tabulate(network())
    potential._tabulate(network())  # once is enough
    assert isinstance(potential.batch(systems), TorchBatch)


def _on_the_cpu(of: Callable[..., DeviceWeights]) -> Callable[..., DeviceWeights]:
    return lambda net, device: of(net, "cpu")


@needs_triton
def test_every_launch_compiles_for_a_gpu(tmp_path: Path) -> None:
    """The arguments of every launch of the engine, through Triton's compiler and ptxas."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    script = Path(__file__).with_name("compile_kernels.py")
    done = subprocess.run(
        [sys.executable, str(script)],
        env=environment | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    compiled = {line.split()[0] for line in lines}
    assert compiled >= {"place_edges", "convolve", "backward", "collect", "rates", "flux"}
    assert compiled >= {"dense", "readout", "totals"}
    for line in lines:
        # a kernel that keeps what it needs in registers does not spill to memory
        assert line.endswith("spills 0"), line
