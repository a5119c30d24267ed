"""What is read off the first pass."""

import numpy as np
import pytest

from gkflux.correlate import Float
from gkflux.plan import Settings, correlation_time, plan
from gkflux.runs import array_run
from gkflux.spectrum import Spectrum
from gkflux.survey import survey_all

FREQUENCY = np.arange(2049) * 1e3 / 4096 / 2.0  # THz, samples 2 fs apart


def of(density: Float) -> Spectrum:
    matrix = density[:, None, None] * np.eye(3) * 100
    return Spectrum(4096, 2.0, 100, 0, matrix.astype(complex))


@pytest.mark.parametrize("tau", [20.0, 100.0])
def test_the_time_of_an_exponential_is_its_own(tau: float) -> None:
    density = 1 / (1 + (2 * np.pi * FREQUENCY * 1e-3 * tau) ** 2)
    assert correlation_time(density, FREQUENCY) == pytest.approx(tau, rel=0.02)


def test_the_time_of_white_noise_is_half_a_sample() -> None:
    assert correlation_time(np.ones(2049), FREQUENCY) == pytest.approx(1.0)


def test_a_band_sets_f_star_and_filter() -> None:
    density = 0.1 + 10 * np.exp(-(((FREQUENCY - 10) / 2) ** 2))
    density[FREQUENCY > 25] = 1e-4
    chosen = plan([100_000], 2.0, of(density), Settings())
    assert 500 / (2.0 * chosen.skip) >= 14  # nothing of the band is cut off
    assert chosen.skip >= 8
    assert chosen.filter_window * 2.0 == pytest.approx(100, rel=0.1)  # one period of 10 THz
    assert chosen.skip in chosen.skips
    assert all(length % 2 == 0 for length in chosen.lengths)
    assert chosen.window <= 25_000


def test_wishes_come_first() -> None:
    density = 1 / (1 + FREQUENCY**2)
    wishes = Settings(fstar=50.0, lag=3000.0, filter_time=200.0)
    chosen = plan([100_000], 2.0, of(density), wishes)
    assert (chosen.skip, chosen.skips) == (5, (5,))
    assert (chosen.window, chosen.filter_window) == (1500, 100)


def test_pieces_are_found_whatever_the_chunks() -> None:
    values = np.random.default_rng(0).normal(size=(200_000, 3)) + 5.0
    values[[70_000, 70_001, 131_072]] = np.nan
    run = array_run(values, timestep=1.0, volume=1.0, temperature=300.0)
    (found,), spectrum = survey_all([run])
    assert found.pieces == ((0, 70_000), (70_002, 131_072), (131_073, 200_000))
    assert found.bad == 3
    assert found.samples == 199_997
    assert found.total("flux_0").mean == pytest.approx(np.nanmean(values[:, 0]), rel=1e-12)
    grid = range(0, 200_000 - 4095, 4096)
    holes = (70_000, 70_001, 131_072)
    free = [a for a in grid if not any(a <= hole < a + 4096 for hole in holes)]
    assert spectrum.segments == len(free)
    assert spectrum.matrix[-1, 0, 0].real / spectrum.segments == pytest.approx(
        1 / 300.0**2, rel=0.5
    )
