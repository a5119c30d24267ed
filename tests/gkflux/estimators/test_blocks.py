"""Errors from independent stretches of data."""

import numpy as np
import pytest

from gkflux.estimators.blocks import block_values, excess, log_estimate, z_halves
from gkflux.estimators.estimate import Estimate, mean_estimate


def test_block_values_are_read_at_the_common_cut() -> None:
    curves = [np.arange(100.0), 2 * np.arange(100.0), np.full(100, np.nan)]
    values = block_values(curves, index=40.25, window=1)
    np.testing.assert_allclose(values, [40.25, 80.5])


def test_mean_of_independent_values_covers() -> None:
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(500):
        low, high = mean_estimate("blocks", 2 + generator.normal(size=5)).interval(0.95)
        hits += low <= 2 <= high
    assert 0.92 < hits / 500 < 0.975


def test_geometric_mean_covers_with_unequal_weights() -> None:
    generator = np.random.default_rng(1)
    weights = np.array([1.0, 1, 1, 1, 2, 2, 3, 3])
    hits = 0
    for _ in range(500):
        logs = np.log(3) + 0.1 * generator.normal(size=8) / np.sqrt(weights)
        low, high = log_estimate("segments", logs, weights, 1.0).interval(0.95)
        hits += low <= 3 <= high
    assert 0.92 < hits / 500 < 0.98


def test_excess_trips_by_chance_once_in_a_hundred() -> None:
    generator = np.random.default_rng(2)
    claimed = Estimate("cepstral", 1.0, 1 / np.sqrt(10))
    trips = [
        excess(mean_estimate("blocks", generator.normal(size=10)), claimed)
        for _ in range(2000)
    ]
    assert np.mean(trips) == pytest.approx(0.01, abs=0.007)
    assert excess(Estimate("blocks", 1.0, 1.0, dof=9), claimed)
    assert not excess(Estimate("blocks", 1.0, float("nan"), dof=9), claimed)


def test_halves() -> None:
    assert abs(z_halves(np.array([1.0, 2, 1, 2, 2, 1, 2, 1]))) < 1
    assert z_halves(np.array([1.0, 1.1, 0.9, 1, 5.0, 5.1, 4.9, 5])) > 10
    assert np.isnan(z_halves(np.array([1.0, 2.0])))
