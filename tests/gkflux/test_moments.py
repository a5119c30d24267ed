"""Moments against numpy, merging, and drift."""

import numpy as np
import pytest

from gkflux.moments import Moments, drift


def test_merged_moments_are_those_of_everything() -> None:
    values = np.random.default_rng(0).normal(size=1000) * 1e-3 - 1e5  # a total energy
    merged = Moments()
    for part in np.split(values, [0, 1, 10, 500]):
        merged = merged.merge(Moments.of(part))
    assert merged.count == 1000
    assert merged.mean == pytest.approx(values.mean(), rel=1e-15)
    assert merged.variance == pytest.approx(values.var(ddof=1), rel=1e-6)
    assert (merged.low, merged.high) == (values.min(), values.max())


def test_samples_that_are_not_finite_are_left_out() -> None:
    found = Moments.of(np.array([1.0, np.nan, 3.0, np.inf]))
    assert (found.count, found.mean) == (2, 2.0)


def test_drift_finds_a_slope_with_an_error_that_covers_it() -> None:
    generator = np.random.default_rng(1)
    times = 10.0 * np.arange(32, dtype=np.float64)
    z = []
    for _ in range(300):
        blocks = [Moments.of(300 + 0.01 * t + generator.normal(size=50)) for t in times]
        found = drift(blocks, times)
        z.append((found.slope - 0.01) / found.slope_std)
    assert abs(np.mean(z)) < 0.2
    assert 0.85 < np.std(z) < 1.2
    assert found.change == pytest.approx(found.slope * 310)


def test_too_few_blocks_give_no_drift() -> None:
    assert np.isnan(
        drift([Moments.of(np.ones(3))] * 3, np.arange(3, dtype=np.float64)).slope
    )
