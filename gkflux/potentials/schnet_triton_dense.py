"""Dense layers and sums over atoms in Triton.

A product of cuBLAS may choose another algorithm, and other bits, when a batch has another
number of rows. Here a row meets the columns in an order that only the widths decide, so a
replica has the same bits in any company. Products are of float32, without TF32.
"""

import triton
import triton.language as tl

__all__ = ["ACTIVATE", "ADD", "PLAIN", "SCALE", "dense", "readout", "totals"]

PLAIN = 0
ACTIVATE = 1
ADD = 2
SCALE = 3


@triton.jit
def _softplus(z):  # type: ignore[no-untyped-def]
    """ssp(z) and its derivative, from one exponential that cannot overflow."""
    e = tl.exp(-tl.abs(z))
    inverse = 1.0 / (1.0 + e)
    slope = tl.where(z >= 0.0, inverse, e * inverse)
    # log1p: 1 + e loses the end of a small e, which the difference puts back
    one = 1.0 + e
    log = tl.log(one) - ((one - 1.0) - e) * inverse
    return (tl.maximum(z, 0.0) + log) - 0.6931471805599453, slope


@triton.jit  # type: ignore[untyped-decorator]
def dense(  # type: ignore[no-untyped-def]
    x,
    w,
    bias,
    base,
    slope,
    out,
    rows,
    K: tl.constexpr,
    M: tl.constexpr,
    ROWS: tl.constexpr,
    COLS: tl.constexpr,
    DEPTH: tl.constexpr,
    MODE: tl.constexpr,
    BIAS: tl.constexpr,
):
    """Compute out from z = x @ w (+ bias), x: ``(rows, K)``, w: ``(K, M)``.

    MODE 0: out = z. 1: out = ssp(z), slope = ssp'(z). 2: out = base + z. 3: out = z slope.
    """
    r = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    m = tl.program_id(1) * COLS + tl.arange(0, COLS)
    inside = (r < rows)[:, None]
    z = tl.zeros((ROWS, COLS), tl.float32)
    for start in range(0, K, DEPTH):
        k = start + tl.arange(0, DEPTH)
        left = tl.load(x + r[:, None] * K + k[None, :], mask=inside, other=0.0)
        right = tl.load(w + k[:, None] * M + m[None, :])
        z = tl.dot(left, right, z, input_precision="ieee")
    if BIAS:
        z += tl.load(bias + m)[None, :]
    at = r[:, None] * M + m[None, :]
    if MODE == 1:
        z, derivative = _softplus(z)
        tl.store(slope + at, derivative, mask=inside)
    if MODE == 2:
        z = tl.load(base + at, mask=inside, other=0.0) + z
    if MODE == 3:
        z = z * tl.load(slope + at, mask=inside, other=0.0)
    tl.store(out + at, z, mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def readout(  # type: ignore[no-untyped-def]
    x,
    w,
    bias,
    out,
    scaled,
    cotangent,
    u,
    rows,
    K: tl.constexpr,
    H: tl.constexpr,
    ROWS: tl.constexpr,
    DEPTH: tl.constexpr,
    SILU: tl.constexpr,
):
    """Energies ``u``, ``(rows,)``, float64, without scale and shift; dU/d(hidden)."""
    r = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    h = tl.arange(0, H)
    inside = (r < rows)[:, None]
    z = tl.zeros((ROWS, H), tl.float32)
    for start in range(0, K, DEPTH):
        k = start + tl.arange(0, DEPTH)
        left = tl.load(x + r[:, None] * K + k[None, :], mask=inside, other=0.0)
        right = tl.load(w + k[:, None] * H + h[None, :])
        z = tl.dot(left, right, z, input_precision="ieee")
    z += tl.load(bias + h)[None, :]
    if SILU:
        s = 1.0 / (1.0 + tl.exp(-z))
        a = z * s
        slope = s * (1.0 + z * (1.0 - s))
    else:
        a, slope = _softplus(z)
    weighted = a.to(tl.float64) * tl.load(out + h).to(tl.float64)[None, :]
    tl.store(u + r, tl.sum(weighted, 1), mask=r < rows)
    change = slope * tl.load(scaled + h)[None, :]
    tl.store(cotangent + r[:, None] * H + h[None, :], change, mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def totals(  # type: ignore[no-untyped-def]
    values, out, n, width, CHUNK: tl.constexpr
):
    """Sum ``(R, n, width)`` over n, float64: one program for each of R and width."""
    r, j = tl.program_id(0), tl.program_id(1)
    lanes = tl.arange(0, CHUNK)
    total = tl.zeros((CHUNK,), tl.float64)
    for start in range(0, n, CHUNK):
        i = start + lanes
        total += tl.load(values + (r * n + i) * width + j, mask=i < n, other=0.0)
    tl.store(out + r * width + j, tl.sum(total, 0))
