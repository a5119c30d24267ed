"""Two gauges on a trajectory: different fluxes, the same conductivity."""

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

import gkflux
from gkflux.green_kubo import prefactor
from gkflux.system import System
from stepson.units import BOLTZMANN, KINETIC

Array = NDArray[np.float64]
MASS, TIMESTEP, EVERY, REPLICAS = 39.948, 5.0, 4, 4
SPACING, SIDE = EVERY * TIMESTEP, 15.96


class Series(NamedTuple):
    """Fluxes along runs of crystalline argon at 35 K, ``(replicas, frames, 3)``."""

    plain: Array
    lattice: Array
    virial: Array
    """In the gauge of the lattice too, without the power that messages carry."""
    temperature: float


def crystal() -> Array:
    basis = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    cells = np.stack(np.meshgrid(*[np.arange(3)] * 3, indexing="ij"), -1).reshape(-1, 1, 3)
    return np.asarray(SIDE / 3 * (cells + basis).reshape(-1, 3))


@pytest.fixture(scope="module")
def series() -> Series:
    """100 ps at constant energy after 10 ps that are forgotten."""
    sites, rng = crystal(), np.random.default_rng(0)
    system = System(positions=sites, numbers=[18] * 108, cell=[SIDE] * 3)
    batch = gkflux.load_potential("argon").batch([system] * REPLICAS)
    x = sites + rng.normal(0, 0.05, (REPLICAS, 108, 3))
    v = rng.normal(0, np.sqrt(60 * BOLTZMANN / (KINETIC * MASS)), x.shape)
    v -= v.mean(axis=1, keepdims=True)
    kick = 0.5 * TIMESTEP / (KINETIC * MASS)
    forces = batch.forces(x).forces
    found: list[list[Any]] = []
    kinetic = []
    for step in range(22_000):
        v += kick * forces
        x = x + TIMESTEP * v
        forces = batch.forces(x).forces
        v += kick * forces
        if step >= 2000 and step % EVERY == 0:
            flux = batch.heat_flux(v, lattice=sites)
            virial = batch.heat_flux(v, formulation="local", lattice=sites)
            found.append([flux.plain, flux.lattice, virial.lattice])
            kinetic.append(0.5 * KINETIC * MASS * np.sum(v * v) / REPLICAS)
    temperature = 2 * np.mean(kinetic) / (3 * 107 * BOLTZMANN)
    plain, lattice, virial = np.moveaxis(np.array(found), (1, 2), (0, 1))
    return Series(plain, lattice, virial, float(temperature))


def power(flux: Array, below: float) -> float:
    """Mean spectral power between zero and a frequency, THz."""
    spectrum = np.abs(np.fft.rfft(flux, axis=1)) ** 2
    frequency = 1e3 * np.fft.rfftfreq(flux.shape[1], SPACING)
    return float(spectrum[:, (frequency > 0) & (frequency < below)].mean())


def kappas(flux: Array, temperature: float) -> Array:
    """Conductivity of blocks of 25 ps, W/(m K): integrals to 4 ps, mean over the last."""
    lags, parts = round(4000 / SPACING), flux.reshape(4 * REPLICAS, -1, 3)
    n = parts.shape[1]
    transforms = np.abs(np.fft.rfft(parts, 2 * n, axis=1)) ** 2
    sums = np.fft.irfft(transforms.mean(axis=2), axis=1)[:, : lags + 1]
    correlation = sums / (n - np.arange(lags + 1))
    integral = np.cumsum((correlation[:, 1:] + correlation[:, :-1]) / 2, axis=1) * SPACING
    scale = prefactor(temperature, SIDE**3)
    return np.asarray(scale * integral[:, 3 * lags // 4 :].mean(axis=1))


@pytest.mark.slow
def test_the_lattice_gauge_has_the_same_spectrum_at_zero(series: Series) -> None:
    assert np.std(series.plain - series.lattice) > 0.1 * np.std(series.plain)
    tau = gkflux.kappa(
        series.lattice,
        timestep=SPACING,
        volume=SIDE**3,
        temperature=series.temperature,
    ).tau
    rates = [
        power(series.plain - series.lattice, f) / power(series.plain, f)
        for f in (1e3 / (20 * tau), 0.1, 0.3, 1.0)
    ]
    assert rates[0] < 1e-4
    assert all(low < high for low, high in pairwise(rates))


@pytest.mark.slow
def test_gauges_have_one_conductivity_and_the_virial_form_another(series: Series) -> None:
    """Paired by blocks: what the blocks differ by among themselves is ten percent."""
    plain, lattice, virial = (
        kappas(flux, series.temperature)
        for flux in (series.plain, series.lattice, series.virial)
    )
    kappa, error = lattice.mean(), np.std(plain - lattice, ddof=1) / np.sqrt(len(plain))
    assert error < 1e-3 * kappa
    assert abs((plain - lattice).mean()) < 3 * error
    missing = virial - lattice
    assert abs(missing.mean()) > 5 * missing.std(ddof=1) / np.sqrt(len(plain))
