"""The device list against the one of the CPU, edge for edge."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gkflux import neighbors_gpu
from gkflux.errors import FluxError
from gkflux.neighbors import neighbor_list
from gkflux.neighbors_gpu import device_neighbor_list
from gkflux.potentials.skin import reverse_edges

Floats = NDArray[np.float64]
TRICLINIC = np.array([[4.0, 0.0, 0.0], [1.3, 3.5, 0.0], [-0.7, 0.9, 3.0]])
ALL, SLAB, WIRE, NONE = (
    (True, True, True),
    (True, True, False),
    (False, False, True),
    (False, False, False),
)


def assert_same(
    x: Floats, cell: Floats | None, pbc: tuple[bool, ...], cutoff: float
) -> int:
    expected = neighbor_list(x, cell, pbc, cutoff)
    found = device_neighbor_list(torch.tensor(x), cell, pbc, cutoff)
    assert np.array_equal(found.row.numpy(), expected.row)
    assert np.array_equal(found.other.numpy(), expected.other)
    assert np.array_equal(found.shift.numpy(), expected.shift)
    assert np.array_equal(found.reverse.numpy(), reverse_edges(expected))
    used = None if cell is None else np.where(np.array(pbc)[:, None], cell, 0.0)
    assert found.vectors.numpy().tobytes() == expected.vectors(used).tobytes()
    return len(expected)


@pytest.mark.parametrize("pbc", [ALL, SLAB, WIRE, NONE])
@pytest.mark.parametrize("cutoff", [0.9, 2.5, 5.5])
def test_small_cells_and_far_atoms(pbc: tuple[bool, ...], cutoff: float) -> None:
    # unwrapped, some of them several cells away
    x = np.random.default_rng(1).uniform(-9, 11, (12, 3))
    found = assert_same(x, TRICLINIC, pbc, cutoff)
    assert found > 100 or pbc != ALL or cutoff < 1


@pytest.mark.parametrize("pbc", [ALL, SLAB, NONE])
def test_many_bins(pbc: tuple[bool, ...]) -> None:
    cell = 5 * TRICLINIC
    x = np.random.default_rng(2).uniform(-0.3, 1.3, (400, 3)) @ cell
    assert assert_same(x, cell, pbc, 2.7) > 500


def test_atoms_on_the_faces_of_bins() -> None:
    x = np.stack(np.meshgrid(*[np.arange(6.0)] * 3), axis=-1).reshape(-1, 3)
    for cutoff in (1.5, 2.0, 3.0):
        assert_same(x, 6 * np.eye(3), ALL, cutoff + 1e-9)
        assert_same(x - 1e-17, 6 * np.eye(3), ALL, cutoff + 1e-9)
        assert_same(x, None, NONE, cutoff + 1e-9)


def test_portions_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(3).uniform(0, 8, (60, 3))
    monkeypatch.setattr(neighbors_gpu, "PORTION", 500)
    assert assert_same(x, 8 * np.eye(3), ALL, 3.0) > 500


def test_one_atom_and_an_empty_list() -> None:
    assert assert_same(np.zeros((1, 3)), 2 * np.eye(3), ALL, 2.1) == 6
    assert assert_same(np.zeros((1, 3)), None, NONE, 3.0) == 0
    assert assert_same(np.diag([0.0, 9.0, 20.0]), None, NONE, 3.0) == 0


def test_what_is_refused() -> None:
    with pytest.raises(FluxError, match="not finite"):
        device_neighbor_list(torch.tensor([[0.0, np.nan, 0.0]]).double(), None, NONE, 3.0)
    with pytest.raises(FluxError, match="cell and cutoff are in Å"):
        device_neighbor_list(torch.zeros(1, 3).double(), np.eye(3) * 0.01, ALL, 5.0)
    with pytest.raises(FluxError, match="cell holds values that are not finite"):
        device_neighbor_list(torch.zeros(1, 3).double(), np.eye(3) * np.nan, ALL, 5.0)
    with pytest.raises(FluxError, match="cutoff nan is not a length"):
        device_neighbor_list(torch.zeros(1, 3).double(), np.eye(3), ALL, np.nan)
    far = torch.tensor([[0.0, 0.0, 0.0], [1e8, 0.0, 0.0]]).double()
    with pytest.raises(FluxError, match="has an atom been lost"):
        device_neighbor_list(far, np.eye(3) * 4, ALL, 4.5)
