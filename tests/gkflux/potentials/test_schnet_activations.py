"""Activations written by hand against torch in float64."""

import numpy as np
import pytest
import torch

from gkflux.potentials.schnet_activations import activate, silu_readout, ssp_readout

EVERYWHERE = np.concatenate([np.linspace(-120, 120, 4001), np.linspace(-2, 2, 4001)])


def test_shifted_softplus_and_its_slope() -> None:
    z = EVERYWHERE.astype(np.float32)
    x = torch.from_numpy(z.copy()).double()
    slope = np.empty_like(z)
    activate(z, np.zeros_like(z), slope)
    expected = (torch.nn.functional.softplus(x) - np.log(2)).numpy()
    assert np.abs(z - expected).max() < 2e-7 * np.abs(expected).max()
    near = np.abs(expected) < 3
    assert np.abs(z - expected)[near].max() < 4e-7
    assert np.abs(slope - torch.sigmoid(x).numpy()).max() < 2e-7


def test_bias_is_added_first() -> None:
    z, bias = np.zeros(16, np.float32), np.full(16, 1.5, np.float32)
    slope = np.empty_like(z)
    activate(z, bias, slope)
    assert z == pytest.approx(np.log1p(np.exp(1.5)) - np.log(2), rel=1e-6)


@pytest.mark.parametrize("name", ["ssp", "silu"])
def test_readout_and_its_cotangent(name: str) -> None:
    rng = np.random.default_rng(0)
    z, bias, out = (rng.normal(0, 2, 32).astype(np.float32) for _ in range(3))
    x = torch.from_numpy(z.copy()).double() + torch.from_numpy(bias).double()
    x.requires_grad_()
    y = torch.nn.functional.silu(x) if name == "silu" else torch.nn.functional.softplus(x)
    shift = 0.0 if name == "silu" else np.log(2)
    expected = ((y - shift) * torch.from_numpy(out).double()).sum()
    (gradient,) = torch.autograd.grad(expected, x)
    readout = silu_readout if name == "silu" else ssp_readout
    u = readout(z, bias, out, 3 * out)
    assert u == pytest.approx(float(expected.detach()), rel=1e-6, abs=1e-6)
    assert z == pytest.approx(3 * gradient.numpy(), rel=1e-5, abs=2e-6)
