"""The noise of `noise.py` on a device: the same bits, many steps at a time.

Every operation is one that IEEE 754 rounds in one way (products and sums are kept apart,
the logarithm is made of them), and words of 32 bits are held in int64, whose products wrap.
So a restart on another device goes on with the same noise.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from gkflux.dynamics.noise import ROUNDS
from gkflux.neighbors_gpu import square_root

__all__ = ["device_normals"]

MULTIPLIER_0, MULTIPLIER_1 = 0xD2511F53, 0xCD9E8D57
WEYL_0, WEYL_1 = 0x9E3779B9, 0xBB67AE85
WORD = 0xFFFFFFFF

# algorithm AS 241, as in noise.py: numerator and denominator, highest power first
CENTRE = (
    (2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4,
     4.5921953931549871457e4, 1.3731693765509461125e4, 1.9715909503065514427e3,
     1.3314166789178437745e2, 3.3871328727963666080e0),
    (5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4,
     2.1213794301586595867e4, 5.3941960214247511077e3, 6.8718700749205790830e2,
     4.2313330701600911252e1, 1.0),
)  # fmt: skip
MIDDLE = (
    (7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1,
     1.27045825245236838258e0, 3.64784832476320460504e0, 5.76949722146069140550e0,
     4.63033784615654529590e0, 1.42343711074968357734e0),
    (1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2,
     1.48103976427480074590e-1, 6.89767334985100004550e-1, 1.67638483018380384940e0,
     2.05319162663775882187e0, 1.0),
)  # fmt: skip
OUTER = (
    (2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3,
     2.65321895265761230930e-2, 2.96560571828504891230e-1, 1.78482653991729133580e0,
     5.46378491116411436990e0, 6.65790464350110377720e0),
    (2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5,
     7.86869131145613259100e-4, 1.48753612908506148525e-2, 1.36929880922735805310e-1,
     5.99832206555887937690e-1, 1.0),
)  # fmt: skip


def device_normals(streams: Tensor, steps: Tensor, n_atoms: int) -> Tensor:
    """Return standard normal numbers, ``(K, R, n_atoms, 3)``, float64.

    Args:
        streams: ``(R,)``, int64: the bits of `noise.key`.
        steps: ``(K,)``, int64.
        n_atoms: of one replica.
    """
    atom = torch.arange(n_atoms, device=streams.device).expand(
        len(steps), len(streams), n_atoms
    )
    step, key = steps[:, None, None], streams[None, :, None]
    counter = (step & WORD, (step >> 32) & WORD)
    keys = (key & WORD, (key >> 32) & WORD)
    a = _philox((atom, torch.zeros_like(atom), *counter), keys)
    b = _philox((atom, torch.ones_like(atom), *counter), keys)
    uniform = [_uniform(a[0], a[1]), _uniform(a[2], a[3]), _uniform(b[0], b[1])]
    return _quantile(torch.stack(uniform, dim=-1))


def _philox(counter: Sequence[Tensor], key: Sequence[Tensor]) -> tuple[Tensor, ...]:
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        p0, p1 = c0 * MULTIPLIER_0, c2 * MULTIPLIER_1
        c0, c1, c2, c3 = (
            ((p1 >> 32) & WORD) ^ c1 ^ k0,
            p1 & WORD,
            ((p0 >> 32) & WORD) ^ c3 ^ k1,
            p0 & WORD,
        )
        k0, k1 = (k0 + WEYL_0) & WORD, (k1 + WEYL_1) & WORD
    return c0, c1, c2, c3


def _uniform(high: Tensor, low: Tensor) -> Tensor:
    return (((high << 20) | (low >> 12)).double() + 0.5) * 2.220446049250313e-16


def _ratio(r: Tensor, polynomials: tuple[tuple[float, ...], tuple[float, ...]]) -> Tensor:
    above, below = (_horner(r, coefficients) for coefficients in polynomials)
    return above / below


def _horner(r: Tensor, coefficients: Sequence[float]) -> Tensor:
    total = torch.full_like(r, coefficients[0])
    for coefficient in coefficients[1:]:
        # two operations: rounded twice, as on the host
        total = total * r
        total = total + coefficient
    return total


def _logarithm(x: Tensor) -> Tensor:
    mantissa, exponent = torch.frexp(x)
    small = mantissa < 0.7071067811865476
    mantissa = torch.where(small, 2.0 * mantissa, mantissa)
    exponent = exponent.double() - small.double()
    s = (mantissa - 1.0) / (mantissa + 1.0)
    series = _horner(s * s, [1.0 / odd for odd in range(23, 0, -2)])
    return exponent * 0.6931471805599453 + 2.0 * s * series


def _quantile(p: Tensor) -> Tensor:
    q = p - 0.5
    near = q * _ratio(0.180625 - q * q, CENTRE)
    tail = square_root(-_logarithm(torch.where(q < 0.0, p, 1.0 - p)))
    far = torch.where(tail > 5.0, _ratio(tail - 5.0, OUTER), _ratio(tail - 1.6, MIDDLE))
    return torch.where(q.abs() <= 0.425, near, torch.where(q < 0.0, -far, far))
