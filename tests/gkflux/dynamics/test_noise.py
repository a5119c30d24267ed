"""The noise: known answers, distribution, and dependence on its address alone."""

import numpy as np
import pytest
from scipy import special, stats

from gkflux.dynamics import noise

FROZEN = [
    "-0x1.05a5db17c41ebp-3",
    "-0x1.65ca6fdb4870ep-1",
    "0x1.5cf5651325e94p+0",
    "0x1.3c1613b0d2ad5p-1",
    "-0x1.2bd8c173676fbp-1",
    "-0x1.05cff36522763p-3",
]


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ((2**32 - 1,) * 4, (2**32 - 1,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_known_answers_of_random123(
    counter: tuple[int, ...], key: tuple[int, ...], expected: str
) -> None:
    words = noise.philox(*(np.uint64(c) for c in counter), *(np.uint64(k) for k in key))
    assert " ".join(f"{int(word):08x}" for word in words) == expected


def test_quantile_is_the_inverse_of_the_normal_distribution() -> None:
    p = np.concatenate([np.linspace(1e-9, 1 - 1e-9, 4001), 10.0 ** -np.arange(2, 16)])
    mine = np.array([noise.quantile(x) for x in p])
    np.testing.assert_allclose(mine, special.ndtri(p), rtol=1e-14, atol=1e-14)


def test_normals_are_normal_and_uncorrelated() -> None:
    stream = noise.key(42, 0, "langevin", 0)
    x = noise.normals(stream, 7, 40_000)
    assert stats.kstest(x.ravel(), "norm").pvalue > 1e-3
    assert np.abs(np.corrcoef(x.T) - np.eye(3)).max() < 5 / np.sqrt(40_000)
    later = noise.normals(stream, 8, 40_000)
    assert abs(np.corrcoef(x.ravel(), later.ravel())[0, 1]) < 5 / np.sqrt(120_000)
    assert abs(np.mean(x**4) - 3) < 5 * np.sqrt(96 / 120_000)


def test_noise_depends_on_its_address_only() -> None:
    stream = noise.key(1, 2, "langevin", 3)
    many = noise.normals(stream, 5, 50)
    np.testing.assert_array_equal(many[:7], noise.normals(stream, 5, 7))
    np.testing.assert_array_equal(many, noise.normals(stream, 5, 50))


def test_every_part_of_the_key_matters() -> None:
    keys = {
        noise.key(seed, stage, purpose, replica)
        for seed in (0, 1)
        for stage in (0, 1)
        for purpose in ("velocities", "langevin")
        for replica in (0, 1)
    }
    assert len(keys) == 16


def test_steps_beyond_32_bits_are_steps_of_their_own() -> None:
    stream = noise.key(0, 0, "langevin", 0)
    low, high = noise.normals(stream, 1, 4), noise.normals(stream, 1 + 2**32, 4)
    assert not np.any(low == high)


def test_the_bits_are_those_of_version_one() -> None:
    """Runs must go on with the same bits after an upgrade, so these may never change."""
    found = noise.normals(noise.key(42, 1, "langevin", 10), 123_456, 2)
    assert [x.hex() for x in found.ravel()] == FROZEN
