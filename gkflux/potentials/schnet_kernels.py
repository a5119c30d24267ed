"""The parallel passes of the CPU engine: each handles every atom once, a block at a time.

A pass ends where rows of other atoms are needed next. For T layers a force call is
`geometry`, T times `forward`, `readout`, T - 1 times `backward`, `first_slopes`, `collect`;
the flux adds T - 1 times `forward_tangent` and `message_power`, and `flux`. Nothing else:
no tensor by edge and feature exists, and no two threads write to one place.

What is written to the arrays of a `Geometry` is written by functions of one row: inside of
a parallel loop itself numba 0.68 loses writes to arrays of a named tuple.

=======================  ===============================================================
symbol                   name: shape, N padded rows of all replicas
=======================  ===============================================================
y = B x                  ``y``: ``(N, L)``; of the first layer ``(S, L)``, by species
m, D1 m + d1             in place: ``message (BLOCK, L)``, ``h``
ssp'(D1 m + d1)          ``slope``: ``(N, F)``, kept for backward and tangent
x; dU/dx; dx/dt          ``x``, ``bx``, ``xdot``: ``(N, F)``
dU/dm                    ``bm``: ``(N, L)``, kept for the powers
dU/dd = (dU/dr) u        ``g.gradient * g.unit``
=======================  ===============================================================
"""

from typing import NamedTuple

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from gkflux.potentials.schnet_activations import activate, silu_readout, ssp_readout
from gkflux.potentials.schnet_rows import (
    Geometry,
    convolve,
    place_edges,
    powers,
    slopes,
    tangent,
)
from gkflux.potentials.schnet_vector import BLOCK, multiply_add

__all__ = [
    "Layer",
    "Readout",
    "backward",
    "collect",
    "first_slopes",
    "flux",
    "forward",
    "forward_tangent",
    "geometry",
    "message_power",
    "readout",
]

Matrix = NDArray[np.float32]
Vector = NDArray[np.float32]
Doubles = NDArray[np.float64]

f32 = np.float32


class Layer(NamedTuple):
    """Weights of one interaction, for rows on the left: ``x @ w``; ``_t``: transposed.

    ``table``: ``(K + 1, 2, L)``. ``scale``: intervals per Å. ``b``: ``(F, L)``. ``d1``:
    ``(L, F)``, ``d1_bias``: ``(F,)``. ``d2``: ``(F, F)``, ``d2_bias``: ``(F,)``.
    """

    table: NDArray[np.float32]
    scale: np.float32
    b: Matrix
    b_t: Matrix
    d1: Matrix
    d1_t: Matrix
    d1_bias: Vector
    d2: Matrix
    d2_t: Matrix
    d2_bias: Vector


class Readout(NamedTuple):
    """Weights of the readout: ``hidden (F, H)``, ``bias (H,)``, ``out (H,)``.

    ``scaled``: ``out`` times stddev. ``silu``: the activation, ssp otherwise.
    """

    hidden: Matrix
    hidden_t: Matrix
    bias: Vector
    out: Vector
    scaled: Vector
    silu: bool


@njit(parallel=True, cache=True, nogil=True, error_model="numpy")
def geometry(positions: Doubles, g: Geometry, scale: float, intervals: int) -> None:
    """Distances, unit vectors, places in the table; differences in float64."""
    for c in prange(g.row.size - 1):
        place_edges(c, g, positions, scale, intervals)


@njit(parallel=True, cache=True, nogil=True, error_model="numpy")
def forward(
    g: Geometry,
    index: NDArray[np.int32],
    w: Layer,
    y: Matrix,
    before: Matrix,
    slope: Matrix,
    x: Matrix,
    b_next: Matrix,
    y_next: Matrix,
) -> None:
    """Features x = before + D2 ssp(D1 m + d1) + d2; then y of the next layer, if any."""
    for block in prange(x.shape[0] // BLOCK):
        first = block * BLOCK
        message = np.empty((BLOCK, y.shape[1]), f32)
        h = np.zeros((BLOCK, x.shape[1]), f32)
        for k in range(BLOCK):
            convolve(first + k, g, index, w.table, y, message, k)
        multiply_add(message, 0, w.d1, h, 0)
        for k in range(BLOCK):
            activate(h[k], w.d1_bias, slope[first + k])
            for f in range(x.shape[1]):
                x[first + k, f] = before[first + k, f] + w.d2_bias[f]
        multiply_add(h, 0, w.d2, x, first)
        if y_next.shape[0] > 0:
            y_next[first : first + BLOCK] = f32(0.0)
            multiply_add(x, first, b_next, y_next, first)


@njit(error_model="numpy")
def _back(first: int, w: Layer, slope: Matrix, bx: Matrix, bm: Matrix) -> None:
    """Compute dU/dm = D1^T (ssp' D2^T bx) for one block."""
    h = np.zeros((BLOCK, bx.shape[1]), f32)
    multiply_add(bx, first, w.d2_t, h, 0)
    for k in range(BLOCK):
        for f in range(h.shape[1]):
            h[k, f] *= slope[first + k, f]
    bm[first : first + BLOCK] = f32(0.0)
    multiply_add(h, 0, w.d1_t, bm, first)


@njit(parallel=True, cache=True, nogil=True, error_model="numpy")
def readout(
    r: Readout, w: Layer, x: Matrix, slope: Matrix, bx: Matrix, bm: Matrix, u: Doubles
) -> None:
    """Energies without scale and shift; dU/dx, and dU/dm of the last layer."""
    for block in prange(x.shape[0] // BLOCK):
        first = block * BLOCK
        h = np.zeros((BLOCK, r.out.size), f32)
        multiply_add(x, first, r.hidden, h, 0)
        for k in range(BLOCK):
            if r.silu:
                u[first + k] = silu_readout(h[k], r.bias, r.out, r.scaled)
            else:
                u[first + k] = ssp_readout(h[k], r.bias, r.out, r.scaled)
        bx[first : first + BLOCK] = f32(0.0)
        multiply_add(h, 0, r.hidden_t, bx, first)
        _back(first, w, slope, bx, bm)


@njit(parallel=True, cache=True, nogil=True, error_model="numpy")
def backward(
    g: Geometry,
    w: Layer,
    y: Matrix,
    bm: Matrix,
    below: Layer,
    slope: Matrix,
    bx: Matrix,
    bm_below: Matrix,
) -> None:
    """Through one layer: gradients of its edges, dU/dx before it, dU/dm of the layer below.

    W_ij = W_ji: what the messages of c to others return is a sum over the edges of c.
    """
    for block in prange(bx.shape[0] // BLOCK):
        first = block * BLOCK
        by = np.empty((BLOCK, y.shape[1]), f32)
        for k in range(BLOCK):
            convolve(first + k, g, g.other, w.table, bm, by, k)
            slopes(first + k, g, g.other, w.table, y, bm, w.scale)
        multiply_add(by, 0, w.b_t, bx, first)
        _back(first, below, slope, bx, bm_below)


@njit(parallel=True, cache=True, nogil=True, error_model="numpy")
def first_slopes(g: Geometry, w: Layer, y: Matrix, bm: Matrix) -> None:
    """Gradients of the edges in the first layer, which gathers by species."""
    for c in prange(bm.shape[0]):
        slopes(c, g, g.species, w.table, y, bm, w.scale)


@njit(parallel=True, cache=True, nogil=True, error_model="numpy")
def collect(g: Geometry, forces: Doubles, virials: Doubles) -> None:
    """Forces ``(N, 3)``, and each atom's part of the sum of d (x) G, ``(N, 3, 3)``.

    The reverse edge has -d: the force on c is a sum over its own edges of both gradients.
    """
    for c in prange(g.row.size - 1):
        forces[c] = 0.0
        virials[c] = 0.0
        for e in range(g.row[c], g.row[c + 1]):
            if g.interval[e] >= 0:
                own = np.float64(g.gradient[e])
                both = own + np.float64(g.gradient[g.reverse[e]])
                for a in range(3):
                    u = np.float64(g.unit[e, a])
                    forces[c, a] += both * u
                    moment = own * u * g.distance[e]
                    for b in range(3):
                        virials[c, a, b] += moment * g.unit[e, b]


@njit(parallel=True, cache=True, nogil=True, error_model="numpy")
def forward_tangent(
    g: Geometry,
    index: NDArray[np.int32],
    w: Layer,
    y: Matrix,
    ydot: Matrix,
    velocities: Doubles,
    slope: Matrix,
    xdot: Matrix,
    b_next: Matrix,
    ydot_next: Matrix,
) -> None:
    """Add D2 ssp' D1 mdot to xdot, and compute the tangent of y of the next layer.

    An empty ``ydot`` is the first layer: it gathers constants, and starts xdot at zero.
    """
    for block in prange(xdot.shape[0] // BLOCK):
        first = block * BLOCK
        mdot = np.zeros((BLOCK, y.shape[1]), f32)
        h = np.zeros((BLOCK, xdot.shape[1]), f32)
        for k in range(BLOCK):
            if ydot.shape[0] > 0:
                convolve(first + k, g, index, w.table, ydot, mdot, k)
            else:
                xdot[first + k] = f32(0.0)
            tangent(first + k, g, index, w.table, y, velocities, w.scale, mdot, k)
        multiply_add(mdot, 0, w.d1, h, 0)
        for k in range(BLOCK):
            for f in range(h.shape[1]):
                h[k, f] *= slope[first + k, f]
        multiply_add(h, 0, w.d2, xdot, first)
        ydot_next[first : first + BLOCK] = f32(0.0)
        multiply_add(xdot, first, b_next, ydot_next, first)


@njit(parallel=True, cache=True, nogil=True, error_model="numpy")
def message_power(g: Geometry, w: Layer, bm: Matrix, ydot: Matrix, fresh: bool) -> None:
    """Add the power that the messages of one layer carry; ``fresh``: start at zero."""
    for c in prange(bm.shape[0]):
        powers(c, g, w.table, bm, ydot, fresh)


@njit(parallel=True, cache=True, nogil=True, error_model="numpy")
def flux(
    g: Geometry, messages: bool, velocities: Doubles, lattice: Doubles, out: Doubles
) -> None:
    """- d P and - d0 P summed over the edges of each atom, ``(N, 2, 3)``, eV Å/fs.

    P = G . v_o + the power of messages; d0 is between the sites of the ``lattice``,
    ``(N, 3)``, Å.
    """
    for c in prange(g.row.size - 1):
        out[c] = 0.0
        for e in range(g.row[c], g.row[c + 1]):
            if g.interval[e] >= 0:
                o = g.other[e]
                speed = 0.0
                for a in range(3):
                    speed += g.unit[e, a] * velocities[o, a]
                power = np.float64(g.gradient[e]) * speed
                if messages:
                    power += np.float64(g.power[e])
                for a in range(3):
                    out[c, 0, a] -= np.float64(g.unit[e, a]) * g.distance[e] * power
                    site = (lattice[o, a] - lattice[c, a]) + g.shift[e, a]
                    out[c, 1, a] -= site * power
