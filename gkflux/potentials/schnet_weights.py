"""A network as the CPU engine wants it: float32 arrays, transposed, padded, tabulated."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gkflux.potentials.schnet import Filter, Interaction, SchNet
from gkflux.potentials.schnet_kernels import Layer, Readout
from gkflux.potentials.schnet_tables import INTERVALS, filter_table, table_error
from gkflux.potentials.schnet_vector import LANES

__all__ = ["Weights"]

Matrix = NDArray[np.float32]


@dataclass(frozen=True)
class Weights:
    """Padded weights. Widths: F ``features``, L ``filters``, multiples of `LANES`.

    ``embedding``: ``(Z, F)``. ``gathered``: B times the embedding, what the first layer
    gathers, ``(Z, L)``. ``reference``: u_s by atomic number, eV. ``error``: of the tables.
    """

    cutoff: float
    features: int
    filters: int
    embedding: Matrix
    gathered: Matrix
    layers: tuple[Layer, ...]
    readout: Readout
    stddev: float
    offset: float
    reference: NDArray[np.float64]
    error: dict[str, float]

    @property
    def intervals(self) -> int:
        """Intervals of a table."""
        return INTERVALS

    @property
    def scale(self) -> float:
        """Intervals per Å."""
        return INTERVALS / self.cutoff

    def species(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows of ``embedding`` and ``gathered``: the atomic number itself."""
        return np.asarray(numbers, dtype=np.int64)

    def references(self, numbers: NDArray[np.int64]) -> NDArray[np.float64]:
        """u_s = mean + atomref, ``(n,)``, eV."""
        return self.reference[numbers]

    @classmethod
    def of(cls, network: SchNet) -> "Weights":
        """Tabulate and pad a network of any dtype on any device."""
        exact = network.double().cpu().requires_grad_(False)
        tables = [filter_table(_filter(layer)) for layer in exact.interactions]
        layers = tuple(
            _layer(layer, table, network.shape.cutoff)
            for layer, table in zip(exact.interactions, tables, strict=True)
        )
        numbers = torch.arange(network.shape.max_z)
        embedding = exact.embedding.weight
        first = exact.interactions[0].get_submodule("in2f")(embedding)
        stddev = float(exact.stddev)
        return cls(
            cutoff=network.shape.cutoff,
            features=layers[0].d2.shape[0],
            filters=layers[0].d1.shape[0],
            embedding=pad(embedding),
            gathered=pad(first),
            layers=layers,
            readout=_readout(exact, stddev),
            stddev=stddev,
            offset=float(exact.out.bias[0]) * stddev,
            reference=exact.references(numbers).numpy(),
            error=table_error(exact, tables),
        )


def _filter(layer: torch.nn.Module) -> Filter:
    filter = layer.get_submodule("filter")
    assert isinstance(filter, Filter)
    return filter


def pad(weight: Tensor) -> Matrix:
    """Float32, C order, aligned as torch aligns; the last dimension is padded."""
    out = torch.zeros(*weight.shape[:-1], _up(weight.shape[-1]))
    out[..., : weight.shape[-1]] = weight
    return out.numpy()


def _up(width: int) -> int:
    return -(-width // LANES) * LANES


def square(weight: Tensor) -> Matrix:
    """Pad both dimensions of a matrix."""
    out = torch.zeros(_up(weight.shape[0]), _up(weight.shape[1]))
    out[: weight.shape[0], : weight.shape[1]] = weight
    return out.numpy()


def _layer(module: torch.nn.Module, table: NDArray[np.float32], cutoff: float) -> Layer:
    assert isinstance(module, Interaction)
    b, d1, d2 = module.in2f.weight, module.f2out.weight, module.dense.weight
    return Layer(
        table=pad(torch.from_numpy(table)),
        scale=np.float32((len(table) - 1) / cutoff),
        b=square(b.T),
        b_t=square(b),
        d1=square(d1.T),
        d1_t=square(d1),
        d1_bias=pad(module.f2out.bias),
        d2=square(d2.T),
        d2_t=square(d2),
        d2_bias=pad(module.dense.bias),
    )


def _readout(network: SchNet, stddev: float) -> Readout:
    hidden, out = network.hidden.weight, network.out.weight[0]
    return Readout(
        hidden=square(hidden.T),
        hidden_t=square(hidden),
        bias=pad(network.hidden.bias),
        out=pad(out),
        scaled=pad(out * stddev),
        silu=network.shape.readout == "silu",
    )
