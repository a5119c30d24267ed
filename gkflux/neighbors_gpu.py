"""The neighbour list in torch, on whatever device the positions are on.

The same list as `neighbors.neighbor_list`, edge for edge: directed, full, every image, in
canonical order. Atoms are sorted into bins of about the cutoff; candidates are the atoms of
all bins that a sphere of that radius can reach, through as many images as it takes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gkflux.errors import FluxError
from gkflux.neighbors import check_space, refuse_crowd

__all__ = ["DeviceEdges", "device_neighbor_list", "edge_shifts", "square_root"]

Floats = NDArray[np.float64]

# candidates looked at together: bounds the memory
PORTION = 1 << 22


class DeviceEdges(NamedTuple):
    """As `neighbors.Edges`, int64 tensors; ``vectors``: shift @ cell, ``(E, 3)``, Å.

    ``reverse``: place of (o <- c, -S) in the list, ``(E,)``.
    """

    row: Tensor
    other: Tensor
    shift: Tensor
    vectors: Tensor
    reverse: Tensor


class _Grid(NamedTuple):
    """Bins along three directions, of which some are periodic; all in host memory.

    ``frame``: rows, Å: lattice vectors, and what completes them. ``low``: where the first
    bin begins, in units of the frame; ``bins``: how many; ``reach``: bins to search on
    either side.
    """

    frame: Floats
    periodic: NDArray[np.bool_]
    low: Floats
    length: Floats
    bins: NDArray[np.int64]
    reach: NDArray[np.int64]


def device_neighbor_list(
    positions: Tensor, cell: Floats | None, pbc: Sequence[bool], cutoff: float
) -> DeviceEdges:
    """Find all edges shorter than the cutoff; see `neighbors.neighbor_list`.

    Args:
        positions: ``(n, 3)``, Å, float64, unwrapped.
        cell: ``(3, 3)``, rows, Å; None for a cluster.
        pbc: three.
        cutoff: Å.

    Raises:
        FluxError: positions or a cell that are not finite, a cutoff that is no length,
            atoms too far apart, or far too dense.
    """
    if not bool(torch.isfinite(positions).all()):
        raise FluxError(
            "positions are not finite; the run has exploded, or the file is wrong"
        )
    periodic = np.array(pbc, dtype=bool) & (cell is not None)
    box = np.zeros((3, 3)) if cell is None else np.where(periodic[:, None], cell, 0.0)
    check_space(box, cutoff)
    refuse_crowd(len(positions), box, periodic, cutoff)
    grid = _grid(positions, box, periodic, cutoff)
    centre, other, shift = _pairs(positions, grid, box, cutoff)
    return _sorted(len(positions), centre, other, shift, box)


def _grid(
    positions: Tensor, box: Floats, periodic: NDArray[np.bool_], cutoff: float
) -> _Grid:
    """Choose bins no thinner than the cutoff, and no more of them than atoms."""
    frame = box.copy()
    if not periodic.all():
        # directions at right angles to the lattice vectors that there are
        _, _, axes = np.linalg.svd(box[periodic].reshape(-1, 3))
        frame[~periodic] = axes[int(periodic.sum()) :]
    low, length = np.zeros(3), np.ones(3)
    if len(positions) and not periodic.all():
        inverse = torch.tensor(np.linalg.inv(frame), device=positions.device)
        places = positions @ inverse
        least, most = places.amin(0).cpu().numpy(), places.amax(0).cpu().numpy()
        low = np.where(periodic, 0.0, least)
        length = np.where(periodic, 1.0, np.maximum(most - least, 1e-3))
    # distances between opposite faces
    heights = length / np.linalg.norm(np.linalg.inv(frame), axis=0)
    most_bins = max(1, round(len(positions) ** (1 / 3)))
    bins = np.clip(np.floor(heights / cutoff * (1 - 1e-9)), 1, most_bins).astype(np.int64)
    reach = np.ceil(cutoff * bins / heights * (1 + 1e-9)).astype(np.int64)
    reach[~periodic] = np.minimum(reach, bins - 1)[~periodic]
    return _Grid(frame, periodic, low, length, bins, reach)


class _Binned(NamedTuple):
    """Atoms by bin: ``order[start[b] : start[b] + held[b]]`` are those of bin b.

    ``bin``: ``(n, 3)``, of every atom. ``image``: ``(n, 3)``, lattice vectors that it is
    away from the first cell. All int64.
    """

    bin: Tensor
    image: Tensor
    order: Tensor
    start: Tensor
    held: Tensor


def _binned(positions: Tensor, grid: _Grid, bins: Tensor, periodic: Tensor) -> _Binned:
    device = positions.device
    inverse, low, length = (
        torch.tensor(x, device=device)
        for x in (np.linalg.inv(grid.frame), grid.low, grid.length)
    )
    places = (positions @ inverse - low) / length
    image = torch.where(periodic, places.floor(), 0.0)
    bin = ((places - image) * bins).long().clamp(min=0).minimum(bins - 1)
    flat = _flat(bin, bins)
    count = torch.bincount(flat, minlength=int(grid.bins.prod()))
    start = torch.cumsum(count, 0) - count
    return _Binned(bin, image.long(), torch.argsort(flat), start, count)


def _flat(bin: Tensor, bins: Tensor) -> Tensor:
    return (bin[..., 0] * bins[1] + bin[..., 1]) * bins[2] + bin[..., 2]


def _pairs(
    positions: Tensor, grid: _Grid, box: Floats, cutoff: float
) -> tuple[Tensor, Tensor, Tensor]:
    """All edges in no order: centre, other, shift between unwrapped atoms."""
    device, n = positions.device, len(positions)
    bins, periodic = (torch.tensor(x, device=device) for x in (grid.bins, grid.periodic))
    atoms = _binned(positions, grid, bins, periodic)
    spans = [torch.arange(-m, m + 1, device=device) for m in grid.reach.tolist()]
    offsets = torch.cartesian_prod(*spans)
    crowd = torch.arange(int(atoms.held.max()) if n else 0, device=device)
    lattice = torch.tensor(box, device=device)
    nothing = torch.zeros(0, dtype=torch.int64, device=device)
    found = [(nothing, nothing, nothing.reshape(0, 3))]
    portion = max(1, PORTION // max(1, len(offsets) * len(crowd)))
    for first in range(0, n, portion):
        here = torch.arange(first, min(first + portion, n), device=device)
        target = atoms.bin[here, None] + offsets
        through = torch.where(periodic, target.div(bins, rounding_mode="floor"), 0)
        wrapped = target - through * bins
        valid = ((wrapped >= 0) & (wrapped < bins)).all(-1)
        bin = _flat(wrapped.clamp(min=0).minimum(bins - 1), bins)
        present = valid[..., None] & (crowd < atoms.held[bin][..., None])
        i, j, k = present.nonzero(as_tuple=True)
        c, o = here[i], atoms.order[atoms.start[bin[i, j]] + k]
        shift = through[i, j] - atoms.image[o] + atoms.image[c]
        d = (positions[o] - positions[c]) + edge_shifts(shift, lattice)
        r = square_root((d[:, 0] ** 2 + d[:, 1] ** 2) + d[:, 2] ** 2)
        kept = (r < cutoff) & ((c != o) | (shift != 0).any(1))
        found.append((c[kept], o[kept], shift[kept]))
    centre, other, shift = (torch.cat(parts) for parts in zip(*found, strict=True))
    return centre, other, shift


def square_root(x: Tensor) -> Tensor:
    """Rounded as IEEE 754 asks, which torch's own on a CPU is not always."""
    if x.device.type == "cpu":
        return torch.from_numpy(np.sqrt(x.numpy()))
    return torch.sqrt(x)


def edge_shifts(shift: Tensor, lattice: Tensor) -> Tensor:
    """Shift @ cell, in the order of `Edges.vectors`: the same bits."""
    a, b, c = (shift[:, k, None] * lattice[k] for k in range(3))
    return (a + b) + c


def _sorted(
    n: int, centre: Tensor, other: Tensor, shift: Tensor, box: Floats
) -> DeviceEdges:
    """Canonical order; the reverse edges by sorting the list as its mirror image."""
    span = 2 * (int(shift.abs().max()) if len(shift) else 0) + 1
    if n * n * span**3 >= 2**63:
        raise FluxError("atoms are too many lattice vectors apart; has an atom been lost?")
    number = (shift[:, 0] * span + shift[:, 1]) * span + shift[:, 2]
    order = torch.argsort((centre * n + other) * span**3 + number)
    centre, other, shift, number = (x[order] for x in (centre, other, shift, number))
    reverse = torch.argsort((other * n + centre) * span**3 - number)
    row = torch.zeros(n + 1, dtype=torch.int64, device=centre.device)
    row[1:] = torch.cumsum(torch.bincount(centre, minlength=n), 0)
    lattice = torch.tensor(box, device=centre.device)
    return DeviceEdges(row, other, shift, edge_shifts(shift, lattice), reverse)
