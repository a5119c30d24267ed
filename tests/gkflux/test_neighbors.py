"""The neighbour list against brute force over images."""

from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray

from gkflux.errors import FluxError
from gkflux.neighbors import edge_vectors, neighbor_list
from gkflux.potentials.skin import reverse_edges

Edge = tuple[int, int, int, int, int]
TRICLINIC = np.array([[4.0, 0.0, 0.0], [1.3, 3.5, 0.0], [-0.7, 0.9, 3.0]])


def brute_force(
    x: NDArray[np.float64], cell: NDArray[np.float64], pbc: tuple[bool, ...], cutoff: float
) -> set[Edge]:
    """Every image within reach, by three loops."""
    reach = [range(-6, 7) if periodic else range(1) for periodic in pbc]
    found = set()
    for s in product(*reach):
        for c, o in product(range(len(x)), repeat=2):
            r = np.linalg.norm(x[o] + np.array(s) @ cell - x[c])
            if 0 < r < cutoff:
                found.add((c, o, s[0], s[1], s[2]))
    return found


@pytest.mark.parametrize("pbc", [(True,) * 3, (True, True, False), (False,) * 3])
@pytest.mark.parametrize("cutoff", [2.5, 5.5])
def test_equals_brute_force(pbc: tuple[bool, ...], cutoff: float) -> None:
    # unwrapped, in a cell smaller than twice the cutoff
    x = np.random.default_rng(1).uniform(-4, 6, (6, 3))
    edges = neighbor_list(x, TRICLINIC, pbc, cutoff)
    listed = [
        (int(c), int(o), *map(int, s))
        for c, o, s in zip(edges.centre, edges.other, edges.shift, strict=True)
    ]
    assert set(listed) == brute_force(x, TRICLINIC, pbc, cutoff)
    assert listed == sorted(listed)
    assert edges.row.tolist() == np.searchsorted(edges.centre, np.arange(7)).tolist()


def test_vectors_are_exactly_antisymmetric() -> None:
    x = np.random.default_rng(2).uniform(-9, 9, (9, 3))
    edges = neighbor_list(x, TRICLINIC, True, 5.0)
    d = edge_vectors(x, TRICLINIC, edges)
    reverse = reverse_edges(edges)
    assert np.array_equal(d[reverse], -d)
    assert np.array_equal(reverse[reverse], np.arange(len(edges)))
    assert np.linalg.norm(d, axis=1).max() < 5.0


def test_rows_do_not_depend_on_the_length_of_the_list() -> None:
    x = np.random.default_rng(3).uniform(0, 4, (7, 3))
    short, long = (neighbor_list(x, TRICLINIC, True, cutoff) for cutoff in (4.0, 5.0))
    d = edge_vectors(x, TRICLINIC, long)
    inside = np.linalg.norm(d, axis=1) < 4.0
    assert np.array_equal(edge_vectors(x, TRICLINIC, short), d[inside])


def test_no_atom_and_one_atom() -> None:
    assert len(neighbor_list(np.zeros((0, 3)), None, False, 3.0)) == 0
    assert len(neighbor_list(np.zeros((1, 3)), None, False, 3.0)) == 0
    assert len(neighbor_list(np.zeros((1, 3)), np.eye(3) * 2, True, 2.1)) == 6


def test_positions_that_are_not_finite_are_refused() -> None:
    with pytest.raises(FluxError, match="not finite"):
        neighbor_list([[0, 0, np.inf]], None, False, 3.0)


@pytest.mark.parametrize("cutoff", [0.0, -1.0, np.nan, np.inf])
def test_a_cutoff_that_is_no_length_is_refused(cutoff: float) -> None:
    with pytest.raises(FluxError, match="is not a length"):
        neighbor_list(np.zeros((1, 3)), np.eye(3), True, cutoff)


def test_a_cell_that_is_not_finite_is_refused() -> None:
    with pytest.raises(FluxError, match="cell holds values that are not finite"):
        neighbor_list(np.zeros((1, 3)), np.eye(3) * np.nan, True, 1.0)
