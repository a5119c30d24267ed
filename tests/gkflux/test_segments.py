"""Spectra of pieces, whatever the cuts."""

import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gkflux.correlate import Float
from gkflux.segments import Layout, SegmentLeaf, SegmentState, merge_segments

SERIES: Float = np.random.default_rng(5).normal(size=(400, 2)).cumsum(axis=0)


def leaf(layout: Layout, start: int, stop: int, pieces: int = 3) -> SegmentState:
    found = SegmentLeaf(layout, start, stop)
    for rows in np.array_split(SERIES[start:stop], pieces):
        found.update(rows)
    return found.state()


def direct(layout: Layout) -> tuple[Float, Float]:
    """Sum of the densities of all whole segments, and powers of groups, by definition."""
    means = SERIES[: len(SERIES) // layout.skip * layout.skip]
    means = means.reshape(-1, layout.skip, 2).mean(axis=1)
    count = len(means) // layout.length
    rows = means[: count * layout.length].reshape(count, layout.length, 2)
    amplitudes = np.fft.rfft(rows, axis=1)
    step = layout.spacing * layout.skip / layout.length
    matrix = step * np.einsum("ska,skb->kab", amplitudes, amplitudes.conj())
    power = step * (np.abs(amplitudes) ** 2).sum(axis=2)
    every = layout.group_every
    groups = [power[k : k + every].sum(axis=0) for k in range(0, count, every)]
    return matrix, np.array(groups)


@given(
    cuts=st.lists(st.integers(0, 400), max_size=12),
    order=st.randoms(use_true_random=False),
    length=st.sampled_from([6, 7, 16, 40, 401]),
    skip=st.sampled_from([1, 2, 5]),
    every=st.sampled_from([1, 3, 100]),
)
def test_any_cuts_merged_in_any_tree_are_one_shot(
    cuts: list[int], order: random.Random, length: int, skip: int, every: int
) -> None:
    layout = Layout(length, skip, 2.0, 2, every)
    edges = [0, *sorted(cuts), 400]
    states = [leaf(layout, a, b) for a, b in pairwise(edges)]
    while len(states) > 1:
        at = order.randint(0, len(states) - 2)
        states[at : at + 2] = [merge_segments(states[at], states[at + 1])]
    found = states[0].finalize()
    matrix, groups = direct(layout)
    count = 400 // skip // length
    assert found.segments == count
    assert found.dropped == 400 // skip - count * length
    scale = np.abs(matrix).max(initial=1.0)
    np.testing.assert_allclose(found.matrix, matrix, atol=1e-12 * scale)
    assert len(found.groups) == len(groups)
    if count:
        np.testing.assert_allclose(found.groups, groups, atol=1e-12 * scale)
        assert found.group_segments.sum() == count
        assert found.group_numbers.tolist() == [*range(len(groups))]


def test_what_does_not_follow_is_refused() -> None:
    layout = Layout(16, 1, 2.0, 2)
    with pytest.raises(ValueError, match="up to 100 and from 101"):
        merge_segments(leaf(layout, 0, 100), leaf(layout, 101, 200))
    with pytest.raises(ValueError, match="different segments"):
        merge_segments(leaf(layout, 0, 100), leaf(Layout(8, 1, 2.0, 2), 100, 200))
