"""Systems: what is accepted, what is refused, and the way to and from ASE."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.units import fs

from gkflux.errors import FluxError
from gkflux.system import System

ZRO = np.array([40, 8])
TWO = np.array([[0.0, 0.0, 0.0], [1.0, 0.2, 0.1]])


def test_defaults_are_periodic_with_masses_of_the_elements() -> None:
    system = System(positions=TWO, numbers=ZRO, cell=np.eye(3) * 4)
    assert system.pbc.tolist() == [True] * 3
    assert system.masses == pytest.approx([91.224, 15.999])
    assert system.volume == pytest.approx(64.0)


def test_a_cluster_has_no_volume() -> None:
    system = System(positions=TWO, numbers=ZRO, pbc=False)
    assert np.isnan(system.volume)
    assert not system.pbc.any()


def test_arrays_are_copied_and_frozen() -> None:
    positions = TWO.copy()
    system = System(positions=positions, numbers=ZRO)
    positions += 1
    assert np.array_equal(system.positions, TWO)
    with pytest.raises(ValueError, match="read-only"):
        system.positions[0] = 1.0


def test_repeat_agrees_with_ase() -> None:
    atoms: Any = bulk("Si", cubic=True)
    atoms.set_velocities(np.random.default_rng(0).normal(size=(8, 3)))
    ours = System.from_ase(atoms).repeat((2, 1, 3))
    theirs = atoms.repeat((2, 1, 3))
    assert ours.positions == pytest.approx(theirs.positions, abs=1e-12)
    assert ours.cell == pytest.approx(theirs.cell.array)
    assert ours.velocities == pytest.approx(theirs.get_velocities() * fs)


@pytest.mark.parametrize("times", [0, [1, 2], 1.5, True, [[1], [2, 3]], 100_000])
def test_a_supercell_that_cannot_be(times: object) -> None:
    system = System(positions=TWO, numbers=ZRO, cell=np.eye(3) * 4)
    with pytest.raises(FluxError, match="repeat"):
        system.repeat(times)  # type: ignore[arg-type]


def test_ase_and_back_keeps_velocities_in_angstrom_per_fs() -> None:
    system = System(positions=TWO, numbers=ZRO, velocities=[[0.01, 0, 0], [0, 0.02, 0]])
    again = System.from_ase(system.to_ase())
    assert again.velocities == pytest.approx(system.velocities, abs=1e-15)
    assert again.cell is None


def test_read_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(FluxError, match="no structure file"):
        System.read(tmp_path / "none.xyz")
    bad = tmp_path / "bad.xyz"
    bad.write_text("not atoms")
    with pytest.raises(FluxError, match="not a structure that ASE can read"):
        System.read(bad)


def test_read_takes_any_file_of_ase(tmp_path: Path) -> None:
    atoms: Any = Atoms("ZrO", positions=TWO, cell=np.eye(3) * 5, pbc=True)
    atoms.write(tmp_path / "a.xyz")
    assert System.read(tmp_path / "a.xyz").positions == pytest.approx(TWO)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"numbers": [1]}, "numbers has shape"),
        ({"positions": np.zeros((2, 2))}, "positions has shape"),
        ({"positions": [[0, 0, np.nan], [0, 0, 1]]}, "not finite"),
        ({"pbc": True, "cell": None}, "no cell"),
        ({"cell": np.diag([4.0, 4.0, 0.0])}, "no lattice vector"),
        ({"cell": np.ones((3, 3))}, "linearly dependent"),
        ({"numbers": [0, 8]}, "atomic numbers"),
        ({"numbers": [[1], [2, 3]]}, "atomic numbers"),
        ({"positions": [[1], [2, 3]]}, "positions must be real numbers"),
        ({"cell": [[1], [2, 3]]}, "cell must be real numbers"),
        ({"cell": np.eye(3) * np.nan}, "cell holds values that are not finite"),
        ({"pbc": [True, False]}, "three of them"),
        ({"pbc": "no"}, "three of them"),
        ({"pbc": [[True], [True, False]]}, "three of them"),
    ],
)
def test_nonsense_is_refused(change: dict[str, object], message: str) -> None:
    values: dict[str, object] = {"positions": TWO, "numbers": ZRO, "cell": np.eye(3) * 4}
    with pytest.raises(FluxError, match=message):
        System(**(values | change))  # type: ignore[arg-type]


def test_atoms_outside_of_a_non_periodic_cell_are_refused() -> None:
    box, pbc = np.eye(3) * 4, (True, True, False)
    inside = System(positions=TWO, numbers=ZRO, cell=box, pbc=pbc)
    assert inside.n_atoms == 2
    beyond = TWO + np.array([[0, 0, 0], [0, 0, 9]])
    with pytest.raises(FluxError, match=r"outside of a non-periodic cell: 1, .* atom 1"):
        System(positions=beyond, numbers=ZRO, cell=box, pbc=pbc)
    # but atoms may get there: dynamics does not end where a box that means nothing does
    assert inside.moved(beyond).positions[1, 2] > 4
    # along a periodic direction anything goes, and a direction without a vector is no box
    aside = TWO + np.array([[0, 0, 0], [99, 0, 0]])
    System(positions=aside, numbers=ZRO, cell=box, pbc=pbc)
    slab = System(positions=TWO * 50, numbers=ZRO, cell=np.diag([4.0, 4.0, 0.0]), pbc=pbc)
    assert np.isnan(slab.volume)
