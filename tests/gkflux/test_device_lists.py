"""Lists of replicas on a device: joined, kept while they hold, in cells that change."""

import numpy as np
import pytest
import torch

from gkflux.device_lists import DeviceLists
from gkflux.errors import FluxError
from gkflux.neighbors import neighbor_list
from gkflux.potentials.skin import reverse_edges
from gkflux.system import System

CPU = torch.device("cpu")


def test_lists_of_replicas_are_joined_and_keep_their_place() -> None:
    rng = np.random.default_rng(4)
    x = rng.uniform(0, 7, (2, 20, 3))
    systems = [
        System(positions=p, numbers=[18] * 20, cell=np.eye(3) * side)
        for p, side in zip(x, (7.0, 7.5), strict=True)
    ]
    lists = DeviceLists(systems, 3.0, 0.5, CPU)
    flat = torch.tensor(x.reshape(-1, 3))
    assert not lists.fits(flat)
    lists.build(flat)
    assert lists.fits(flat)
    parts = [neighbor_list(p, s.cell, True, 3.5) for p, s in zip(x, systems, strict=True)]
    row = lists.row.numpy()
    for r, part in enumerate(parts):
        start, end = row[20 * r], row[20 * (r + 1)]
        assert np.array_equal(row[20 * r : 20 * r + 21] - start, part.row)
        assert np.array_equal(lists.other[start:end].numpy() - 20 * r, part.other)
        assert np.array_equal(lists.reverse[start:end].numpy() - start, reverse_edges(part))
    assert lists.edges == sum(map(len, parts)) < len(lists.other)
    version, memory = lists.version, lists.other.data_ptr()
    lists.build(flat + 0.01)
    assert (lists.version, lists.other.data_ptr()) == (version, memory)
    lists.build(flat * 0.2)
    assert lists.version > version


def test_an_atom_may_use_half_of_the_skin() -> None:
    system = System(positions=np.diag([0.0, 3.0, 3.0]), numbers=[18] * 3)
    lists = DeviceLists([system], 3.0, 0.5, CPU)
    x = torch.tensor(system.positions)
    lists.build(x)
    near = x.clone()
    near[1, 0] += 0.249
    lists.note(near)
    assert lists.held(float(lists.moved.max()))
    assert lists.fits(near)
    near[1, 0] += 0.002
    lists.note(near)
    assert not lists.fits(near)
    assert lists.fits(x)
    lists.note(x)
    assert not lists.held(float(lists.moved.max()))  # it has been too far meanwhile
    lists.build(x)
    assert lists.held(float(lists.moved.max()))
    nowhere = torch.full_like(x, torch.nan)
    assert not lists.fits(nowhere)
    lists.note(nowhere)
    assert not lists.held(float(lists.moved.max()))


def test_cells_that_change() -> None:
    x = np.random.default_rng(5).uniform(0, 7, (2, 20, 3))
    cell = np.eye(3) * 7.0
    systems = [System(positions=p, numbers=[18] * 20, cell=cell) for p in x]
    lists = DeviceLists(systems, 3.0, 0.5, CPU)
    flat = torch.tensor(x.reshape(-1, 3))
    lists.build(flat)
    # an edge of 3 Å may have been one of 3.5 Å: with the cell, atoms may come that near
    for scale, fits in ((0.99, True), (1.1, True), (0.85, False)):
        cells = np.stack([cell, cell * scale])
        lists.take(cells)
        moved = flat.clone()
        moved[20:] *= scale
        assert lists.fits(moved) == fits, scale
        # what the lists hold is what lists for those cells hold, where it is near enough
        for r in range(2):
            start, end = lists.row[[20 * r, 20 * (r + 1)]].tolist()
            p, o = moved[20 * r : 20 * (r + 1)], lists.other[start:end] - 20 * r
            row = lists.row[20 * r : 20 * r + 21] - start
            centre = torch.repeat_interleave(torch.arange(20), row.diff())
            d = (p[o] - p[centre]) + lists.vectors[start:end]
            inside = d.norm(dim=1) < 3.0
            expected = neighbor_list(p.numpy(), cells[r], True, 3.0)
            if fits:
                assert torch.equal(centre[inside], torch.tensor(expected.centre))
                vectors = torch.tensor(expected.vectors(cells[r]))
                assert torch.equal(lists.vectors[start:end][inside], vectors)
    lists.take(None)
    assert lists.fits(flat)
    with pytest.raises(FluxError, match="cells have shape"):
        lists.take(cells[:1])


def test_a_skin_is_a_length() -> None:
    system = System(positions=[[0, 0, 0]], numbers=[18])
    with pytest.raises(FluxError, match="skin -1"):
        DeviceLists([system], 3.0, -1.0, CPU)
