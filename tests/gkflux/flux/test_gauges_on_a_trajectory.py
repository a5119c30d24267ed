"""Two gauges on a trajectory: different fluxes, the same conductivity."""

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

import gkflux
from gkflux.system import System
from stepson.units import BOLTZMANN, KINETIC

Array = NDArray[np.float64]
MASS, TIMESTEP, EVERY, REPLICAS = 39.948, 5.0, 4, 2


class Series(NamedTuple):
    """Fluxes along a run of crystalline argon at 35 K, ``(frames, replicas, 3)``."""

    plain: Array
    lattice: Array


def crystal() -> Array:
    basis = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    cells = np.stack(np.meshgrid(*[np.arange(3)] * 3, indexing="ij"), -1).reshape(-1, 1, 3)
    return np.asarray(5.32 * (cells + basis).reshape(-1, 3))


@pytest.fixture(scope="module")
def series() -> Series:
    """25 ps at constant energy after 10 ps that are forgotten."""
    sites, rng = crystal(), np.random.default_rng(0)
    system = System(positions=sites, numbers=[18] * 108, cell=[15.96] * 3)
    batch = gkflux.load_potential("argon").batch([system] * REPLICAS)
    x = sites + rng.normal(0, 0.05, (REPLICAS, 108, 3))
    v = rng.normal(0, np.sqrt(60 * BOLTZMANN / (KINETIC * MASS)), x.shape)
    v -= v.mean(axis=1, keepdims=True)
    kick = 0.5 * TIMESTEP / (KINETIC * MASS)
    forces = batch.forces(x).forces
    found: list[list[Any]] = []
    for step in range(7000):
        v += kick * forces
        x = x + TIMESTEP * v
        forces = batch.forces(x).forces
        v += kick * forces
        if step >= 2000 and step % EVERY == 0:
            flux = batch.heat_flux(v, lattice=sites)
            found.append([flux.plain, flux.lattice])
    return Series(*np.moveaxis(np.array(found), 1, 0))


def power(flux: Array, below: float) -> float:
    """Mean spectral power between zero and a frequency, THz."""
    spectrum = np.abs(np.fft.rfft(flux, axis=0)) ** 2
    frequency = 1e3 * np.fft.rfftfreq(len(flux), TIMESTEP * EVERY)
    return float(spectrum[(frequency > 0) & (frequency < below)].mean())


@pytest.mark.slow
def test_the_lattice_gauge_has_the_same_spectrum_at_zero(series: Series) -> None:
    assert np.std(series.plain - series.lattice) > 0.1 * np.std(series.plain)
    rates = [
        power(series.plain - series.lattice, f) / power(series.plain, f)
        for f in (0.1, 0.3, 1.0)
    ]
    assert rates[0] < 1e-3
    assert all(low < high for low, high in pairwise(rates))
