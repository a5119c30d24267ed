"""Filter tables: exact at the cutoff, close everywhere, and honest about it."""

import numpy as np
import pytest
import torch

from gkflux.potentials.schnet import Architecture, Filter
from gkflux.potentials.schnet_tables import filter_table, interpolate, values_and_slopes


@pytest.fixture
def network() -> Filter:
    torch.manual_seed(0)
    return Filter(Architecture(features=24, gaussians=15, cutoff=4.5)).double()


def test_slope_is_the_derivative(network: Filter) -> None:
    r = torch.linspace(0.1, 4.4, 50, dtype=torch.float64)
    with torch.no_grad():
        w, slope = values_and_slopes(network, r)
        up, _ = values_and_slopes(network, r + 1e-5)
        down, _ = values_and_slopes(network, r - 1e-5)
        assert torch.allclose(w, network(r), rtol=1e-13)
    assert slope.numpy() == pytest.approx(((up - down) / 2e-5).numpy(), abs=1e-8)


def test_ends_in_exact_zeros(network: Filter) -> None:
    table = filter_table(network)
    assert table.shape == (513, 2, 24)
    assert not table[-1].any()
    w, slope = interpolate(table, 4.5, np.array([4.5]))
    assert not w.any()
    assert not slope.any()


@pytest.mark.parametrize(("intervals", "limit"), [(64, 1e-4), (128, 7e-6), (512, 1e-7)])
def test_error_falls_with_the_fourth_power(
    network: Filter, intervals: int, limit: float
) -> None:
    r = np.random.default_rng(0).uniform(0, 4.5, 500)
    with torch.no_grad():
        exact, _ = values_and_slopes(network, torch.from_numpy(r))
    w, _ = interpolate(filter_table(network, intervals), 4.5, r)
    assert np.abs(w - exact.numpy()).max() < limit * np.abs(exact.numpy()).max()
