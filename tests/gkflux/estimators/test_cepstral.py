"""The cepstral estimate: unbiased for every length, exact at full cut-off."""

import numpy as np
import pytest
from scipy import special

from gkflux.correlate import Float
from gkflux.estimators.cepstral import cepstrum, schur_power

LENGTHS = [64, 65, 66, 67]


def draw(length: int, dof: int, generator: np.random.Generator) -> Float:
    """Draw the mean of `dof` periodograms of white noise of unit density."""
    series = generator.normal(size=(dof, length))
    power: Float = (np.abs(np.fft.rfft(series, axis=1)) ** 2).mean(axis=0) / length
    return power


@pytest.mark.parametrize("length", LENGTHS)
def test_log_zero_is_unbiased_with_the_variance_it_claims(length: int) -> None:
    generator, dof, cutoff = np.random.default_rng(length), 3, 5
    found = [
        cepstrum(draw(length, dof, generator), dof=dof, length=length, cutoff=cutoff)
        for _ in range(3000)
    ]
    z = np.array([one.log_zero() for one in found]) / found[0].log_zero_std()
    assert abs(z.mean()) < 4 / np.sqrt(len(z))
    assert z.std() == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("length", LENGTHS)
def test_all_coefficients_give_back_the_spectrum(length: int) -> None:
    power = draw(length, 4, np.random.default_rng(1))
    full = cepstrum(
        power, dof=1e9, length=length, cutoff=length // 2
    )  # no bias to take off
    np.testing.assert_allclose(full.smooth(), power, rtol=1e-7)


@pytest.mark.parametrize("length", LENGTHS)
def test_a_smooth_spectrum_comes_back_with_few_coefficients(length: int) -> None:
    angle = 2 * np.pi * np.arange(length // 2 + 1) / length
    power = np.exp(1.0 + 0.6 * np.cos(angle) - 0.2 * np.cos(2 * angle))
    found = cepstrum(power, dof=1e9, length=length, cutoff=2)
    np.testing.assert_allclose(found.smooth(), power, rtol=1e-7)
    assert found.zero == pytest.approx(np.exp(1.4), rel=1e-7)


def test_more_coefficients_than_those_of_aic() -> None:
    angle = np.linspace(0, np.pi, 2049)
    generator = np.random.default_rng(3)
    noise = generator.gamma(6, 1 / 6, size=2049)
    power = noise / (1.1 - np.cos(angle))
    plain = cepstrum(power, dof=6, length=4096, factor=1.0)
    more = cepstrum(power, dof=6, length=4096)
    assert plain.cutoff == plain.cutoff_aic == int(np.argmin(plain.aic)) > 0
    assert more.cutoff == 3 * plain.cutoff
    assert more.log_zero_std() > plain.log_zero_std()
    assert plain.log_zero_error() == plain.log_zero_std()


@pytest.mark.parametrize("cusp", [False, True])
def test_what_still_changes_with_the_cut_off_is_in_the_error(cusp: bool) -> None:
    """A smooth spectrum has converged at K_AIC, one with a cusp never does."""
    angle = np.linspace(0, np.pi, 2049)
    power = np.exp(3 * np.sqrt(np.sin(angle / 2))) if cusp else 1.1 - np.cos(angle)
    noise = np.random.default_rng(3).gamma(6, 1 / 6, size=(300, 2049))
    noise[:, [0, -1]] = np.random.default_rng(4).gamma(3, 1 / 3, size=(300, 2))
    found = [cepstrum(each / power, dof=6, length=4096) for each in noise]
    ratios = np.array([one.log_zero_error() / one.log_zero_std() for one in found])
    assert (ratios >= 1).all()
    shares = [one.log_zeros[one.cutoff] - one.log_zeros[one.cutoff_aic] for one in found]
    for one, change in zip(found, shares, strict=True):
        low, high = one.log_zero_std(one.cutoff_aic), one.log_zero_std()
        left = max(0.0, change**2 - (high**2 - low**2))
        assert one.log_zero_error() == pytest.approx(np.sqrt(high**2 + left), rel=1e-12)
    widened = float(np.mean(ratios > 1.2))
    assert widened > 0.4 if cusp else widened < 0.25


def test_scale_and_unit_pass_through() -> None:
    power = draw(128, 3, np.random.default_rng(0))
    one = cepstrum(power, dof=3, length=128)
    other = cepstrum(7.5 * power, dof=3, length=128)
    assert other.zero == pytest.approx(7.5 * one.zero, rel=1e-12)


def test_a_removed_mean_is_refused() -> None:
    power = draw(64, 3, np.random.default_rng(0))
    power[0] = 0.0
    with pytest.raises(ValueError, match="no power at bin 0"):
        cepstrum(power, dof=3, length=64)
    with pytest.raises(ValueError, match="33 bins"):
        cepstrum(power, dof=3, length=66)


def test_currents_that_explain_part_of_the_flux_are_projected_out() -> None:
    generator, count = np.random.default_rng(4), 40_000
    mass = generator.normal(size=count)
    heat = generator.normal(size=count) + 2.0 * mass
    segments = np.stack([heat, mass], axis=1).reshape(-1, 100, 2)
    amplitude = np.fft.rfft(segments, axis=1)
    matrix = np.einsum("ska,skb->kab", amplitude, amplitude.conj()) / 100
    power, dof = schur_power(matrix, len(segments))
    assert dof == len(segments) - 1
    assert power.mean() == pytest.approx(1.0, rel=0.02)
    with pytest.raises(ValueError, match="2 currents need"):
        schur_power(matrix, 1)


@pytest.mark.parametrize("length", LENGTHS)
def test_only_even_segments_have_a_nyquist_bin(length: int) -> None:
    """Zero and Nyquist frequency have half of the degrees of freedom; nothing else has."""
    dof = 3.0
    bins = range(length // 2 + 1)
    shape = np.array([dof / 2 if 2 * k in (0, length) else dof for k in bins])
    found = cepstrum(np.exp(special.psi(shape)) / shape, dof=dof, length=length)
    np.testing.assert_allclose(found.coefficients, 0, atol=1e-14)


@pytest.mark.parametrize("length", LENGTHS)
def test_the_criterion_knows_the_variance_of_each_coefficient(length: int) -> None:
    dof, power = 3.0, np.random.default_rng(length).gamma(3.0, size=length // 2 + 1)
    found = cepstrum(power, dof=dof, length=length)
    count = len(found.coefficients)
    single = special.polygamma(1, dof) / length
    for k in range(count):
        beyond = sum(
            found.coefficients[n] ** 2 / (single * (2 if 2 * n == length else 1))
            for n in range(k + 1, count)
        )
        assert found.aic[k] == pytest.approx(beyond + 2 * (k + 1), rel=1e-12)
