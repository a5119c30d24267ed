r"""The loops over edges in Triton: one program per atom, over its row of the list.

The CPU engine's kernels (`schnet_rows`, `schnet_kernels`), with one difference. A list
holds edges up to cutoff + skin; `place_edges` writes those within the cutoff, in their
order, to the front of the same row, and the other kernels see these alone. What an atom
sums is then a property of the structure: a sum may be split over lanes and joined by a
tree, and still not depend on the age or the skin of the list. No atomics, so no chance.

=====================  =================================================================
array                  shape, meaning; N rows of all replicas, room for E edges
=====================  =================================================================
``row``                ``(N + 1,)``: the row of atom c is ``row[c]:row[c + 1]``
``other``, ``vectors`` ``(E,)``, ``(E, 3)`` Å float64: of the list; shift @ cell
``reverse``            ``(E,)``: place of the reverse edge in the list
``count``              ``(N,)``: edges within the cutoff, ``k < row[c] + count[c]``
``slot``               ``(E,)``: place in the list of compact edge k
``end``, ``kind``      ``(E,)``: other atom of k, and its species
``interval``, ``t``    ``(E,)``: place in the filter table, see `schnet_rows`
``unit``, ``distance`` ``(E, 3)``, ``(E,)`` Å
``gradient``           ``(E,)``: dU/dr by place in the list, eV/Å
``power``              ``(E,)``: that of messages by compact place, eV/fs
=====================  =================================================================

Features are float32; geometry, and sums that leave the device, float64.
"""

import triton
import triton.language as tl

__all__ = [
    "backward",
    "blend",
    "collect",
    "convolve",
    "double",
    "nodes",
    "place_edges",
    "rows",
    "slopes",
    "tile",
    "values",
]


@triton.jit
def values(t):  # type: ignore[no-untyped-def]
    """Hermite basis at t: of the value and the slope on the left, then on the right."""
    s = 1.0 - t
    return s * s * (1.0 + 2.0 * t), t * s * s, t * t * (3.0 - 2.0 * t), -t * t * s


@triton.jit
def slopes(t, scale):  # type: ignore[no-untyped-def]
    """Derivative of the basis by r; ``scale`` is one over the width of an interval."""
    s = 1.0 - t
    q = 6.0 * t * s * scale
    return -q, s * (1.0 - 3.0 * t) * scale, q, t * (3.0 * t - 2.0) * scale


@triton.jit  # type: ignore[untyped-decorator]
def nodes(table, i, f, inside, L: tl.constexpr):  # type: ignore[no-untyped-def]
    """Values and slopes at both ends of the intervals, each ``(edges, L)``."""
    at = table + i[:, None] * (2 * L) + f
    v0 = tl.load(at, mask=inside, other=0.0)
    d0 = tl.load(at + L, mask=inside, other=0.0)
    v1 = tl.load(at + 2 * L, mask=inside, other=0.0)
    d1 = tl.load(at + 3 * L, mask=inside, other=0.0)
    return v0, d0, v1, d1


@triton.jit
def blend(v0, d0, v1, d1, a0, b0, a1, b1):  # type: ignore[no-untyped-def]
    """W or its derivative, ``(edges, L)``, from nodes and basis."""
    left = a0[:, None] * v0 + b0[:, None] * d0
    return left + (a1[:, None] * v1 + b1[:, None] * d1)


@triton.jit
def tile(interval, place, first, start, n, lanes):  # type: ignore[no-untyped-def]
    """Some edges of a row: compact places, which of them exist, intervals and t."""
    here = start + lanes < n
    k = first + start + lanes
    i = tl.load(interval + k, mask=here, other=0)
    return k, here, i, tl.load(place + k, mask=here, other=0.0)


@triton.jit  # type: ignore[untyped-decorator]
def rows(y, index, f, inside, L: tl.constexpr):  # type: ignore[no-untyped-def]
    """Rows of features, ``(edges, L)``."""
    return tl.load(y + index[:, None] * L + f, mask=inside, other=0.0)


@triton.jit
def double(values, at, here):  # type: ignore[no-untyped-def]
    """Numbers of edges, in float64, and 0 where there is no edge."""
    return tl.load(values + at, mask=here, other=0.0).to(tl.float64)


@triton.jit  # type: ignore[untyped-decorator]
def place_edges(  # type: ignore[no-untyped-def]
    positions,
    origin,
    moved,
    species,
    row,
    other,
    vectors,
    scale,
    count,
    slot,
    end,
    kind,
    interval,
    place,
    unit,
    distance,
    INTERVALS: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """Find the edges within the cutoff; note how far the atom is from where it was listed.

    ``moved``, ``(N,)``, Å², grows to the largest square of that distance.
    """
    c = tl.program_id(0)
    first, last = tl.load(row + c), tl.load(row + c + 1)
    per_angstrom = tl.load(scale)
    x = tl.load(positions + 3 * c)
    y = tl.load(positions + 3 * c + 1)
    z = tl.load(positions + 3 * c + 2)
    mx = x - tl.load(origin + 3 * c)
    my = y - tl.load(origin + 3 * c + 1)
    mz = z - tl.load(origin + 3 * c + 2)
    far, before = mx * mx + my * my + mz * mz, tl.load(moved + c)
    # not a maximum, which may drop a nan
    tl.store(moved + c, tl.where(far <= before, before, far))
    lanes = tl.arange(0, CHUNK)
    found = first
    for start in range(first, last, CHUNK):
        e = start + lanes
        inside = e < last
        o = tl.load(other + e, mask=inside, other=0)
        dx = tl.load(positions + 3 * o) - x
        dy = tl.load(positions + 3 * o + 1) - y
        dz = tl.load(positions + 3 * o + 2) - z
        dx += tl.load(vectors + 3 * e, mask=inside, other=0.0)
        dy += tl.load(vectors + 3 * e + 1, mask=inside, other=0.0)
        dz += tl.load(vectors + 3 * e + 2, mask=inside, other=0.0)
        r = tl.where(inside, tl.sqrt(dx * dx + dy * dy + dz * dz), 1.0)
        q = r * per_angstrom
        inside = inside & (q < INTERVALS)
        i = tl.where(inside, q, 0.0).to(tl.int32)
        keep = inside.to(tl.int32)
        k = found + tl.cumsum(keep, 0) - keep
        tl.store(slot + k, e, mask=inside)
        tl.store(end + k, o, mask=inside)
        tl.store(kind + k, tl.load(species + o), mask=inside)
        tl.store(interval + k, i, mask=inside)
        tl.store(place + k, (q - i.to(tl.float64)).to(tl.float32), mask=inside)
        tl.store(distance + k, r.to(tl.float32), mask=inside)
        tl.store(unit + 3 * k, (dx / r).to(tl.float32), mask=inside)
        tl.store(unit + 3 * k + 1, (dy / r).to(tl.float32), mask=inside)
        tl.store(unit + 3 * k + 2, (dz / r).to(tl.float32), mask=inside)
        found += tl.sum(keep, 0)
    tl.store(count + c, found - first)


@triton.jit  # type: ignore[untyped-decorator]
def convolve(  # type: ignore[no-untyped-def]
    row,
    count,
    index,
    interval,
    place,
    table,
    y,
    out,
    L: tl.constexpr,
    EDGES: tl.constexpr,
):
    """Sum y_o W over the edges of c. ``index``: which row of y an edge reads."""
    c = tl.program_id(0)
    first, n = tl.load(row + c), tl.load(count + c)
    lanes, f = tl.arange(0, EDGES), tl.arange(0, L)[None, :]
    total = tl.zeros((EDGES, L), tl.float32)
    for start in range(0, n, EDGES):
        k, here, i, t = tile(interval, place, first, start, n, lanes)
        inside = here[:, None]
        source = tl.load(index + k, mask=here, other=0)
        v0, d0, v1, d1 = nodes(table, i, f, inside, L)
        a0, b0, a1, b1 = values(t)
        w = blend(v0, d0, v1, d1, a0, b0, a1, b1)
        total += rows(y, source, f, inside, L) * w
    tl.store(out + c * L + tl.arange(0, L), tl.sum(total, 0))


@triton.jit  # type: ignore[untyped-decorator]
def backward(  # type: ignore[no-untyped-def]
    row,
    count,
    index,
    end,
    slot,
    interval,
    place,
    scale,
    table,
    y,
    bm,
    by,
    gradient,
    L: tl.constexpr,
    EDGES: tl.constexpr,
    MESSAGES: tl.constexpr,
    FRESH: tl.constexpr,
):
    """Add the sum over features of bm_c y_o W' to the gradients; sum bm_o W into ``by``.

    W_ij = W_ji: what the messages of c to others return is a sum over the edges of c.
    Without MESSAGES there is no ``by``: the first layer. FRESH: gradients start at zero.
    """
    c = tl.program_id(0)
    first, n = tl.load(row + c), tl.load(count + c)
    per_angstrom = tl.load(scale).to(tl.float32)
    lanes, f = tl.arange(0, EDGES), tl.arange(0, L)[None, :]
    own = tl.load(bm + c * L + f)
    total = tl.zeros((EDGES, L), tl.float32)
    for start in range(0, n, EDGES):
        k, here, i, t = tile(interval, place, first, start, n, lanes)
        inside = here[:, None]
        e = tl.load(slot + k, mask=here, other=0)
        source = tl.load(index + k, mask=here, other=0)
        v0, d0, v1, d1 = nodes(table, i, f, inside, L)
        a0, b0, a1, b1 = slopes(t, per_angstrom)
        slope = blend(v0, d0, v1, d1, a0, b0, a1, b1)
        far = rows(y, source, f, inside, L)
        g = tl.sum(own * far * slope, 1)
        if not FRESH:
            g += tl.load(gradient + e, mask=here, other=0.0)
        tl.store(gradient + e, g, mask=here)
        if MESSAGES:
            a0, b0, a1, b1 = values(t)
            w = blend(v0, d0, v1, d1, a0, b0, a1, b1)
            o = tl.load(end + k, mask=here, other=0)
            total += rows(bm, o, f, inside, L) * w
    if MESSAGES:
        tl.store(by + c * L + tl.arange(0, L), tl.sum(total, 0))


@triton.jit  # type: ignore[untyped-decorator]
def collect(  # type: ignore[no-untyped-def]
    row,
    count,
    slot,
    reverse,
    unit,
    distance,
    gradient,
    forces,
    virials,
    CHUNK: tl.constexpr,
):
    """Forces ``(N, 3)``, and each atom's part of the sum of d (x) G, ``(N, 9)``, float64.

    The reverse edge has -d: the force on c is a sum over its own edges of both gradients.
    """
    c = tl.program_id(0)
    first, n = tl.load(row + c), tl.load(count + c)
    lanes = tl.arange(0, CHUNK)
    for a in tl.static_range(3):
        force = tl.zeros((CHUNK,), tl.float64)
        v0 = tl.zeros((CHUNK,), tl.float64)
        v1 = tl.zeros((CHUNK,), tl.float64)
        v2 = tl.zeros((CHUNK,), tl.float64)
        for start in range(0, n, CHUNK):
            here = start + lanes < n
            k = first + start + lanes
            e = tl.load(slot + k, mask=here, other=0)
            back = tl.load(reverse + e, mask=here, other=0)
            own = double(gradient, e, here)
            both = own + double(gradient, back, here)
            r = double(distance, k, here)
            u = double(unit, 3 * k + a, here)
            moment = own * u * r
            force += both * u
            v0 += moment * double(unit, 3 * k, here)
            v1 += moment * double(unit, 3 * k + 1, here)
            v2 += moment * double(unit, 3 * k + 2, here)
        tl.store(forces + 3 * c + a, tl.sum(force, 0))
        tl.store(virials + 9 * c + 3 * a, tl.sum(v0, 0))
        tl.store(virials + 9 * c + 3 * a + 1, tl.sum(v1, 0))
        tl.store(virials + 9 * c + 3 * a + 2, tl.sum(v2, 0))
