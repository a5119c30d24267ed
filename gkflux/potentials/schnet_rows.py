r"""Sums over the edges of one atom: convolution, its backward, tangent, power.

Edge e of centre c has the other end o, an interval of the filter table (`schnet_tables`)
and a place t in it: with nodes V, D (value, slope times width) at both ends,

    W(r) = h0(t) V_i + k0(t) D_i + h1(t) V_{i+1} + k1(t) D_{i+1}

and W' the same with the derivatives of the basis. Edges beyond the cutoff have interval -1
and are passed over. Every sum over edges runs in the order of the list, feature by feature,
and no compiler flag allows another order.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from gkflux.potentials.schnet_vector import add_message, dot_message

__all__ = [
    "Geometry",
    "convolve",
    "image_vectors",
    "place_edges",
    "powers",
    "slopes",
    "tangent",
]

Matrix = NDArray[np.float32]
Vector = NDArray[np.float32]
Table = NDArray[np.float32]

f32 = np.float32
ONE, TWO, THREE, SIX = f32(1.0), f32(2.0), f32(3.0), f32(6.0)

_pure = {"contract"}


class Geometry(NamedTuple):
    """Edges as the kernels see them, E of them between N padded rows.

    ``row``: ``(N + 1,)``. ``other``, ``species`` (of the other), ``reverse``: ``(E,)``.
    ``shift``: ``(E, 3)``, Å, float64. Filled at each call: ``interval``, ``place``:
    ``(E,)``;
    ``unit``: ``(E, 3)``; ``distance``: ``(E,)``, Å; ``gradient``: dU/dr, ``(E,)``, eV/Å;
    ``power``: that of messages, ``(E,)``, eV/fs.
    """

    row: NDArray[np.int64]
    other: NDArray[np.int32]
    species: NDArray[np.int32]
    reverse: NDArray[np.int32]
    shift: NDArray[np.float64]
    interval: NDArray[np.int32]
    place: Vector
    unit: Matrix
    distance: Vector
    gradient: Vector
    power: Vector


@njit(fastmath=_pure, inline="always")
def _values(t: np.float32) -> tuple[np.float32, np.float32, np.float32, np.float32]:
    """Hermite basis at t: of the value and the slope on the left, then on the right."""
    s = ONE - t
    return s * s * (ONE + TWO * t), t * s * s, t * t * (THREE - TWO * t), -t * t * s


@njit(fastmath=_pure, inline="always")
def _slopes(
    t: np.float32, scale: np.float32
) -> tuple[np.float32, np.float32, np.float32, np.float32]:
    """Derivative of the basis by r; ``scale`` is one over the width of an interval."""
    s = ONE - t
    q = SIX * t * s * scale
    return -q, s * (ONE - THREE * t) * scale, q, t * (THREE * t - TWO) * scale


@njit(cache=True, nogil=True)
def image_vectors(
    images: NDArray[np.int32], cell: NDArray[np.float64], out: NDArray[np.float64]
) -> None:
    """S @ cell, shape ``(E, 3)``, Å: the bits of `Edges.vectors`, no temporaries."""
    for e in range(images.shape[0]):
        for axis in range(3):
            a = images[e, 0] * cell[0, axis]
            b = images[e, 1] * cell[1, axis]
            c = images[e, 2] * cell[2, axis]
            out[e, axis] = (a + b) + c


@njit(error_model="numpy")
def place_edges(
    c: int,
    g: Geometry,
    positions: NDArray[np.float64],
    scale: float,
    intervals: int,
) -> None:
    """Fill the geometry of the edges of c; differences in float64."""
    for e in range(g.row[c], g.row[c + 1]):
        o = g.other[e]
        x = (positions[o, 0] - positions[c, 0]) + g.shift[e, 0]
        y = (positions[o, 1] - positions[c, 1]) + g.shift[e, 1]
        z = (positions[o, 2] - positions[c, 2]) + g.shift[e, 2]
        r = np.sqrt(x * x + y * y + z * z)
        i = int(r * scale)
        g.gradient[e] = f32(0.0)
        g.interval[e] = i if i < intervals else -1
        g.place[e] = f32(r * scale - i)
        g.distance[e] = f32(r)
        g.unit[e, 0] = f32(x / r)
        g.unit[e, 1] = f32(y / r)
        g.unit[e, 2] = f32(z / r)


@njit(error_model="numpy")
def convolve(
    c: int,
    g: Geometry,
    index: NDArray[np.int32],
    table: Table,
    y: Matrix,
    out: Matrix,
    k: int,
) -> None:
    """Sum y_o W over the edges of c into row k of out.

    ``index`` says which row of y an edge reads: that of the other atom, or of its species.
    """
    out[k] = f32(0.0)
    for e in range(g.row[c], g.row[c + 1]):
        i = g.interval[e]
        if i >= 0:
            a0, b0, a1, b1 = _values(g.place[e])
            add_message(out, k, y, index[e], table, i, a0, b0, a1, b1)


@njit(error_model="numpy")
def slopes(
    c: int,
    g: Geometry,
    index: NDArray[np.int32],
    table: Table,
    y: Matrix,
    bm: Matrix,
    scale: np.float32,
) -> None:
    """Add the sum over features of bm_c y_o W' to the gradient of the edges of c."""
    for e in range(g.row[c], g.row[c + 1]):
        i = g.interval[e]
        if i >= 0:
            a0, b0, a1, b1 = _slopes(g.place[e], scale)
            g.gradient[e] += dot_message(bm, c, y, index[e], table, i, a0, b0, a1, b1)


@njit(error_model="numpy")
def powers(
    c: int, g: Geometry, table: Table, bm: Matrix, ydot: Matrix, fresh: bool
) -> None:
    """Add bm_c . W ydot_o to the power of the edges of c; ``fresh``: start at zero."""
    for e in range(g.row[c], g.row[c + 1]):
        i = g.interval[e]
        if fresh:
            g.power[e] = f32(0.0)
        if i >= 0:
            a0, b0, a1, b1 = _values(g.place[e])
            g.power[e] += dot_message(bm, c, ydot, g.other[e], table, i, a0, b0, a1, b1)


@njit(error_model="numpy")
def tangent(
    c: int,
    g: Geometry,
    index: NDArray[np.int32],
    table: Table,
    y: Matrix,
    velocities: NDArray[np.float64],
    scale: np.float32,
    out: Matrix,
    k: int,
) -> None:
    """Add y_o W' dr/dt over the edges of c to row k of out."""
    for e in range(g.row[c], g.row[c + 1]):
        i = g.interval[e]
        if i >= 0:
            rate = 0.0
            for a in range(3):
                rate += g.unit[e, a] * (velocities[g.other[e], a] - velocities[c, a])
            a0, b0, a1, b1 = _slopes(g.place[e], scale * f32(rate))
            add_message(out, k, y, index[e], table, i, a0, b0, a1, b1)
