"""The lag monoid against brute force, and merging against one shot."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gkflux.correlate import (
    Float,
    LagAccumulator,
    LagState,
    PooledLags,
    merge,
    merge_all,
)


def brute(samples: Float, window: int) -> Float:
    count = len(samples)
    sums = np.zeros((window + 1, samples.shape[1], samples.shape[1]))
    for lag in range(min(window + 1, count)):
        sums[lag] = samples[lag:].T @ samples[: count - lag]
    return sums


def coloured(count: int, channels: int = 3, seed: int = 0) -> Float:
    """Correlated samples with a mean and channels that depend on each other."""
    noise = np.random.default_rng(seed).normal(size=(count, channels))
    series = 0.1 * noise.cumsum(axis=0) + noise + 0.5
    series[:, 0] += 0.5 * series[:, -1]
    return np.asarray(series, dtype=np.float64)


def ragged(samples: Float, pieces: int, seed: int) -> list[Float]:
    generator = np.random.default_rng(seed)
    cuts = np.sort(generator.integers(0, len(samples) + 1, pieces - 1))
    return np.split(samples, cuts)


def random_tree(states: list[LagState], seed: int) -> LagState:
    generator = np.random.default_rng(seed)
    level = list(states)
    while len(level) > 1:
        at = int(generator.integers(len(level) - 1))
        level[at : at + 2] = [merge(level[at], level[at + 1])]
    return level[0]


def worst(found: Float, expected: Float) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize(
    ("count", "window"),
    [(1, 0), (5, 0), (20, 30), (500, 499), (9000, 200), (8192, 64), (20_000, 9_000)],
)
def test_a_leaf_is_the_sum_over_pairs(count: int, window: int) -> None:
    samples = coloured(count)
    assert worst(LagState.of(samples, window).sums, brute(samples, window)) < 1e-13


def test_leaf_fed_in_pieces_of_any_size() -> None:
    samples = coloured(30_000)
    leaf = LagAccumulator(700, 3)
    for part in ragged(samples, 57, seed=1):
        leaf.update(part)
        leaf.state()  # looking at it changes nothing
    whole = LagState.of(samples, 700)
    assert worst(leaf.state().sums, whole.sums) < 1e-14
    np.testing.assert_array_equal(leaf.state().head, samples[:700])
    np.testing.assert_array_equal(leaf.state().tail, samples[-700:])


@pytest.mark.parametrize("seed", range(3))
def test_301_ragged_pieces_in_a_random_tree_are_one_shot(seed: int) -> None:
    samples, window = coloured(40_000, seed=seed), 1000
    states = [LagState.of(part, window) for part in ragged(samples, 301, seed)]
    merged, whole = random_tree(states, seed), LagState.of(samples, window)
    assert merged.count == whole.count
    assert worst(merged.sums, whole.sums) < 1e-13
    assert worst(merge_all(states).sums, whole.sums) < 1e-13
    np.testing.assert_array_equal(merged.head, whole.head)
    np.testing.assert_array_equal(merged.tail, whole.tail)


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(1, 300),
    window=st.integers(0, 120),
    pieces=st.integers(1, 12),
    seed=st.integers(0, 10_000),
)
def test_merging_any_pieces_is_exact(
    count: int, window: int, pieces: int, seed: int
) -> None:
    samples = coloured(count, 2, seed)
    states = [LagState.of(part, window) for part in ragged(samples, pieces, seed)]
    merged = random_tree(states, seed)
    assert worst(merged.sums, brute(samples, window)) < 1e-13
    late, early = merged.edge_sums()
    for lag in {0, min(window, count - 1), window}:
        np.testing.assert_allclose(late[lag], samples[lag:].sum(axis=0), atol=1e-10)
        kept = samples[: max(0, count - lag)]
        np.testing.assert_allclose(early[lag], kept.sum(axis=0), atol=1e-10)


def test_the_seams_matter() -> None:
    samples, window = coloured(40_000), 1000
    states = [LagState.of(part, window) for part in np.split(samples, 32)]
    without = np.sum([state.sums for state in states], axis=0)
    assert worst(without, brute(samples, window)) > 1e-3


def test_merging_is_not_commutative_and_refuses_other_windows() -> None:
    first, second = LagState.of(coloured(50), 10), LagState.of(coloured(50, seed=1), 10)
    assert worst(merge(first, second).sums, merge(second, first).sums) > 1e-3
    with pytest.raises(ValueError, match="10 and 11 lags"):
        merge(first, LagState.empty(11, 3))


def test_the_empty_state_is_the_identity() -> None:
    state = LagState.of(coloured(50), 10)
    for merged in (
        merge(LagState.empty(10, 3), state),
        merge(state, LagState.empty(10, 3)),
    ):
        np.testing.assert_array_equal(merged.sums, state.sums)


@pytest.mark.parametrize("biased", [False, True])
def test_runs_pool_and_the_mean_is_removed_exactly(biased: bool) -> None:
    runs, scales, window = [coloured(900), coloured(700, seed=3) + 2], (0.7, 1.3), 800
    first, second = (
        PooledLags.of(LagState.of(run, window)).scaled(scale)
        for run, scale in zip(runs, scales, strict=True)
    )
    pool = first.merge(second)
    scaled = [run * scale for run, scale in zip(runs, scales, strict=True)]
    mean = np.concatenate(scaled).mean(axis=0)
    np.testing.assert_allclose(pool.mean, mean, rtol=1e-12)
    sums = np.sum([brute(run - mean, window) for run in scaled], axis=0)
    pairs = np.sum(
        [np.maximum(0, len(run) - np.arange(window + 1)) for run in runs], axis=0
    )
    counts = np.full(window + 1, 1600) if biased else pairs
    assert worst(pool.finalize(biased=biased), sums / counts[:, None, None]) < 1e-12


def test_lags_beyond_the_data_are_nan() -> None:
    pool = PooledLags.of(LagState.of(coloured(10, 1), 20))
    autocorrelation = pool.finalize()[:, 0, 0]
    assert np.isfinite(autocorrelation[:10]).all()
    assert np.isnan(autocorrelation[10:]).all()


def test_samples_of_the_wrong_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected \(k, 3\)"):
        LagAccumulator(10, 3).update(np.zeros((5, 2)))
