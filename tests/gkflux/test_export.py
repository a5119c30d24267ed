"""What other programs read: against their own definitions, and their own files."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import netcdf_file
from scipy.signal import lfilter

import gkflux
from gkflux.conductivity import prefactor
from gkflux.correlate import Float
from gkflux.export import stacie_spectrum

T, V = 300.0, 1000.0


def flux(count: int, tau: float) -> Float:
    a = np.exp(-1 / tau)
    noise = np.random.default_rng(1).normal(size=(count + 500, 3)) * np.sqrt(2) * (1 - a)
    return np.asarray(lfilter([1.0], [1, -a], noise, axis=0))[500:]


@pytest.mark.parametrize("count", [6000, 6001, 8193])
def test_the_spectrum_is_what_stacie_computes(count: int) -> None:
    """Its formula, written out: F h / (N M) sum |X|², F = 1/(2 kB T² V) included."""
    series = flux(count, 5.0)
    found = gkflux.kappa(series, timestep=2.0, volume=V, temperature=T, fstar=250.0)
    given = stacie_spectrum(found)
    length = given["nstep"]
    assert found.settings["decimation"] == 1
    segments = [
        series[start : start + length, a]
        for start in range(0, count - length + 1, length)
        for a in range(3)
    ]
    h, factor = 2.0, prefactor(T, V) / 2
    powers = [np.abs(np.fft.rfft(one)) ** 2 for one in segments]
    expected = factor * h / length * np.mean(powers, axis=0)
    np.testing.assert_allclose(given["amplitudes"], expected, rtol=1e-10)
    np.testing.assert_allclose(given["freqs"], np.fft.rfftfreq(length, d=h), atol=1e-15)
    dofs = np.full(length // 2 + 1, 2 * len(segments))
    dofs[0] = len(segments)
    if length % 2 == 0:
        dofs[-1] = len(segments)
    np.testing.assert_array_equal(given["ndofs"], dofs)
    squares = np.mean([np.mean(one**2) for one in segments])
    assert given["variance"] == pytest.approx(factor * squares, rel=1e-10)
    assert given["timestep"] == h


def test_an_archive_has_the_arguments_and_nothing_else(tmp_path: Path) -> None:
    found = gkflux.kappa(flux(6000, 5.0), timestep=2.0, volume=V, temperature=T)
    path = found.export(tmp_path / "new" / "gk-stacie.npz", "stacie")
    with np.load(path) as archive:
        names = set(archive.files)
        assert archive["amplitudes"].shape == archive["freqs"].shape
    assert names == {
        *("mean", "variance", "timestep", "nstep", "freqs", "ndofs", "amplitudes")
    }
    with pytest.raises(
        gkflux.FluxError, match="unknown export 'csv'; known: stacie, vibes"
    ):
        found.export(tmp_path / "x", "csv")


@pytest.mark.peer
def test_stacie_reads_it_and_agrees(tmp_path: Path) -> None:
    model = pytest.importorskip("stacie.model")
    from stacie.estimate import estimate_acint
    from stacie.spectrum import Spectrum

    found = gkflux.kappa(flux(60_000, 5.0), timestep=2.0, volume=V, temperature=T)
    with np.load(found.export(tmp_path / "gk.npz", "stacie")) as archive:
        spectrum = Spectrum(**archive)
    theirs = estimate_acint(spectrum, model.ExpPolyModel([0, 2]))
    assert abs(theirs.acint - found.kappa) < 3 * np.hypot(theirs.acint_std, found.kappa_std)


def test_netcdf_has_the_variables_of_fhi_vibes(shared_data: Path, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(shared_data / "vibes" / "ar108.nc") as file:
        volume = float(file["volume"][:].mean())
        temperature = float(file["temperature"][:].mean())
        series = volume * file["heat_flux"][:]
    known: dict[str, Any] = {"timestep": 50.0, "volume": volume, "temperature": temperature}
    found = gkflux.kappa(series, mode="vibes", filter_time=925.2302, **known)
    path = found.export(tmp_path / "gk.nc", "vibes")
    with (
        h5py.File(shared_data / "vibes" / "ar108-greenkubo.nc") as theirs,
        netcdf_file(path, mmap=False) as ours,
    ):
        np.testing.assert_allclose(
            ours.variables["kappa"][:], theirs["kappa"][:], rtol=1e-6
        )
        for name, variable in ours.variables.items():
            assert name in theirs
            assert len(variable.dimensions) == theirs[name].ndim
        # theirs are biased and tapered, which does nothing to the first lag but 1/4000
        name = "heat_flux_autocorrelation"
        np.testing.assert_allclose(
            ours.variables[name][0], theirs[name][0], rtol=1e-3, atol=1e-9
        )
        integral = ours.variables[f"{name}_cumtrapz"][:]
        by_hand = 50.0 * (ours.variables[name][:][:2].sum(axis=0) / 2)
        np.testing.assert_allclose(integral[1], by_hand, rtol=1e-9)
        assert ours.gk_window_fs == pytest.approx(925.23, abs=50)
