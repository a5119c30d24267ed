"""Normal random numbers as a function of where they are used, not of what came before.

Philox4x32-10 is a keyed bijection of a counter (Salmon, Moraes, Dror, Shaw, SC11, 2011).
The key is made of (seed, stage, purpose, replica), the counter of (step, atom). So a
restart needs no generator state, and the noise of a replica does not depend on its
companions.

======== ======================================================= =====================
counter  words                                                   bits
======== ======================================================= =====================
0        atom                                                    32
1        0: x and y, 1: z                                        32
2, 3     step, low and high word                                 64
======== ======================================================= =====================

A pair of words makes a uniform number of 52 bits, never 0 or 1, and the inverse of the
normal distribution (algorithm AS 241, PPND16: M. J. Wichura, Appl. Statist. 37, 477
(1988)) makes it normal, to about 1e-16. The logarithm of its tails is computed here from
additions, multiplications and divisions alone, so the bits are the same on every machine
and with every library.
"""

import hashlib
from collections.abc import Sequence
from math import frexp, sqrt
from typing import Literal

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = ["Purpose", "key", "keys", "normals", "philox"]

Purpose = Literal["velocities", "langevin", "csvr", "volume"]

MULTIPLIER_0, MULTIPLIER_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
WEYL_0, WEYL_1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
WORD = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)
ROUNDS = 10


def key(seed: int, stage: int, purpose: Purpose, replica: int) -> np.uint64:
    """Return the 64-bit key of one stream.

    A hash keeps streams of neighbouring seeds and replicas as far apart as any others.
    """
    name = f"{seed}/{stage}/{purpose}/{replica}".encode()
    return np.uint64(
        int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little")
    )


def keys(
    seed: int, stage: int, purpose: Purpose, replicas: Sequence[int]
) -> list[np.uint64]:
    """Return the keys of one purpose for some replicas of a stage."""
    return [key(seed, stage, purpose, replica) for replica in replicas]


@numba.njit(cache=True, inline="always")
def philox(c0, c1, c2, c3, k0, k1):  # type: ignore[no-untyped-def]
    """Encrypt one counter: four words of 32 bits (each in a uint64), two words of key."""
    for _ in range(ROUNDS):
        p0 = MULTIPLIER_0 * c0
        p1 = MULTIPLIER_1 * c2
        c0, c1, c2, c3 = (
            (p1 >> HALF) ^ c1 ^ k0,
            p1 & WORD,
            (p0 >> HALF) ^ c3 ^ k1,
            p0 & WORD,
        )
        k0 = (k0 + WEYL_0) & WORD
        k1 = (k1 + WEYL_1) & WORD
    return c0, c1, c2, c3


@numba.njit(cache=True)
def logarithm(x):  # type: ignore[no-untyped-def]
    """Natural logarithm from basic operations: log m = 2 artanh((m - 1)/(m + 1))."""
    mantissa, exponent = frexp(x)
    if mantissa < 0.7071067811865476:
        mantissa, exponent = 2.0 * mantissa, exponent - 1
    s = (mantissa - 1.0) / (mantissa + 1.0)
    square = s * s
    total = 0.0
    for odd in range(23, 0, -2):
        total = total * square + 1.0 / odd
    return exponent * 0.6931471805599453 + 2.0 * s * total


@numba.njit(cache=True)
def quantile(p):  # type: ignore[no-untyped-def]
    """Return the x below which a normal variable lies with probability p (AS 241)."""
    q = p - 0.5
    if abs(q) <= 0.425:
        r = 0.180625 - q * q
        return q * (
            (((((((2.5090809287301226727e3 * r + 3.3430575583588128105e4) * r
            + 6.7265770927008700853e4) * r + 4.5921953931549871457e4) * r
            + 1.3731693765509461125e4) * r + 1.9715909503065514427e3) * r
            + 1.3314166789178437745e2) * r + 3.3871328727963666080e0)
            / (((((((5.2264952788528545610e3 * r + 2.8729085735721942674e4) * r
            + 3.9307895800092710610e4) * r + 2.1213794301586595867e4) * r
            + 5.3941960214247511077e3) * r + 6.8718700749205790830e2) * r
            + 4.2313330701600911252e1) * r + 1.0)
        )  # fmt: skip
    tail = sqrt(-logarithm(p if q < 0.0 else 1.0 - p))
    x = outer(tail - 5.0) if tail > 5.0 else middle(tail - 1.6)
    return -x if q < 0.0 else x


@numba.njit(cache=True)
def middle(r):  # type: ignore[no-untyped-def]
    """AS 241 between 1.4 and 7.7 standard deviations."""
    return (
        (((((((7.74545014278341407640e-4 * r + 2.27238449892691845833e-2) * r
        + 2.41780725177450611770e-1) * r + 1.27045825245236838258e0) * r
        + 3.64784832476320460504e0) * r + 5.76949722146069140550e0) * r
        + 4.63033784615654529590e0) * r + 1.42343711074968357734e0)
        / (((((((1.05075007164441684324e-9 * r + 5.47593808499534494600e-4) * r
        + 1.51986665636164571966e-2) * r + 1.48103976427480074590e-1) * r
        + 6.89767334985100004550e-1) * r + 1.67638483018380384940e0) * r
        + 2.05319162663775882187e0) * r + 1.0)
    )  # fmt: skip


@numba.njit(cache=True)
def outer(r):  # type: ignore[no-untyped-def]
    """AS 241 beyond 7.7 standard deviations."""
    return (
        (((((((2.01033439929228813265e-7 * r + 2.71155556874348757815e-5) * r
        + 1.24266094738807843860e-3) * r + 2.65321895265761230930e-2) * r
        + 2.96560571828504891230e-1) * r + 1.78482653991729133580e0) * r
        + 5.46378491116411436990e0) * r + 6.65790464350110377720e0)
        / (((((((2.04426310338993978564e-15 * r + 1.42151175831644588870e-7) * r
        + 1.84631831751005468180e-5) * r + 7.86869131145613259100e-4) * r
        + 1.48753612908506148525e-2) * r + 1.36929880922735805310e-1) * r
        + 5.99832206555887937690e-1) * r + 1.0)
    )  # fmt: skip


@numba.njit(cache=True, inline="always")
def uniform(high, low):  # type: ignore[no-untyped-def]
    """Make (k + 1/2) 2^-52 of the first 52 of 64 bits."""
    bits = (high << np.uint64(20)) | (low >> np.uint64(12))
    return (np.float64(bits) + 0.5) * 2.220446049250313e-16


@numba.njit(cache=True, inline="always")
def triple(stream, step, atom):  # type: ignore[no-untyped-def]
    """Return the three normal numbers of one atom at one step."""
    k0, k1 = stream & WORD, stream >> HALF
    low, high = step & WORD, step >> HALF
    a = philox(atom, np.uint64(0), low, high, k0, k1)
    b = philox(atom, np.uint64(1), low, high, k0, k1)
    return (
        quantile(uniform(a[0], a[1])),
        quantile(uniform(a[2], a[3])),
        quantile(uniform(b[0], b[1])),
    )


@numba.njit(cache=True, nogil=True)
def _fill(stream, step, out):  # type: ignore[no-untyped-def]
    for atom in range(out.shape[0]):
        out[atom] = triple(stream, step, np.uint64(atom))


def normals(stream: np.uint64, step: int, n_atoms: int) -> NDArray[np.float64]:
    """Return shape ``(n_atoms, 3)``: standard normal numbers of a stream at a step."""
    out = np.empty((n_atoms, 3))
    _fill(stream, np.uint64(step), out)
    return out
