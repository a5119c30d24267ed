"""The part of a solid's flux that carries no heat: taken out, kappa stays, noise goes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gkflux
import stepson
from gkflux.correlate import Float
from gkflux.gauge_removal import MeanVirials, flux_of_virials, gauge_part, without_gauge

N = 4
FS = 0.09822694788464063  # fs in the unit of time of ASE, sqrt(amu Å²/eV), CODATA 2014


def solid(seed: int, samples: int, step: float = 2.0) -> dict[str, Float]:
    """Atoms on springs with virials of known means, and a heat flux of known integral.

    Velocities are time derivatives of bounded displacements (damped oscillators), so
    sum <W> v integrates to zero; the heat is in the fluctuations of W.
    """
    generator = np.random.default_rng(seed)
    mean = 0.5 * generator.normal(size=(N, 3, 3))
    count = samples + 500
    u, v = np.zeros((count, N, 3)), np.zeros((count, N, 3))
    kicks = generator.normal(size=(count, N, 3))
    frequency = np.linspace(0.1, 0.2, N)[:, None]  # 1/fs, 16 to 32 THz
    for t in range(1, count):
        v[t] = 0.96 * v[t - 1] - step * frequency**2 * u[t - 1] + 0.02 * kicks[t]
        u[t] = u[t - 1] + step * v[t]
    heat = np.zeros((count, 3))
    noise = generator.normal(size=(count, 3))
    for t in range(1, count):
        heat[t] = 0.8 * heat[t - 1] + 0.02 * noise[t]
    v, heat = v[500:], heat[500:]
    # fluctuations of W whose contraction with v is the heat, atom by atom in equal shares
    norm = (v**2).sum(axis=2, keepdims=True)[..., None]
    fluctuation = heat[:, None, :, None] * v[:, :, None, :] / norm / N
    drift = fluctuation.mean(axis=0)  # so that the mean is known exactly
    return {
        "virials": mean + fluctuation,
        "velocities": v,
        "heat": heat,
        "mean": mean + drift,
    }


def test_both_ways_give_the_same_flux() -> None:
    known = solid(0, 200)
    w, v = known["virials"], known["velocities"]
    total = MeanVirials.empty(N)
    for start in range(0, 200, 37):  # as it goes
        total = total.merge(MeanVirials.of(w[start : start + 37]))
    np.testing.assert_allclose(total.mean, w.mean(axis=0), rtol=1e-12)
    assert total.frames == 200
    explicit = np.array(
        [sum((w[t, i] - total.mean[i]) @ v[t, i] for i in range(N)) for t in range(200)]
    )
    two = flux_of_virials(w, v, total.mean)
    np.testing.assert_allclose(two, explicit, rtol=1e-11, atol=1e-14)
    one = without_gauge(flux_of_virials(w, v), total.mean, v)
    np.testing.assert_allclose(one, explicit, rtol=1e-9, atol=1e-12)


def test_frames_that_are_not_finite_do_not_count() -> None:
    w = solid(0, 20)["virials"]
    bad = w.copy()
    bad[3, 1, 2, 0] = np.nan
    found = MeanVirials.of(bad)
    assert found.frames == 19
    np.testing.assert_allclose(found.mean, np.delete(w, 3, axis=0).mean(axis=0))
    assert MeanVirials.of(bad[3:4]).merge(found).frames == 19


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(gkflux.FluxError, match="expected"):
        gauge_part(np.zeros((3, 3, 3)), np.zeros((5, 4, 3)))
    with pytest.raises(gkflux.FluxError, match="expected"):
        flux_of_virials(np.zeros((5, 4, 3)), np.zeros((5, 4, 3)))
    with pytest.raises(gkflux.FluxError, match="expected"):
        MeanVirials.of(np.zeros((4, 3, 3)))


def write(
    path: Path,
    known: dict[str, Float],
    *,
    every: int = 2,
    first: str = "virials",
    heat: Float | None = None,
    **about: Any,
) -> Path:
    """A trajectory of these atoms, J in no gauge; `heat`: virials of the other flux."""
    flux = flux_of_virials(known["virials"], known["velocities"])
    fields = [
        stepson.Field(
            "heat_flux", "float64", (3,), "eV Å/fs", every=2, attributes={"gauge": "none"}
        ),
        stepson.Field("temperature", "float64", (), "K", every=2),
        stepson.Field("velocities", "float64", ("atom", 3), "Å/fs", every=every),
    ]
    values: dict[str, Any] = {
        "heat_flux": flux,
        "temperature": np.full(len(flux), 300.0),
        "velocities": known["velocities"][:: every // 2],
    }
    if first == "virials":
        fields.append(stepson.Field("virials", "float64", ("atom", 3, 3), "eV", every=2))
        values["virials"] = known["virials"]
    if first == "both":
        w = known["virials"] if heat is None else heat
        gauged = flux_of_virials(w, known["velocities"], known["mean"])
        fields.append(stepson.Field("heat_flux_plain", "float64", (3,), "eV Å/fs", every=2))
        values |= {"heat_flux": gauged, "heat_flux_plain": flux}
    metadata = {"ensemble": "nve", "temperature": 300.0, **about}
    with stepson.create(
        path,
        fields=fields,
        numbers=[18] * N,
        cell=np.eye(3) * 10,
        pbc=True,
        timestep=1.0,
        metadata=metadata,
    ) as out:
        columns: dict[str, Any] = {}
        for t in range(len(flux)):
            columns = {
                name: column[t * len(column) // len(flux)]
                for name, column in values.items()
                if name != "velocities" or t % (every // 2) == 0
            }
            out.append(step=2 * t, **columns)
    return path


load = gkflux.GreenKubo.from_trajectories


def test_a_file_with_virials_loses_its_gauge_and_keeps_its_kappa(tmp_path: Path) -> None:
    known = solid(1, 20_000)
    path = write(tmp_path / "md.son", known)
    stored = load(path)
    removed = load(path, gauge="virials")
    exact = flux_of_virials(known["virials"], known["velocities"], known["mean"])
    array = gkflux.kappa(exact, timestep=2.0, volume=1000.0, temperature=300.0)
    # of rounding: the flux is the small difference of two large ones
    assert removed.kappa == pytest.approx(array.kappa, rel=1e-9)
    assert removed.kappa_std == pytest.approx(array.kappa_std, rel=1e-9)
    heat = gkflux.kappa(known["heat"], timestep=2.0, volume=1000.0, temperature=300.0)
    assert abs(removed.kappa - heat.kappa) < removed.kappa_std
    assert removed.kappa_std < stored.kappa_std
    check = {c.name: c for c in removed.checks}["gauges"]
    assert check.status == "pass"
    flux = flux_of_virials(known["virials"], known["velocities"])
    factor = np.sqrt(flux.var(axis=0).sum() / exact.var(axis=0).sum())
    assert factor > 2
    assert f"{factor:.2f} times less noisy" in check.message
    assert "gauges" not in {c.name for c in stored.checks}


def test_mean_virials_in_the_metadata_save_the_first_pass(tmp_path: Path) -> None:
    known = solid(2, 4000)
    two = load(write(tmp_path / "two.son", known), gauge="virials")
    path = write(tmp_path / "one.son", known, first="none", mean_virials=known["mean"])
    assert load(path, gauge="virials").kappa == pytest.approx(two.kappa, rel=1e-9)


def test_two_fluxes_in_a_file_are_compared(tmp_path: Path) -> None:
    known = solid(3, 20_000)
    good = load(write(tmp_path / "good.son", known, first="both"))
    check = {c.name: c for c in good.checks}["gauges"]
    assert check.status == "pass"
    # a plain flux that carries more heat than the other one is in no gauge of it
    fluctuation = known["virials"] - known["mean"]
    other = known | {"virials": known["virials"] + 2 * fluctuation}
    path = write(tmp_path / "wrong.son", other, first="both", heat=known["virials"])
    check = {c.name: c for c in load(path).checks}["gauges"]
    assert check.status == "warn"
    assert "is not the heat flux" in check.message


def test_states_of_one_gauge_are_not_those_of_another(tmp_path: Path) -> None:
    path = write(tmp_path / "md.son", solid(4, 4000))
    states = tmp_path / "states"
    stored = load(path, states=states)
    removed = load(path, gauge="virials", states=states)
    assert removed.kappa == load(path, gauge="virials").kappa
    assert load(path, gauge="virials", states=states).kappa == removed.kappa
    assert load(path, states=states).kappa == stored.kappa


def test_files_that_cannot_are_refused(tmp_path: Path) -> None:
    known = solid(5, 400)
    path = write(tmp_path / "none.son", known, first="none")
    with pytest.raises(gkflux.FluxError, match="no field virials"):
        load(path, gauge="virials")
    coarse = write(tmp_path / "coarse.son", known, every=4)
    with pytest.raises(gkflux.FluxError, match="no velocities, in Å/fs, at every sample"):
        load(coarse, gauge="virials")
    with pytest.raises(gkflux.FluxError, match="unknown gauge 'best': stored or virials"):
        load(path, gauge="best")


def test_argon_of_fhi_vibes(shared_data: Path) -> None:
    """Per-atom stresses of another program: its flux to the last digit, and its gauge.

    All atoms of this crystal are equivalent, so little is to be gained: what the mean
    virials of 51 frames differ by is their noise. Measured: 3.5 % of the variance.
    """
    h5py = pytest.importorskip("h5py")
    with h5py.File(shared_data / "vibes" / "ar108.nc") as file:
        volume = file["volume"][:].mean()
        virials = volume * file["stresses_potential"][:]
        stored, auxiliary = volume * file["heat_flux"][:], volume * file["heat_flux_aux"][:]
        velocities = FS * file["velocities"][:]  # they are in that of ASE
        temperature = file["temperature"][:].mean()
    mean = MeanVirials.of(virials).mean
    two = flux_of_virials(virials, velocities, mean)
    np.testing.assert_allclose(two, stored, rtol=1e-9, atol=1e-13)
    gauge = gauge_part(mean, velocities)
    np.testing.assert_allclose(gauge, auxiliary, rtol=1e-9, atol=1e-13)
    plain = flux_of_virials(virials, velocities)
    np.testing.assert_allclose(without_gauge(plain, mean, velocities), two, atol=1e-13)
    assert plain.var(axis=0).sum() / two.var(axis=0).sum() == pytest.approx(
        1.0345, rel=1e-3
    )
    known = {"timestep": 50.0, "volume": volume, "temperature": temperature}
    one, other = (
        gkflux.kappa(flux, mode="vibes", filter_time=925.2302, **known)
        for flux in (plain, two)
    )
    assert abs(one.kappa - other.kappa) < 0.2 * other.record.std  # 0.0502, 0.0479 ± 0.0171
    assert other.kappa == pytest.approx(0.0479, abs=1e-4)
