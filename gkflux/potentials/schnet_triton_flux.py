"""The loops of the heat flux in Triton: tangent, power of messages, flux of each atom.

Arrays are those of `schnet_triton`.
"""

import triton
import triton.language as tl

from gkflux.potentials.schnet_triton import (
    blend,
    double,
    nodes,
    rows,
    slopes,
    tile,
    values,
)

__all__ = ["flux", "rates"]


@triton.jit  # type: ignore[untyped-decorator]
def rates(  # type: ignore[no-untyped-def]
    row,
    count,
    index,
    end,
    interval,
    place,
    unit,
    scale,
    velocities,
    table,
    y,
    ydot,
    bm,
    mdot,
    power,
    L: tl.constexpr,
    EDGES: tl.constexpr,
    FIRST: tl.constexpr,
    LAST: tl.constexpr,
    FRESH: tl.constexpr,
):
    """Sum ydot_o W + y_o W' dr/dt into ``mdot``; add bm_c . W ydot_o to the powers.

    FIRST layer: what it gathers is constant, so no ydot and no power. LAST: no ``mdot``.
    FRESH: powers start at zero.
    """
    c = tl.program_id(0)
    first, n = tl.load(row + c), tl.load(count + c)
    per_angstrom = tl.load(scale).to(tl.float32)
    lanes, f = tl.arange(0, EDGES), tl.arange(0, L)[None, :]
    own = tl.load(bm + c * L + f)
    vx, vy, vz = (
        tl.load(velocities + 3 * c),
        tl.load(velocities + 3 * c + 1),
        tl.load(velocities + 3 * c + 2),
    )
    total = tl.zeros((EDGES, L), tl.float32)
    for start in range(0, n, EDGES):
        k, here, i, t = tile(interval, place, first, start, n, lanes)
        inside = here[:, None]
        o = tl.load(end + k, mask=here, other=0)
        v0, d0, v1, d1 = nodes(table, i, f, inside, L)
        if not FIRST:
            a0, b0, a1, b1 = values(t)
            w = blend(v0, d0, v1, d1, a0, b0, a1, b1)
            carried = rows(ydot, o, f, inside, L) * w
            p = tl.sum(own * carried, 1)
            if not FRESH:
                p += tl.load(power + k, mask=here, other=0.0)
            tl.store(power + k, p, mask=here)
            if not LAST:
                total += carried
        if not LAST:
            ux = double(unit, 3 * k, here)
            uy = double(unit, 3 * k + 1, here)
            uz = double(unit, 3 * k + 2, here)
            rate = ux * (tl.load(velocities + 3 * o) - vx)
            rate += uy * (tl.load(velocities + 3 * o + 1) - vy)
            rate += uz * (tl.load(velocities + 3 * o + 2) - vz)
            a0, b0, a1, b1 = slopes(t, per_angstrom * rate.to(tl.float32))
            change = blend(v0, d0, v1, d1, a0, b0, a1, b1)
            source = tl.load(index + k, mask=here, other=0)
            total += rows(y, source, f, inside, L) * change
    if not LAST:
        tl.store(mdot + c * L + tl.arange(0, L), tl.sum(total, 0))


@triton.jit  # type: ignore[untyped-decorator]
def flux(  # type: ignore[no-untyped-def]
    row,
    count,
    slot,
    end,
    unit,
    distance,
    vectors,
    gradient,
    power,
    velocities,
    lattice,
    out,
    MESSAGES: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """- d P and - d0 P summed over the edges of each atom, ``(N, 6)``, eV Å/fs, float64.

    P = G . v_o + the power of messages; d0 is between the sites of the ``lattice``,
    ``(N, 3)``, Å.
    """
    c = tl.program_id(0)
    first, n = tl.load(row + c), tl.load(count + c)
    lanes = tl.arange(0, CHUNK)
    for a in tl.static_range(3):
        site = tl.load(lattice + 3 * c + a)
        plain = tl.zeros((CHUNK,), tl.float64)
        gauged = tl.zeros((CHUNK,), tl.float64)
        for start in range(0, n, CHUNK):
            here = start + lanes < n
            k = first + start + lanes
            e = tl.load(slot + k, mask=here, other=0)
            o = tl.load(end + k, mask=here, other=0)
            speed = tl.zeros((CHUNK,), tl.float64)
            for b in tl.static_range(3):
                u = double(unit, 3 * k + b, here)
                speed += u * tl.load(velocities + 3 * o + b)
            p = double(gradient, e, here) * speed
            if MESSAGES:
                p += double(power, k, here)
            u = double(unit, 3 * k + a, here)
            r = double(distance, k, here)
            plain -= u * r * p
            between = tl.load(lattice + 3 * o + a, mask=here, other=0.0) - site
            between += tl.load(vectors + 3 * e + a, mask=here, other=0.0)
            gauged -= between * p
        tl.store(out + 6 * c + a, tl.sum(plain, 0))
        tl.store(out + 6 * c + 3 + a, tl.sum(gauged, 0))
