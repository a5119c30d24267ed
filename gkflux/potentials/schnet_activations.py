"""Activations of the CPU engine, and why it brings its own dense layers.

A product of a few rows by a small matrix needs no BLAS (`schnet_vector.multiply_add` is as
fast as MKL here). In return rows stay in cache between the steps of a layer; one pool of
threads does everything (two, torch's and numba's, spin against each other and cost more
than the products); and the bits of a row depend on that row alone: not on the batch it is
in, on alignment, on the number of threads, or on which BLAS is installed.

Activations are polynomials, to two units in the last place of float32, because a compiler
has no vector form of exp and log. Only multiplications and additions are fused
(``contract``): sums keep their order.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["activate", "silu_readout", "ssp_readout"]

Vector = NDArray[np.float32]

f32 = np.float32
LN2 = f32(np.log(2.0))
# ln 2 in two parts, for the reduction of the argument of exp (Cody and Waite)
LN2_HIGH = f32(0.693359375)
LN2_LOW = f32(-2.12194440e-4)
LOG2E = f32(1.44269504)
LOWEST = f32(-87.0)

_pure = {"contract"}


@njit(fastmath=_pure, error_model="numpy", inline="always")
def _exp(x: np.float32) -> np.float32:
    """exp(x) for x <= 0, to two units in the last place (Cephes' polynomial)."""
    x = max(x, LOWEST)
    n = np.int32(x * LOG2E - f32(0.5))  # truncation towards zero: the nearest integer
    r = (x - f32(n) * LN2_HIGH) - f32(n) * LN2_LOW
    p = f32(1.9875691500e-4)
    p = p * r + f32(1.3981999507e-3)
    p = p * r + f32(8.3334519073e-3)
    p = p * r + f32(4.1665795894e-2)
    p = p * r + f32(1.6666665459e-1)
    p = p * r + f32(5.0000001201e-1)
    y = (p * r) * r + r + f32(1.0)
    return y * np.int32((n + np.int32(127)) << np.int32(23)).view(np.float32)


@njit(fastmath=_pure, error_model="numpy", inline="always")
def _log1p(e: np.float32) -> np.float32:
    """log(1 + e) for 0 <= e <= 1, as 2 artanh(e / (2 + e))."""
    s = e / (f32(2.0) + e)
    q = s * s
    p = f32(1.0 / 15.0)
    p = p * q + f32(1.0 / 13.0)
    p = p * q + f32(1.0 / 11.0)
    p = p * q + f32(1.0 / 9.0)
    p = p * q + f32(1.0 / 7.0)
    p = p * q + f32(1.0 / 5.0)
    p = p * q + f32(1.0 / 3.0)
    return f32(2.0) * (s + s * q * p)


@njit(fastmath=_pure, error_model="numpy")
def activate(z: Vector, bias: Vector, slope: Vector) -> None:
    """Replace z by ssp(z + bias); ``slope`` gets the derivative there."""
    for f in range(z.size):
        a = z[f] + bias[f]
        e = _exp(-abs(a))
        inverse = f32(1.0) / (f32(1.0) + e)
        slope[f] = inverse if a >= f32(0.0) else e * inverse
        z[f] = (max(a, f32(0.0)) + _log1p(e)) - LN2


@njit(error_model="numpy")
def ssp_readout(z: Vector, bias: Vector, out: Vector, scaled: Vector) -> float:
    """Return ssp(z + bias) . out; z becomes its cotangent, ssp' times scaled out."""
    slope = np.empty_like(z)
    activate(z, bias, slope)
    u = 0.0
    for f in range(z.size):
        u += np.float64(z[f]) * np.float64(out[f])
        z[f] = slope[f] * scaled[f]
    return u


@njit(error_model="numpy")
def silu_readout(z: Vector, bias: Vector, out: Vector, scaled: Vector) -> float:
    """Return silu(z + bias) . out; z becomes its cotangent, silu' times scaled out."""
    u = 0.0
    for f in range(z.size):
        a = z[f] + bias[f]
        e = _exp(-abs(a))
        sigmoid = (f32(1.0) if a >= f32(0.0) else e) / (f32(1.0) + e)
        u += np.float64(a * sigmoid) * np.float64(out[f])
        z[f] = sigmoid * (f32(1.0) + a * (f32(1.0) - sigmoid)) * scaled[f]
    return u
