"""Point groups of known crystals, in any orientation, and what they leave of a tensor."""

from typing import Any

import numpy as np
import pytest

import gkflux
from gkflux.correlate import Float
from gkflux.symmetry import Finding, search, symmetry_of

spglib = pytest.importorskip("spglib")
build = pytest.importorskip("ase.build")
spacegroup = pytest.importorskip("ase.spacegroup")


def crystal(name: str) -> Any:
    if name == "cubic":
        return build.bulk("Ar", "fcc", a=5.3, cubic=True)
    if name == "long":  # a cubic crystal in a cell that is longer along z
        return build.bulk("Ar", "fcc", a=5.3, cubic=True).repeat((1, 1, 2))
    if name == "hexagonal":
        return build.bulk("Mg", "hcp", a=3.2, c=5.2)
    if name == "tetragonal":  # rutile
        return spacegroup.crystal(
            ["Ti", "O"],
            [(0, 0, 0), (0.3053, 0.3053, 0)],
            spacegroup=136,
            cellpar=[4.594, 4.594, 2.959, 90, 90, 90],
        )
    if name == "chiral":  # alpha quartz, 32: no mirror, no inversion
        return spacegroup.crystal(
            ["Si", "O"],
            [(0.4697, 0, 0), (0.4135, 0.2669, 0.1191)],
            spacegroup=152,
            cellpar=[4.916, 4.916, 5.405, 90, 90, 120],
        )
    if name == "orthorhombic":  # SnSe-like, Pnma
        return spacegroup.crystal(
            ["Sn", "Se"],
            [(0.118, 0.25, 0.103), (0.855, 0.25, 0.482)],
            spacegroup=62,
            cellpar=[11.5, 4.15, 4.44, 90, 90, 90],
        )
    if name == "monoclinic":  # baddeleyite
        return spacegroup.crystal(
            ["Zr", "O", "O"],
            [(0.275, 0.040, 0.208), (0.070, 0.332, 0.345), (0.450, 0.757, 0.479)],
            spacegroup=14,
            cellpar=[5.15, 5.21, 5.31, 90, 99.2, 90],
        )
    if name == "triclinic":
        return spacegroup.crystal(
            ["Si", "O"],
            [(0.1, 0.2, 0.3), (0.4, 0.13, 0.77)],
            spacegroup=2,
            cellpar=[4.1, 5.2, 6.3, 80, 95, 104],
        )
    raise ValueError(name)


def found(atoms: Any, turn: Float | None = None, **options: Any) -> Finding:
    turn = np.eye(3) if turn is None else turn
    known: dict[str, Any] = {"tolerance": 1e-3, "source": "test"} | options
    return search(
        np.asarray(atoms.cell) @ turn.T, atoms.positions @ turn.T, atoms.numbers, **known
    )


def rotation(seed: int) -> Float:
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    q *= np.sign(np.diag(r))
    turned: Float = q * np.sign(np.linalg.det(q))
    return turned


SYSTEMS = [
    # name, symbol, operations, sizes of classes, free off-diagonal elements
    ("cubic", "Fm-3m", 48, [3], 0),
    ("long", "Fm-3m", 16, [1, 2], 0),
    ("hexagonal", "P6_3/mmc", 24, [1, 2], 0),
    ("tetragonal", "P4_2/mnm", 16, [1, 2], 0),
    ("chiral", "P3_121", 6, [1, 2], 0),
    ("orthorhombic", "Pnma", 8, [1, 1, 1], 0),
    ("monoclinic", "P2_1/c", 4, [1, 1, 1], 1),
    ("triclinic", "P-1", 2, [1, 1, 1], 3),
]


@pytest.mark.parametrize(("name", "symbol", "order", "sizes", "pairs"), SYSTEMS)
@pytest.mark.parametrize("seed", [None, 0, 1])
def test_every_crystal_system_in_any_orientation(
    name: str, symbol: str, order: int, sizes: list[int], pairs: int, seed: int | None
) -> None:
    turn = np.eye(3) if seed is None else rotation(seed)
    symmetry = found(crystal(name), turn).symmetry
    assert symmetry is not None
    assert symmetry.group == symbol
    assert len(symmetry.rotations) == order
    assert sorted(map(len, symmetry.classes)) == sizes
    assert len(symmetry.pairs) == pairs
    np.testing.assert_allclose(symmetry.axes @ symmetry.axes.T, np.eye(3), atol=1e-12)
    # of any tensor at all, the group leaves just what classes and pairs say
    generator = np.random.default_rng(3)
    for _ in range(5):
        mean = symmetry.symmetrised(generator.normal(size=(3, 3)))
        inside = symmetry.axes @ mean @ symmetry.axes.T
        for members in symmetry.classes:
            assert np.ptp(inside.diagonal()[list(members)]) < 1e-9
        free = {frozenset(pair) for pair in symmetry.pairs}
        for a in range(3):
            for b in range(a):
                if frozenset((a, b)) not in free:
                    assert abs(inside[a, b]) < 1e-9
                else:
                    assert abs(inside[a, b]) > 1e-6


def test_names_are_those_of_the_components() -> None:
    symmetry = found(crystal("tetragonal")).symmetry
    assert symmetry is not None
    assert [symmetry.name(m) for m in symmetry.classes] == ["xx = yy", "zz"]
    turned = found(crystal("tetragonal"), np.roll(np.eye(3), 1, axis=0)).symmetry
    assert turned is not None
    assert sorted(turned.name(m) for m in turned.classes) == ["xx", "yy = zz"]
    tilted = found(crystal("tetragonal"), rotation(4)).symmetry
    assert tilted is not None
    assert any("across (" in tilted.name(m) for m in tilted.classes)


def test_thermal_noise_needs_a_tolerance_but_a_strained_cell_stays_strained() -> None:
    """Loose positions must not turn a = b + 1 % into a = b."""
    atoms = crystal("cubic").repeat((2, 2, 2))
    atoms.positions += np.random.default_rng(0).normal(scale=0.01, size=(32, 3))
    assert found(atoms).symmetry is None
    loose = found(atoms, tolerance=0.1).symmetry
    assert loose is not None
    assert sorted(map(len, loose.classes)) == [3]
    strained = atoms.copy()
    strained.set_cell(np.diag([1.01, 1.0, 1.0]) @ np.asarray(atoms.cell), scale_atoms=True)
    symmetry = found(strained, tolerance=0.2).symmetry
    assert symmetry is not None
    assert sorted(map(len, symmetry.classes)) == [1, 2]


def test_a_glass_has_none_and_says_so() -> None:
    atoms = crystal("cubic").repeat((2, 2, 2))
    atoms.positions += np.random.default_rng(0).normal(scale=0.8, size=(32, 3))
    finding = found(atoms, tolerance=0.1)
    assert finding.symmetry is None
    assert finding.words == "none found (test, tolerance 0.1 Å)"


def test_what_is_no_group_is_refused() -> None:
    quarter = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    with pytest.raises(gkflux.FluxError, match="no group"):
        symmetry_of([np.eye(3), quarter])
    with pytest.raises(gkflux.FluxError, match="orthogonal"):
        symmetry_of([np.eye(3), 2 * np.eye(3)])
    with pytest.raises(gkflux.FluxError, match="expected"):
        symmetry_of(np.eye(3))
