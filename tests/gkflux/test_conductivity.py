"""Thermal conductivity of exact processes, and of two published flux series."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gkflux
from gkflux.conductivity import prefactor
from gkflux.correlate import Float
from stepson.units import ELEMENTARY_CHARGE

T, V = 300.0, 1000.0


def autoregressive(count: int, tau: float, seed: int, zero: float = 2.0) -> Float:
    """Three components with S(0) = zero for unit spacing: their integral is zero / 2."""
    a = np.exp(-1 / tau)
    noise = (
        np.random.default_rng(seed).normal(size=(count + 2000, 3)) * np.sqrt(zero) * (1 - a)
    )
    series = np.empty_like(noise)
    series[0] = noise[0]
    for step in range(1, len(noise)):
        series[step] = a * series[step - 1] + noise[step]
    kept: Float = series[2000:]
    return kept


def table(path: Path) -> Float:
    rows = [line for line in path.read_text().splitlines() if line[:1] in "0123456789 -"]
    return np.array([[float(cell) for cell in row.split()] for row in rows if row.strip()])


def test_prefactor_is_the_formula_in_si() -> None:
    boltzmann = 1.380649e-23
    joule_metre_per_second = ELEMENTARY_CHARGE * 1e-10 / 1e-15
    si = joule_metre_per_second**2 * 1e-15 / (boltzmann * T**2 * V * 1e-30)
    assert prefactor(T, V) == pytest.approx(si, rel=1e-14)


def test_an_exact_process_is_covered_and_converged() -> None:
    truth = prefactor(T, V) * 2.5  # S(0)/2 times the spacing
    found = gkflux.kappa(
        autoregressive(60_000, 5.0, 1), timestep=2.5, volume=V, temperature=T
    )
    low, high = found.interval(0.95)
    assert low < truth < high
    assert found.status == "converged"
    assert found.verdict.startswith("converged: ")
    assert found.tau == pytest.approx(12.5, rel=0.25)
    assert found.methods["first_dip"].kappa == pytest.approx(truth, rel=0.25)
    assert found.interval(0.68)[0] > low
    assert found.kappa_std == pytest.approx((high - low) / 2 / 1.959964, rel=1e-5)
    assert np.abs(found.tensor - truth * np.eye(3)).max() < 5 * found.tensor_std.max()
    assert found.tensor_std.shape == (3, 3)


def test_replicas_pool() -> None:
    truth = prefactor(T, V)
    runs = [autoregressive(6000, 5.0, seed) for seed in range(8)]
    found = gkflux.kappa(runs, timestep=1.0, volume=V, temperature=T)
    stacked = gkflux.kappa(np.array(runs), timestep=1.0, volume=V, temperature=T)
    assert found.kappa == stacked.kappa
    assert len(found.replicas) == 8
    assert found.methods["replicas"].dof == 7
    assert abs(found.kappa - truth) < 4 * found.kappa_std
    assert abs(found.methods["replicas"].kappa - truth) < 5 * found.methods["replicas"].std


def test_units_scale_as_they_must() -> None:
    series = autoregressive(8000, 4.0, 2)
    one = gkflux.kappa(series, timestep=1.0, volume=V, temperature=T)
    two = gkflux.kappa(3 * series, timestep=2.0, volume=2 * V, temperature=2 * T)
    assert two.kappa == pytest.approx(one.kappa * 9 * 2 / 2 / 4, rel=1e-9)


def test_a_longer_run_is_asked_for_when_the_data_are_short() -> None:
    short = gkflux.kappa(
        autoregressive(2000, 20.0, 3), timestep=1.0, volume=V, temperature=T
    )
    assert short.status == "error too small"
    assert "times as much data" in short.verdict
    tiny = gkflux.kappa(autoregressive(100, 20.0, 3), timestep=1.0, volume=V, temperature=T)
    assert tiny.status in ("no error bar", "error too small")
    none = gkflux.kappa(autoregressive(60, 40.0, 5), timestep=1.0, volume=V, temperature=T)
    if none.status == "no error bar":
        assert np.isnan(none.kappa_std)
    assert np.isfinite(none.kappa)


def test_an_anisotropic_crystal_is_the_mean_of_its_components() -> None:
    series = autoregressive(60_000, 5.0, 7) * np.array([1.0, 2.0, 3.0])
    found = gkflux.kappa(series, timestep=1.0, volume=V, temperature=T)
    assert found.record.method == "components"
    assert found.kappa == pytest.approx(np.trace(found.tensor) / 3)
    truth = prefactor(T, V) * np.array([1.0, 4.0, 9.0])
    assert np.all(np.abs(np.diag(found.tensor) - truth) < 4 * np.diag(found.tensor_std))
    assert abs(found.kappa - truth.mean()) < 4 * found.kappa_std


def test_a_single_component_is_enough() -> None:
    series = autoregressive(30_000, 5.0, 4)[:, :1]
    found = gkflux.kappa(series, timestep=1.0, volume=V, temperature=T)
    assert found.tensor.shape == (1, 1)
    assert abs(found.kappa - prefactor(T, V)) < 4 * found.kappa_std


@pytest.mark.parametrize("bad", [0, 1234, 4999])
def test_a_sample_that_is_not_finite_is_left_out_and_counted(bad: int) -> None:
    series = autoregressive(5000, 3.0, 6)
    series[bad] = np.nan
    found = gkflux.kappa(series, timestep=1.0, volume=V, temperature=T)
    assert {c.name: c.status for c in found.checks}["finite"] == "warn"
    pieces = [part for part in (series[:bad], series[bad + 1 :]) if len(part) > 1]
    expected = gkflux.kappa(pieces, timestep=1.0, volume=V, temperature=T)
    ours, theirs = (one.curves["autocorrelation"] for one in (found, expected))
    lags = min(len(ours), len(theirs))  # how many there are is read off another spectrum
    assert lags > 100
    np.testing.assert_allclose(ours[:lags], theirs[:lags], rtol=1e-9, atol=1e-12)


def test_a_mean_taken_off_before_does_no_harm_and_is_noticed() -> None:
    series = autoregressive(3000, 3.0, 8)
    known: dict[str, Any] = {"timestep": 1.0, "volume": V, "temperature": T}
    found = gkflux.kappa(series - series.mean(axis=0), **known)
    assert found.kappa == pytest.approx(gkflux.kappa(series, **known).kappa, rel=0.1)
    messages = {c.name: c.message for c in found.checks}
    assert "taken off the flux before" in messages["mean flux"]


@pytest.mark.parametrize("mean", [0.3, 1.0, 100.0])
def test_a_mean_that_is_no_fluctuation_does_no_harm_and_is_noticed(mean: float) -> None:
    """In standard deviations of the flux; it is in the bin at zero, and in no other."""
    series = autoregressive(30_000, 5.0, 8)
    known: dict[str, Any] = {"timestep": 1.0, "volume": V, "temperature": T}
    without = gkflux.kappa(series, **known)
    found = gkflux.kappa(series + np.array([0, mean * series.std(), 0]), **known)
    assert found.kappa == pytest.approx(without.kappa, abs=0.3 * without.kappa_std)
    np.testing.assert_allclose(
        found.tensor, without.tensor, atol=float(without.tensor_std.max())
    )
    assert found.tau == pytest.approx(without.tau, rel=0.1)
    assert found.status == without.status
    check = {c.name: c for c in found.checks}["mean flux"]
    assert check.status == "warn"
    sigma = float(check.message.split(" is ")[1].split(" sigma")[0])
    expected = mean * series.std() / np.sqrt(2.0 / 30_000)  # S(0) = 2
    assert sigma == pytest.approx(expected, rel=0.25)


def test_a_direction_without_flux_has_no_conductivity() -> None:
    series = autoregressive(5000, 3.0, 9) * np.array([1.0, 1.0, 0.0])
    found = gkflux.kappa(series, timestep=1.0, volume=V, temperature=T)
    assert found.tensor[2, 2] == 0.0
    assert np.isnan(found.tensor_std[2, 2])
    assert np.all(found.tensor.diagonal()[:2] > 0)


def test_results_are_saved_and_json_is_json(tmp_path: Path) -> None:
    found = gkflux.kappa(
        autoregressive(8000, 4.0, 2), timestep=1.0, volume=V, temperature=T
    )
    found.save(tmp_path / "gk")
    summary = json.loads(
        (tmp_path / "gk" / "gk.json").read_text(), parse_constant=pytest.fail
    )
    assert summary["kappa"] == found.kappa
    assert summary["prefactor"]["value"] == prefactor(T, V)
    assert summary["methods"]["cepstral"]["K"] == 3 * summary["settings"]["K_AIC"]
    with np.load(tmp_path / "gk" / "gk.npz") as curves:
        assert curves["kappa_cumulative"].shape[1:] == (3, 3)
        assert curves["lag_time"][1] == 1.0
    assert (tmp_path / "gk" / "report.html").stat().st_size > 20_000
    assert "\n" not in repr(found)
    assert found.verdict in str(found)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"flux": np.zeros((50, 4))}, r"expected \(n, 3\)"),
        ({"flux": np.zeros((5, 3))}, "5 samples"),
        ({"flux": np.zeros((500, 3))}, "zero throughout"),
        ({"flux": np.full((500, 3), np.nan)}, "not finite"),
        ({"flux": np.ones((500, 3))}, "no power at bin 1 of its spectrum: it is constant"),
        ({"currents": np.ones((3, 100, 3))}, "4 currents need"),
        ({"timestep": 0.0}, "timestep must be a positive number"),
        ({"volume": float("nan")}, "volume must be a positive number"),
        ({"temperature": np.ones(3)}, "for 100 samples"),
        ({"temperature": -1.0}, "temperature must be positive"),
        ({"currents": np.ones((1, 99, 3))}, "currents of shape"),
        ({"mode": "other"}, "unknown mode"),
        ({"method": "other"}, "method 'other'"),
        ({"colour": 1}, "unknown option 'colour'"),
    ],
)
def test_mistakes_are_one_clear_line(change: dict[str, Any], words: str) -> None:
    known: dict[str, Any] = {
        "flux": np.random.default_rng(0).normal(size=(100, 3)),
        "timestep": 1.0,
        "volume": V,
        "temperature": T,
    }
    with pytest.raises(gkflux.FluxError, match=words) as caught:
        gkflux.kappa(**(known | change))
    assert "\n" not in str(caught.value)


def test_sportran_silica_digit_for_digit(shared_data: Path) -> None:
    data = table(shared_data / "sportran" / "Silica.dat")
    assert data.shape == (100_001, 4)
    known = {
        "timestep": 1.0,
        "volume": 3130.431110818,
        "temperature": data[:100_000, 0].mean(),
        "mode": "sportran",
        "fstar": 28.0,
    }
    found = gkflux.kappa(1e-3 * data[:, 1:], **known)  # metal units: eV Å/ps
    assert found.kappa == pytest.approx(2.205098752818336, rel=1e-9)
    assert found.kappa_std == pytest.approx(0.21524833650672792, rel=1e-9)
    assert found.record.details["K"] == 33
    fixed = gkflux.kappa(1e-3 * data[:, 1:], **known, cutoff=42)
    assert fixed.kappa == pytest.approx(2.270976319331807, rel=1e-9)
    assert fixed.kappa_std == pytest.approx(0.2496872851617071, rel=1e-9)
    ours = gkflux.kappa(
        1e-3 * data[:, 1:], timestep=1.0, volume=3130.431110818, temperature=data[:, 0]
    )
    assert abs(ours.kappa - 2.2051) < 2 * ours.kappa_std
    assert 0.1 < ours.kappa_std < 0.4


def test_sportran_molten_salt_with_two_currents(shared_data: Path) -> None:
    data = table(shared_data / "sportran" / "NaCl.dat")
    known = {"timestep": 5.0, "volume": 65013.301261, "temperature": data[:, 0].mean()}
    flux, mass = 1e-3 * data[:, 1:4], data[None, :, 4:7]
    found = gkflux.kappa(flux, currents=mass, mode="sportran", fstar=14.0, **known)
    assert found.kappa == pytest.approx(0.49830975139544453, rel=1e-10)
    assert found.kappa_std == pytest.approx(0.028018311619340822, rel=1e-10)
    assert found.record.details["K"] == 3
    ours = gkflux.kappa(flux, currents=mass, **known)
    assert abs(ours.kappa - 0.498) < 3 * ours.kappa_std
    assert "first_dip" not in ours.methods  # the flux alone integrates to 0.64
    without = gkflux.kappa(flux, mode="sportran", fstar=14.0, **known)
    assert found.kappa / without.kappa == pytest.approx(0.773, abs=0.01)


def test_mode_vibes_is_fhi_vibes(shared_data: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(shared_data / "vibes" / "ar108.nc") as file:
        volume, temperature = (
            float(file["volume"][:].mean()),
            float(file["temperature"][:].mean()),
        )
        flux = volume * file["heat_flux"][:]  # stored as J/V
    with h5py.File(shared_data / "vibes" / "ar108-greenkubo.nc") as file:
        kappa = file["kappa"][:]
    found = gkflux.kappa(
        flux,
        timestep=50.0,
        volume=volume,
        temperature=temperature,
        mode="vibes",
        filter_time=925.2302025782689,
    )
    # Their constants are older than CODATA 2018: 4.7e-8.
    np.testing.assert_allclose(found.tensor, kappa, rtol=1e-6)
    assert found.kappa == pytest.approx(np.diag(kappa).mean(), rel=1e-6)
    assert found.record.std == pytest.approx(0.0170693332, rel=1e-5)
    assert "6 to 84 %" in {c.name: c.message for c in found.checks}["error bar"]
