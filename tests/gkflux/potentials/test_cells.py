"""Engines at cells that change: as if made for them, and dU/dlnV is the virial's trace."""

from collections.abc import Callable

import numpy as np
import pytest

from gkflux.errors import FluxError
from gkflux.potentials.base import Batch, Evaluation, FluxResult
from gkflux.potentials.lennard_jones import LennardJones
from gkflux.potentials.load import load_potential
from gkflux.potentials.skin import SkinLists
from gkflux.system import System

CORNERS = np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]]) * 2.7


def crystal(seed: int = 0) -> System:
    cell = np.array([[5.4, 0, 0], [0.4, 5.4, 0], [0, -0.3, 5.4]])
    system = System(
        positions=CORNERS / 5.4 @ cell, numbers=[18] * 4, cell=cell, pbc=True
    ).repeat(2)
    noise = np.random.default_rng(seed).normal(0, 0.1, system.positions.shape)
    return system.moved(system.positions + noise)


ENGINES: dict[str, Callable[[], object]] = {
    "tables": lambda: load_potential("argon"),
    "exact": lambda: load_potential("argon", dtype="float64"),
    "autograd": lambda: LennardJones(epsilon=0.0104, sigma=3.4, cutoff=6.5),
}


def scaled(systems: list[System], factors: list[float]) -> tuple[np.ndarray, np.ndarray]:
    cells = np.stack([np.array(s.cell) * f for s, f in zip(systems, factors, strict=True)])
    points = np.stack([s.positions * f for s, f in zip(systems, factors, strict=True)])
    return points, cells


def bits(e: Evaluation, j: FluxResult) -> bytes:
    arrays = (e.energy, e.energies, e.forces, e.virial, j.plain)
    return b"".join(a.tobytes() for a in arrays)


@pytest.mark.parametrize("name", ENGINES)
def test_a_batch_at_other_cells_has_the_bits_of_one_made_for_them(name: str) -> None:
    """Small steps keep the list, large ones need another; either way nothing shows."""
    potential: object = ENGINES[name]()
    systems = [crystal(0), crystal(1)]
    kept: Batch = potential.batch(systems)  # type: ignore[attr-defined]
    v = np.random.default_rng(3).normal(0, 1e-3, (2, 32, 3))
    walk: tuple[list[float], ...] = (
        [1, 1],
        [1.002, 0.999],
        [0.99, 1.01],
        [0.9, 1.1],
        [0.8, 1.0],
        [1, 1],
    )
    for factors in walk:
        x, cells = scaled(systems, factors)
        found = bits(kept.forces(x, cells), kept.heat_flux(v))
        moved = [s.moved(x[r], cells[r]) for r, s in enumerate(systems)]
        fresh: Batch = potential.batch(moved, skin=0.1)  # type: ignore[attr-defined]
        assert found == bits(fresh.forces(x), fresh.heat_flux(v)), factors
    x, _ = scaled(systems, [1, 1])
    first = bits(kept.forces(x), kept.heat_flux(v))
    assert first == found


@pytest.mark.parametrize(
    ("name", "tolerance"), [("tables", 2e-3), ("exact", 1e-7), ("autograd", 1e-7)]
)
def test_energy_changes_with_the_volume_as_the_virial_says(
    name: str, tolerance: float
) -> None:
    potential: object = ENGINES[name]()
    system, h = crystal(), 1e-3 if name == "tables" else 1e-4
    batch: Batch = potential.batch([system])  # type: ignore[attr-defined]
    energies = []
    for k in (1, -1, 2, -2):
        factor = float(np.exp(k * h / 3))
        x, cells = scaled([system], [factor])
        energies.append(float(batch.forces(x, cells).energy[0]))
    near, far = (energies[0] - energies[1]) / (2 * h), (energies[2] - energies[3]) / (4 * h)
    slope = (4 * near - far) / 3
    trace = float(np.trace(batch.forces(system.positions[None]).virial[0]))
    assert trace / 3 == pytest.approx(slope, abs=tolerance * abs(slope))


def test_lists_hold_while_nothing_can_have_come_within_the_cutoff() -> None:
    system, cutoff = crystal(), 6.0
    lists = SkinLists([system], cutoff, skin=0.5)
    assert lists.update(system.positions[None]) == [0]
    for factor, expected in ((1.03, []), (0.98, []), (0.93, []), (0.922, [0])):
        x, cells = scaled([system], [factor])
        assert lists.update(x, cells) == expected, factor
    moved = system.positions.copy()
    moved[3, 0] += 0.3
    moved[9, 1] -= 0.19
    lists = SkinLists([system], cutoff, skin=0.5)
    lists.update(system.positions[None])
    assert lists.update(moved[None]) == []
    # the cell takes 0.13 of the 0.5 Å
    assert lists.update(0.98 * moved[None], 0.98 * np.array([system.cell])) == [0]


def test_a_sheared_cell_is_taken_too() -> None:
    potential = load_potential("argon")
    system = crystal()
    kept = potential.batch([system])
    shear = np.eye(3) + np.array([[0, 0.01, 0], [0, 0, -0.02], [0.015, 0, 0.01]])
    kept.forces(system.positions[None])
    x, cells = system.positions[None] @ shear, np.array([system.cell]) @ shear
    found = kept.forces(x, cells)
    assert kept.statistics.rebuilds == 1
    fresh = potential.batch([system.moved(x[0], cells[0])]).forces(x)
    assert found.forces.tobytes() == fresh.forces.tobytes()
    assert found.virial.tobytes() == fresh.virial.tobytes()


def test_cells_of_another_number_of_replicas_are_refused() -> None:
    batch = load_potential("argon").batch([crystal()])
    x = crystal().positions[None]
    with pytest.raises(FluxError, match=r"cells have shape \(2, 3, 3\)"):
        batch.forces(x, np.stack([np.eye(3)] * 2))
