"""Every check must be able to fail, and to pass."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import gkflux
from gkflux.checks import Check
from gkflux.conductivity import reduce_runs
from gkflux.correlate import Float
from gkflux.plan import Settings
from gkflux.runs import Chunk, Run


def noise(count: int = 20_000, seed: int = 0) -> Float:
    """A band-limited flux: three-fold smoothed noise."""
    series = np.random.default_rng(seed).normal(size=(count + 64, 3))
    kernel = np.hanning(12)
    return np.stack([np.convolve(s, kernel, "same") for s in series.T], axis=1)[32:-32]


def run(values: Float, **scalars: Float) -> Run:
    def read(start: int, stop: int) -> Iterator[Chunk]:
        steps, part = np.arange(start, stop, dtype=np.int64), slice(start, stop)
        yield Chunk(
            steps, values[part], {name: (steps, v[part]) for name, v in scalars.items()}
        )

    return Run(
        name="run",
        samples=len(values),
        every=1,
        timestep=2.0,
        read=read,
        volume=1000.0,
        temperature=300.0,
        facts={"degrees_of_freedom": 300},
    )


def checks(*runs: Run) -> dict[str, Check]:
    return {check.name: check for check in reduce_runs(runs, Settings()).checks}


def test_a_sound_series_passes_everything() -> None:
    values, count = noise(), 20_000
    wiggle = np.random.default_rng(1).normal(size=count)
    found = checks(run(values, temperature=300 + wiggle, energy=-100 + 1e-6 * wiggle))
    assert {check.status for check in found.values()} == {"pass"}
    assert set(found) >= {
        "spacing",
        "finite",
        "aliasing",
        "energy drift",
        "temperature drift",
    }
    assert set(found) >= {"mean flux", "stationarity", "length", "isotropy", "methods"}


@pytest.mark.parametrize(
    ("kelvin", "status"), [(0.5, "pass"), (3.0, "warn"), (30.0, "fail")]
)
def test_energy_drift(kelvin: float, status: str) -> None:
    energy = np.linspace(0, kelvin * 300 * 8.617e-5, 20_000)
    found = checks(run(noise(), energy=energy))["energy drift"]
    assert found.status == status
    assert f"+{kelvin * 31 / 32:.3g}"[:4] in found.message


@pytest.mark.parametrize(
    ("change", "status"), [(1.0, "pass"), (6.0, "warn"), (30.0, "fail")]
)
def test_temperature_drift(change: float, status: str) -> None:
    wiggle = np.random.default_rng(1).normal(size=20_000)
    series = 300 + wiggle + np.linspace(-change / 2, change / 2, 20_000)
    assert checks(run(noise(), temperature=series))["temperature drift"].status == status


def test_a_mean_flux_is_noticed() -> None:
    assert checks(run(noise() + np.array([0.5, 0, 0])))["mean flux"].status == "warn"


def test_means_that_cancel_are_noticed() -> None:
    means = np.array([[0.5, 0, 0], [-0.5, 0, 0]])
    runs = [noise() + mean for mean in means]
    found = gkflux.kappa(runs, timestep=1.0, volume=1000.0, temperature=300.0)
    assert {c.name: c.status for c in found.checks}["mean flux"] == "warn"
    found = gkflux.kappa(
        [noise(), noise()[::-1]], timestep=1.0, volume=1000.0, temperature=300.0
    )
    assert {c.name: c.status for c in found.checks}["mean flux"] == "pass"


def test_halves_that_differ_are_noticed() -> None:
    values = noise(40_000)
    values[20_000:] *= 1.4
    assert checks(run(values))["stationarity"].status == "warn"


def test_components_that_differ_are_noticed() -> None:
    assert checks(run(noise() * [1.0, 1.0, 1.6]))["isotropy"].status == "warn"


def test_short_data_are_noticed() -> None:
    assert checks(run(noise(1000)))["length"].status == "warn"


def test_bad_samples_and_gaps_are_counted() -> None:
    values = noise()
    values[500:900] = np.inf
    assert checks(run(values))["finite"].status == "fail"
    assert "400 of 20000" in checks(run(values))["finite"].message
    steps, values = np.arange(20_000, dtype=np.int64), noise()
    steps[7000:] += 5

    def read(a: int, b: int) -> Iterator[Chunk]:
        yield Chunk(steps[a:b], values[a:b], {})

    gap = replace(run(values), read=read)
    assert checks(gap)["spacing"].status == "warn"


def test_every_other_sample_missing_is_refused() -> None:
    values = noise()
    values[::2] = np.nan
    with pytest.raises(gkflux.FluxError, match="keep the evenly spaced"):
        checks(run(values))


def test_point_samples_of_silica_trip_from_13_fs(shared_data: Path) -> None:
    text = (shared_data / "sportran" / "Silica.dat").read_text().splitlines()
    data = np.array([row.split() for row in text if row[:1].isdigit()], dtype=float)
    for spacing in (1, 6, 12, 13, 18, 24, 36):
        found = gkflux.kappa(
            data[::spacing, 1:], timestep=spacing, volume=3130.4, temperature=983.17
        )
        status = {check.name: check.status for check in found.checks}["aliasing"]
        assert status == ("pass" if spacing <= 12 else "fail"), spacing


def test_atoms_that_left_the_reference_lattice() -> None:
    """Where nobody looked, nothing is said."""
    sound, gone = run(noise()), run(noise(seed=1))
    assert "lattice" not in checks(sound)
    sound = replace(sound, facts={**sound.facts, "hop": None})
    assert checks(sound)["lattice"].status == "pass"
    hop = {"step": 5, "atom": 7, "file": "b.son"}
    found = checks(sound, replace(gone, facts={**gone.facts, "hop": hop}))["lattice"]
    assert found.status == "fail"
    assert "atom 7 at step 5 of b.son" in found.message


@pytest.mark.parametrize(
    ("formulation", "layers", "status"),
    [
        ("semilocal", 2, None),
        ("local", 1, None),
        ("local", None, None),
        ("local", 2, "fail"),
    ],
)
def test_the_virial_form_of_several_layers(
    formulation: str, layers: int | None, status: str | None
) -> None:
    one = run(noise())
    one = replace(one, facts={**one.facts, "formulation": formulation, "layers": layers})
    found = checks(one).get("formulation")
    assert (found and found.status) == status
