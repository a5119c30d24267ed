"""The first dip, and two programs whose numbers it must give."""

import bz2
from pathlib import Path

import numpy as np
import pytest

from gkflux.correlate import LagState, PooledLags
from gkflux.estimators.first_dip import cumulative, find_dip, hann, smooth, vibes


def test_integral_of_an_exponential() -> None:
    time = np.arange(4000) * 0.5
    integral = cumulative(np.exp(-time / 100), 0.5)
    assert integral[0] == 0.0
    np.testing.assert_allclose(
        integral, 100 * (1 - np.exp(-time / 100)), rtol=1e-5, atol=1e-5
    )


def test_filter_leaves_straight_lines_alone() -> None:
    line = 0.3 * (np.arange(200.0) + 0.5)
    np.testing.assert_allclose(smooth(line, 21), line, rtol=1e-10)


def test_a_damped_oscillation_on_a_decay_is_cut_after_the_decay() -> None:
    time = np.arange(5000.0)
    curve = np.exp(-time / 50) + 5 * np.exp(-time / 80) * np.cos(2 * np.pi * time / 30)
    curve -= 1e-3  # noise would do the same: the tail lies below zero
    found = find_dip(cumulative(curve, 1.0), spacing=1.0, window=30)
    assert 200 < found.time < 500
    assert found.value == pytest.approx(50, rel=0.05)


def test_no_dip_is_nan_not_zero() -> None:
    found = find_dip(
        cumulative(np.exp(-np.arange(500) / 300.0), 1.0), spacing=1.0, window=20
    )
    assert found.index == -1
    assert np.isnan(found.value)


def test_fhi_vibes_digit_for_digit(shared_data: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(shared_data / "vibes" / "ar108.nc") as file:
        flux, time = file["heat_flux"][:], file["time"][:]
    with h5py.File(shared_data / "vibes" / "ar108-greenkubo.nc") as file:
        prefactor = float(file.attrs["gk_prefactor"][0])
        window_fs = float(file.attrs["gk_window_fs"][0])
        kappa, cut = file["kappa"][:], file["cutoff_time"][:]
        curves = file["heat_flux_autocorrelation_cumtrapz_filtered"][:]
    spacing, count = float(time[1] - time[0]), len(flux)
    pool = PooledLags.of(LagState.of(flux, count - 1))
    tapered = prefactor * pool.finalize(biased=True) * hann(count)[:, None, None]
    found = vibes(
        cumulative(tapered, spacing), spacing=spacing, window=int(window_fs / spacing)
    )
    assert window_fs == pytest.approx(925.2302, abs=1e-4)
    np.testing.assert_allclose(found.kappa, kappa, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(found.curves, curves, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.cut, cut, rtol=1e-12)
    np.testing.assert_allclose(
        np.diag(found.kappa), [0.07137451, 0.00620223, 0.06613464], atol=5e-9
    )
    assert np.diag(found.cut).tolist() == [950.0, 1050.0, 700.0]


def test_lammps_running_integral(shared_data: Path) -> None:
    folder = shared_data / "vibes"
    flux = _column(folder / "lammps-ar-flux.csv.bz2", 1)
    reference = _column(folder / "lammps-ar-kappa.csv.bz2", 1)
    every, lags = 10, 200  # fix ave/correlate: Nevery, Nrepeat
    ratios = []
    for row in range(1, 51):
        samples = flux[: row * 2000 + 1 : every]
        pool = PooledLags.of(LagState.of(samples[:, None], lags - 1))
        autocorrelation = pool.finalize(mean=np.zeros(1))[:, 0, 0]
        ratios.append(cumulative(autocorrelation, 1.0)[-1] / reference[row])
    assert reference[50] == pytest.approx(0.31068514)
    np.testing.assert_allclose(ratios, np.mean(ratios), rtol=1e-6)


def _column(path: Path, column: int) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    rows = bz2.decompress(path.read_bytes()).decode().splitlines()[1:]
    return np.array([float(row.split(",")[column]) for row in rows])
