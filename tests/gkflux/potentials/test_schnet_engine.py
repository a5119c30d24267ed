"""The engines: against the network and its derivatives, against each other, bit for bit."""

from pathlib import Path

import numba
import numpy as np
import pytest
from numpy.typing import NDArray

from gkflux.errors import FluxError
from gkflux.neighbors import neighbor_list
from gkflux.potentials import schnet_potential
from gkflux.potentials.autograd import AutogradBatch
from gkflux.potentials.load import load_potential
from gkflux.potentials.schnet_potential import SchNetPotential
from gkflux.potentials.schnet_torch import TorchBatch
from gkflux.system import System
from tests.gkflux.potentials.networks import SHAPES, crystal, network

Floats = NDArray[np.float64]


@pytest.mark.parametrize("shape", SHAPES)
def test_hand_written_derivatives_equal_automatic_ones(shape: dict[str, object]) -> None:
    potential = SchNetPotential(network(**shape), dtype="float64")
    systems, x, _ = crystal()
    ours = potential.batch(systems).forces(x)
    oracle = AutogradBatch(potential, systems).forces(x)
    for name, a, b in zip(ours._fields, ours, oracle, strict=True):
        assert a == pytest.approx(b, rel=1e-11, abs=1e-11), name


@pytest.mark.parametrize("shape", SHAPES)
def test_tables_equal_the_network(shape: dict[str, object]) -> None:
    net = network(**shape)
    systems, x, v = crystal(2)
    lattice = x[0] + 0.1
    fast, exact = (
        SchNetPotential(net, dtype=dtype).batch(systems) for dtype in ("float32", "float64")
    )
    a, b = fast.forces(x), exact.forces(x)
    for name, p, q in zip(a._fields, a, b, strict=True):
        assert p == pytest.approx(q, rel=3e-6, abs=1e-5 * np.abs(q).max()), name
    for formulation in ("semilocal", "local"):
        ours = fast.heat_flux(v, formulation=formulation, lattice=lattice)
        theirs = exact.heat_flux(v, formulation=formulation, lattice=lattice)
        assert theirs.lattice is not None
        size = np.abs(theirs.lattice).max()
        assert ours.plain == pytest.approx(theirs.plain, abs=2e-5 * size)
        assert ours.lattice == pytest.approx(theirs.lattice, abs=2e-5 * size)


def test_exact_filters_in_float32_use_no_table() -> None:
    systems, x, v = crystal()
    exact = SchNetPotential(network(), exact_filters=True)
    assert "table_error" not in exact.provenance
    batch, other = exact.batch(systems), SchNetPotential(network()).batch(systems)
    forces = batch.forces(x).forces
    assert forces == pytest.approx(other.forces(x).forces, abs=2e-5 * np.abs(forces).max())
    flux = batch.heat_flux(v).plain
    assert flux == pytest.approx(other.heat_flux(v).plain, abs=2e-5 * np.abs(flux).max())


def test_without_numba_there_is_plain_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    systems, x, _ = crystal()
    fast = SchNetPotential(network()).batch(systems).forces(x).forces
    monkeypatch.setattr(schnet_potential, "find_spec", lambda name: None)
    batch = SchNetPotential(network()).batch(systems)
    assert isinstance(batch, TorchBatch)
    assert batch.forces(x).forces == pytest.approx(fast, abs=2e-5 * np.abs(fast).max())


def test_forces_are_the_slope_of_the_energy() -> None:
    batch = SchNetPotential(network(), dtype="float64").batch((s := crystal())[0])
    x, h = s[1], 1e-4
    forces = batch.forces(x).forces[0]
    for atom, axis in ((0, 0), (4, 1), (8, 2)):
        step = np.zeros_like(x)
        step[0, atom, axis] = h
        up, down = (float(batch.forces(x + k * step).energy[0]) for k in (1, -1))
        assert forces[atom, axis] == pytest.approx(
            -(up - down) / (2 * h), rel=1e-6, abs=1e-7
        )


def test_stress_is_the_slope_by_strain() -> None:
    potential = SchNetPotential(network(), dtype="float64")
    (system,), _, _ = crystal()
    stress = potential(system, compute=("stress",)).stress
    assert stress is not None
    assert system.cell is not None
    h = 1e-5
    for a, b in ((0, 0), (1, 2), (2, 1)):
        energies = []
        for sign in (1, -1):
            strain = np.eye(3)
            strain[a, b] += sign * h
            moved = system.moved(system.positions @ strain.T, system.cell @ strain.T)
            energies.append(potential(moved, compute=("energy",)).energy)
        slope = (energies[0] - energies[1]) / (2 * h)  # type: ignore[operator]
        assert stress[a, b] * system.volume == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rotation_and_permutation(dtype: str) -> None:
    potential = SchNetPotential(network(), dtype=dtype)
    (system,), x, v = crystal()
    assert system.cell is not None
    q, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    order = np.random.default_rng(1).permutation(9)
    turned = System(
        positions=(x[0] @ q)[order],
        numbers=system.numbers[order],
        cell=system.cell @ q,
    )
    everything = ("energy", "forces", "stress", "heat_flux")
    a = potential(system, v[0], compute=everything)
    b = potential(turned, (v[0] @ q)[order], compute=everything)
    tolerance = 1e-11 if dtype == "float64" else 2e-5
    assert a.forces is not None
    assert b.energy == pytest.approx(a.energy, rel=tolerance)
    for mine, its in (
        ((a.forces @ q)[order], b.forces),
        (q.T @ a.stress @ q, b.stress),
        (a.heat_flux @ q, b.heat_flux),
    ):
        assert its == pytest.approx(mine, abs=tolerance * np.abs(mine).max())


def everything(batch: object, x: Floats, v: Floats) -> list[bytes]:
    """All that a batch computes, as bytes."""
    e = batch.forces(x)  # type: ignore[attr-defined]
    flux = batch.heat_flux(v, lattice=x[0])  # type: ignore[attr-defined]
    return [np.ascontiguousarray(a).tobytes() for a in (*e, flux.plain, flux.lattice)]


@pytest.mark.parametrize(
    ("dtype", "features"), [("float32", 24), ("float32", 128), ("float64", 24)]
)
def test_bits_do_not_depend_on_the_list(dtype: str, features: int) -> None:
    potential = SchNetPotential(network(features=features), dtype=dtype)
    systems, x, v = crystal()
    expected = everything(potential.batch(systems, skin=0.0), x, v)
    for skin in (0.3, 1.0, 2.0):
        batch = potential.batch(systems, skin=skin)
        drift = np.random.default_rng(5).uniform(-0.08, 0.08, x.shape)
        batch.forces(x + drift)  # the list is built elsewhere, and used here
        assert everything(batch, x, v) == expected, skin
        assert batch.statistics.rebuilds == 1
        batch.forces(x + 1.0 * np.sign(drift))
        assert everything(batch, x, v) == expected, skin


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bits_do_not_depend_on_the_company(dtype: str) -> None:
    potential = SchNetPotential(network(), dtype=dtype)
    systems, x, v = crystal(3)
    together = potential.batch(systems)
    e = together.forces(x)
    flux = together.heat_flux(v).plain
    for r, system in enumerate(systems):
        alone = potential.batch([system])
        mine = alone.forces(x[r : r + 1])
        for name, a, b in zip(e._fields, e, mine, strict=True):
            assert a[r].tobytes() == b[0].tobytes(), name
        assert flux[r].tobytes() == alone.heat_flux(v[r : r + 1]).plain[0].tobytes()


def test_bits_do_not_depend_on_threads() -> None:
    potential = SchNetPotential(network())
    systems, x, v = crystal(2)
    found = []
    before = numba.get_num_threads()
    try:
        for threads in (before, 1):
            numba.set_num_threads(threads)
            found.append(everything(potential.batch(systems), x, v))
    finally:
        numba.set_num_threads(before)
    assert found[0] == found[1]


def test_a_list_in_use_never_misses_an_edge() -> None:
    potential = SchNetPotential(network(), dtype="float64")
    systems, x, _ = crystal()
    kept, fresh = potential.batch(systems, skin=0.4), potential.batch(systems, skin=0.0)
    rng = np.random.default_rng(6)
    for _ in range(40):
        x = x + rng.normal(0, 0.03, x.shape)
        assert kept.forces(x).forces.tobytes() == fresh.forces(x).forces.tobytes()
    assert 2 < kept.statistics.rebuilds < 40
    assert fresh.statistics.rebuilds == 40


def test_edges_beyond_the_cutoff_add_nothing() -> None:
    potential = SchNetPotential(network())
    far = System(positions=np.diag([0.0, 4.0, 4.2]), numbers=[14, 8, 8])
    alone = System(positions=[[0, 0, 0]], numbers=[14])
    a = potential.batch([far], skin=2.0).forces(far.positions[None])
    b = potential.batch([alone]).forces(alone.positions[None])
    assert a.energies[0, 0] == b.energies[0, 0]
    assert not a.forces.any()


def test_the_force_sums_to_zero() -> None:
    systems, x, _ = crystal()
    forces = SchNetPotential(network()).batch(systems).forces(x).forces
    assert np.abs(forces.sum(axis=1)).max() < 1e-12 * np.abs(forces).max() * 9


def test_local_flux_is_something_else_with_two_layers() -> None:
    systems, x, v = crystal()
    for layers, differ in ((1, False), (2, True)):
        batch = SchNetPotential(network(interactions=layers)).batch(systems)
        batch.forces(x)
        a, b = (
            batch.heat_flux(v, formulation=f, convective=False).plain
            for f in ("semilocal", "local")
        )
        assert (np.abs(a - b).max() > 1e-3 * np.abs(a).max()) == differ


def test_convective_part_counts_from_the_reference_energies() -> None:
    potential = SchNetPotential(network(), dtype="float64")
    systems, x, _ = crystal()
    batch = potential.batch(systems)
    e = batch.forces(x)
    v = np.broadcast_to([0.003, 0.0, -0.001], x.shape)
    whole, part = (batch.heat_flux(v, convective=c).plain[0] for c in (True, False))
    kinetic = 0.5 * 103.64269 * (systems[0].masses * (v[0] ** 2).sum(1)).sum()
    own = e.energies[0] - potential.reference_energies(systems[0].numbers)
    assert whole - part == pytest.approx((kinetic + own.sum()) * v[0, 0], rel=1e-6)
    # a rigid translation carries the virial: J_pot = -(V sigma) v
    assert part == pytest.approx(-e.virial[0] @ v[0, 0], rel=1e-10)


def test_what_cannot_be_done_is_said() -> None:
    potential = SchNetPotential(network(), elements=frozenset({8, 14}))
    systems, x, v = crystal(2)
    with pytest.raises(FluxError, match="not trained on H, first at atom"):
        potential.batch(systems)
    batch = SchNetPotential(network()).batch(systems)
    with pytest.raises(FluxError, match="call that first"):
        batch.heat_flux(v)
    with pytest.raises(FluxError, match="this batch is for"):
        batch.forces(x[:1])
    batch.forces(x)
    with pytest.raises(FluxError, match="not 'hardy'"):
        batch.heat_flux(v, formulation="hardy")
    with pytest.raises(FluxError, match="not finite"):
        batch.forces(np.full_like(x, np.nan))
    other = systems[0].repeat((2, 1, 1))
    with pytest.raises(FluxError, match="replica 1 has other atoms"):
        SchNetPotential(network()).batch([systems[0], other])
    with pytest.raises(FluxError, match=r"cannot compute \['dipole'\]"):
        SchNetPotential(network())(systems[0], compute=("dipole",))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_call_that_failed_leaves_no_trace(dtype: str) -> None:
    """Half of the replicas have new lists, or all have other cells, when one is refused."""
    potential = SchNetPotential(network(), dtype=dtype)
    systems, x, v = crystal(2)
    cells = np.stack([np.asarray(system.cell) for system in systems])
    far, wide = x + np.linspace(-1.2, 1.2, 27).reshape(9, 3), cells * 1.02
    for after, h in ((far, cells), (x, wide)):
        batch = potential.batch(systems, skin=0.6)
        batch.forces(x)
        broken = after.copy()
        broken[1, 4] = np.nan
        with pytest.raises(FluxError, match="not finite"):
            batch.forces(broken, h)
        fresh = potential.batch(systems, skin=0.6)
        assert (
            batch.forces(after, h).forces.tobytes()
            == fresh.forces(after, h).forces.tobytes()
        )
        assert batch.heat_flux(v).plain.tobytes() == fresh.heat_flux(v).plain.tobytes()
        # and back to the first cells
        expected = potential.batch(systems).forces(x).forces.tobytes()
        assert batch.forces(x).forces.tobytes() == expected


def test_nothing_is_stretched_to_the_batch() -> None:
    systems, x, v = crystal(2)
    for batch in (
        SchNetPotential(network()).batch(systems),
        SchNetPotential(network(), dtype="float64").batch(systems),
        AutogradBatch(SchNetPotential(network(), dtype="float64"), systems),
    ):
        with pytest.raises(FluxError, match=r"positions have shape \(1, 9, 3\)"):
            batch.forces(x[:1])
        batch.forces(x)
        for wrong in (v[0], v[:1], v[:, :8], v[..., :1]):
            with pytest.raises(FluxError, match="velocities have shape"):
                batch.heat_flux(wrong)
        with pytest.raises(FluxError, match="sites of the lattice have shape"):
            batch.heat_flux(v, lattice=x)
        with pytest.raises(FluxError, match="not 'hardy'"):
            batch.heat_flux(v, formulation="hardy")


def test_elements_are_rows_of_the_embedding() -> None:
    for wrong in (frozenset({14, 200}), frozenset({0}), frozenset[int]()):
        with pytest.raises(FluxError, match="elements are numbers from 1 to 99"):
            SchNetPotential(network(), elements=wrong)
    with pytest.raises(FluxError, match="neither float32 nor float64"):
        SchNetPotential(network(), dtype="float16")


@pytest.mark.parametrize("case", ["primitive", "cell96"])
@pytest.mark.parametrize("model", ["model_n1", "model_n2"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_zirconia(shared_data: Path, case: str, model: str, dtype: str) -> None:
    """Numbers of an independent program, for the networks of gknet."""
    potential = load_potential(shared_data / "zro2" / f"{model}.torch", dtype=dtype)
    with np.load(shared_data / "zro2" / "reference.npz") as file:
        expected = {
            key.rsplit("/", 1)[1]: value
            for key, value in file.items()
            if key.startswith(f"{case}/{model}/")
        }
    system = System(
        positions=expected["positions"], numbers=expected["numbers"], cell=expected["cell"]
    )
    edges = neighbor_list(system.positions, system.cell, system.pbc, potential.cutoff)
    assert len(edges) == expected["n_edges"]
    batch = potential.batch([system])
    e = batch.forces(system.positions[None])
    exact = dtype == "float64"
    scale = np.abs(expected["forces"]).max()
    n = system.n_atoms
    assert abs(e.energy[0] - expected["energy"]) / n < (1e-12 if exact else 3e-6)
    assert np.abs(e.forces[0] - expected["forces"]).max() < (
        1e-9 * scale if exact else 3e-5
    )
    stress, limit = e.virial[0] / system.volume, 1e-9 if exact else 1e-5
    worst = np.abs(stress - expected["stress"]).max()
    assert worst < limit * np.abs(expected["stress"]).max()
    for formulation in ("semilocal", "local"):
        flux = batch.heat_flux(
            expected["velocities"][None], formulation=formulation, convective=False
        )
        reference = expected[f"flux_{formulation}"]
        assert np.linalg.norm(flux.plain[0] - reference) < limit * np.linalg.norm(reference)
