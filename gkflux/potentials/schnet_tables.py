"""Filters as tables: W(r) is a function of one number.

Cubic Hermite interpolation between 512 intervals of [0, r_c], values and slopes exact at
the nodes, in float64 before they are rounded to float32. The error of forces is that of
float32 itself. Value and slope end in exact zeros at the cutoff: an edge beyond it adds
nothing.
"""

from copy import deepcopy
from math import pi

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gkflux.potentials.schnet import Filter, SchNet, ssp

__all__ = [
    "INTERVALS",
    "filter_table",
    "softplus_slope",
    "table_error",
    "tables_error",
    "values_and_slopes",
]

INTERVALS = 512


def values_and_slopes(network: Filter, r: Tensor) -> tuple[Tensor, Tensor]:
    """W(r) and dW/dr, each of shape ``(E, filters)``, by the forward rule, no autograd."""
    offset = (r[:, None] - network.centres) / network.width
    e = torch.exp(-0.5 * offset**2)
    z = network.first(e)
    zdot = -(e * offset / network.width) @ network.first.weight.T
    w = network.second(ssp(z))
    wdot = (softplus_slope(z) * zdot) @ network.second.weight.T
    envelope, fall = network.envelope(r)[:, None], _fall(network, r)[:, None]
    return w * envelope, wdot * envelope + w * fall


def softplus_slope(z: Tensor) -> Tensor:
    """Derivative of torch's softplus, which is the identity above its threshold of 20."""
    return torch.where(z > 20.0, torch.ones_like(z), torch.sigmoid(z))


def _fall(network: Filter, r: Tensor) -> Tensor:
    """Derivative of the cutoff function."""
    if network.hard:
        return torch.zeros_like(r)
    k = pi / network.cutoff
    return -0.5 * k * torch.sin(k * r) * (r < network.cutoff).to(r.dtype)


def filter_table(network: Filter, intervals: int = INTERVALS) -> NDArray[np.float32]:
    """Tabulate value, and slope times the width of an interval, at the nodes.

    Args:
        network: a `Filter` in float64.
        intervals: between 0 and the cutoff.

    Returns:
        shape ``(intervals + 1, 2, filters)``.
    """
    r = torch.linspace(0.0, network.cutoff, intervals + 1, dtype=torch.float64)
    with torch.no_grad():
        w, slope = values_and_slopes(network, r)
    width = network.cutoff / intervals
    table = torch.stack([w, slope * width], dim=1)
    table[-1] = 0.0
    return table.float().numpy()


def interpolate(
    table: NDArray[np.float32], cutoff: float, r: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Evaluate a table as the kernels do, in float64: W and dW/dr, ``(E, filters)``."""
    scale = (len(table) - 1) / cutoff
    i = np.minimum((r * scale).astype(int), len(table) - 2)
    t = (r * scale - i)[:, None]
    s = 1.0 - t
    v0, d0, v1, d1 = table[i, 0], table[i, 1], table[i + 1, 0], table[i + 1, 1]
    w = (
        s * s * (1 + 2 * t) * v0
        + t * s * s * d0
        + t * t * (3 - 2 * t) * v1
        - t * t * s * d1
    )
    q = 6 * t * s
    slope = q * (v1 - v0) + s * (1 - 3 * t) * d0 + t * (3 * t - 2) * d1
    return w, slope * scale


def tables_error(network: SchNet) -> dict[str, float]:
    """`table_error` of a network of any dtype, tables and all."""
    exact = deepcopy(network).double().cpu().requires_grad_(False)
    filters = [layer.get_submodule("filter") for layer in exact.interactions]
    tables = [filter_table(each) for each in filters if isinstance(each, Filter)]
    return table_error(exact, tables)


def table_error(network: SchNet, tables: list[NDArray[np.float32]]) -> dict[str, float]:
    """Compare tables with the network, in float64, at random distances.

    Returns:
        rms and largest error of W, and of dW/dr in 1/Å, each relative to the rms of what it
        approximates, over all layers.
    """
    r = np.sort(np.random.default_rng(0).uniform(0.0, network.shape.cutoff, 2048))
    errors: dict[str, float] = {"intervals": float(INTERVALS)}
    for layer, table in zip(network.interactions, tables, strict=True):
        filter = layer.get_submodule("filter")
        assert isinstance(filter, Filter)
        with torch.no_grad():
            exact = values_and_slopes(filter, torch.from_numpy(r))
        approximate = interpolate(table, network.shape.cutoff, r)
        for name, x, y in zip(("filter", "slope"), exact, approximate, strict=True):
            e = np.abs(x.numpy() - y) / np.sqrt(np.mean(x.numpy() ** 2))
            rms = float(np.sqrt(np.mean(e**2)))
            errors[f"{name}_rms"] = max(errors.get(f"{name}_rms", 0.0), rms)
            errors[f"{name}_max"] = max(errors.get(f"{name}_max", 0.0), float(e.max()))
    return errors
