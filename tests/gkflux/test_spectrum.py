"""Segment spectra against periodograms written out, block means, and merging."""

import numpy as np
import pytest

from gkflux.correlate import Float
from gkflux.spectrum import Decimator, Spectrum, SpectrumAccumulator, segment_length


def noise(count: int, channels: int = 3, seed: int = 0) -> Float:
    return np.random.default_rng(seed).normal(size=(count, channels)).cumsum(axis=1)


def feed(accumulator: SpectrumAccumulator, samples: Float, seed: int = 0) -> Spectrum:
    cuts = np.sort(np.random.default_rng(seed).integers(0, len(samples), 13))
    for part in np.split(samples, cuts):
        accumulator.update(part)
    return accumulator.state()


@pytest.mark.parametrize("length", [64, 65, 66, 67])
@pytest.mark.parametrize("skip", [1, 3])
def test_sum_over_segments_is_the_sum_of_periodograms(length: int, skip: int) -> None:
    samples, timestep = noise(1000), 2.5
    found = feed(SpectrumAccumulator(length, 3, timestep, skip), samples)
    means = samples[: 1000 // skip * skip].reshape(-1, skip, 3).mean(axis=1)
    segments = len(means) // length
    expected = np.zeros((length // 2 + 1, 3, 3), complex)
    for segment in means[: segments * length].reshape(segments, length, 3):
        phases = np.exp(
            -2j * np.pi * np.outer(np.arange(length // 2 + 1), np.arange(length)) / length
        )
        amplitude = phases @ segment
        expected += (
            amplitude[:, :, None] * amplitude[:, None, :].conj() * timestep * skip / length
        )
    assert found.segments == segments
    assert found.dropped == len(means) - segments * length
    np.testing.assert_allclose(found.matrix, expected, rtol=1e-9, atol=1e-8)
    assert found.nyquist == pytest.approx(500 / (timestep * skip))
    assert found.frequency[1] == pytest.approx(1000 / (length * timestep * skip))


def test_white_noise_has_the_density_of_its_variance() -> None:
    found = feed(
        SpectrumAccumulator(128, 1, 4.0), np.random.default_rng(1).normal(size=(64_000, 1))
    )
    assert found.power.mean() == pytest.approx(4.0, rel=0.02)


def test_runs_add_in_any_order_and_groups_add_up_to_the_whole() -> None:
    first = feed(SpectrumAccumulator(50, 2, 1.0, 1, group_every=3), noise(1000, 2))
    second = feed(SpectrumAccumulator(50, 2, 1.0, 1, group_every=3), noise(720, 2, 1))
    both, other = first.merge(second), second.merge(first)
    np.testing.assert_allclose(both.matrix, other.matrix)
    assert both.segments == 34
    assert both.dropped == 20
    assert both.group_segments.sum() == 34
    np.testing.assert_allclose(
        both.groups.sum(axis=0), np.einsum("kaa->k", both.matrix).real, rtol=1e-12
    )
    np.testing.assert_allclose(both.scaled(3).matrix, 9 * both.matrix)


def test_spectra_of_other_segments_do_not_add() -> None:
    first = SpectrumAccumulator(50, 1, 1.0).state()
    with pytest.raises(ValueError, match="50 and 52 samples"):
        first.merge(SpectrumAccumulator(52, 1, 1.0).state())


def test_block_means_do_not_depend_on_the_cuts() -> None:
    samples = noise(101)
    decimator = Decimator(7, 3)
    parts = [
        decimator.update(samples[a:b]) for a, b in [(0, 3), (3, 3), (3, 40), (40, 101)]
    ]
    np.testing.assert_allclose(
        np.concatenate(parts), samples[:98].reshape(-1, 7, 3).mean(axis=1), rtol=1e-12
    )


@pytest.mark.parametrize(
    ("lengths", "minimum"), [([10_000], 2048), ([5000, 5000, 7000], 2048), ([300], 2048)]
)
def test_segments_waste_little(lengths: list[int], minimum: int) -> None:
    chosen = segment_length(lengths, minimum)
    assert chosen <= max(lengths)
    assert chosen >= min(minimum, max(lengths)) - 1
    used = sum(n // chosen * chosen for n in lengths)
    assert used >= 0.8 * sum(n for n in lengths if n >= chosen)
