"""Noise on a device has the bits of noise on the host."""

import numpy as np
import pytest
import torch

from gkflux.dynamics import device_noise
from gkflux.dynamics.device_noise import device_normals
from gkflux.dynamics.noise import key, normals, quantile


def test_bits_are_those_of_the_host() -> None:
    keys = [key(7, 1, "langevin", replica) for replica in range(3)]
    steps = [0, 1, 77, 2**32 - 1, 2**33 + 5]
    streams = torch.tensor(np.array(keys, dtype=np.uint64).view(np.int64))
    found = device_normals(streams, torch.tensor(steps), 50).numpy()
    for k, step in enumerate(steps):
        for r, stream in enumerate(keys):
            assert found[k, r].tobytes() == normals(stream, step, 50).tobytes()


def test_the_tails_too() -> None:
    p = np.concatenate([10.0 ** -np.arange(1.0, 17.0), 0.5 + np.linspace(-0.43, 0.43, 41)])
    p = np.concatenate([p, 1.0 - p])
    p = p[(p > 0) & (p < 1)]
    found = device_noise._quantile(torch.tensor(p)).numpy()
    expected = np.array([quantile(x) for x in p])
    assert np.abs(expected).max() > 8.0
    assert found.tobytes() == expected.tobytes()


def test_it_is_normal() -> None:
    streams = torch.tensor([5])
    x = device_normals(streams, torch.arange(200), 100).numpy().ravel()
    assert x.mean() == pytest.approx(0.0, abs=4 / np.sqrt(x.size))
    assert x.var() == pytest.approx(1.0, abs=4 * np.sqrt(2 / x.size))
