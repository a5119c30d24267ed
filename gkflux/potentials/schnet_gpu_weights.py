"""A network as the device engine wants it: float32 tensors, for rows on the left, padded.

Widths are padded to powers of two, which Triton asks for, with zeros, which change nothing:
a padded feature is multiplied by rows of zeros wherever it is used.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from gkflux.potentials.schnet import Filter, Interaction, SchNet
from gkflux.potentials.schnet_tables import INTERVALS, filter_table

__all__ = ["DeviceLayer", "DeviceReadout", "DeviceWeights", "power_of_two"]

# Triton's matrix product takes 16; torch's vector loops take 32 numbers at a time on a CPU,
# and what is left over gets other bits
NARROWEST = 32


class DeviceLayer(NamedTuple):
    """Weights of one interaction, for ``x @ w``; ``_t``: transposed.

    ``table``: ``(K + 1, 2, L)``, see `schnet_tables`. ``b``: ``(F, L)``. ``d1``:
    ``(L, F)``, ``d1_bias``: ``(F,)``. ``d2``: ``(F, F)``, ``d2_bias``: ``(F,)``.
    """

    table: Tensor
    b: Tensor
    b_t: Tensor
    d1: Tensor
    d1_t: Tensor
    d1_bias: Tensor
    d2: Tensor
    d2_t: Tensor
    d2_bias: Tensor


class DeviceReadout(NamedTuple):
    """Weights of the readout: ``hidden (F, H)``, ``bias (H,)``, ``out (H,)``.

    ``scaled``: ``out`` times stddev. ``silu``: the activation, ssp otherwise.
    """

    hidden: Tensor
    hidden_t: Tensor
    bias: Tensor
    out: Tensor
    scaled: Tensor
    silu: bool


@dataclass(frozen=True)
class DeviceWeights:
    """All of a network, on one device. Widths: F ``features``, L ``filters``.

    ``embedding``: ``(Z, F)``. ``gathered``: B times the embedding, what the first layer
    gathers, ``(Z, L)``. ``scale``: intervals of the table per Å, ``(1,)``, float64: a
    tensor, because Triton rounds plain numbers to float32. ``reference``: u_s by atomic
    number, ``(Z,)``, eV, float64. ``stddev``, ``offset``: eV, of the readout.
    """

    device: torch.device
    cutoff: float
    embedding: Tensor
    gathered: Tensor
    scale: Tensor
    layers: tuple[DeviceLayer, ...]
    readout: DeviceReadout
    stddev: float
    offset: float
    reference: Tensor

    @property
    def features(self) -> int:
        """Width of rows of features, padded."""
        return self.embedding.shape[1]

    @property
    def filters(self) -> int:
        """Width of rows of messages, padded."""
        return self.gathered.shape[1]

    @classmethod
    def of(cls, network: SchNet, device: torch.device | str) -> "DeviceWeights":
        """Tabulate, pad and move a network, of which a float64 copy on the CPU is given."""
        to = torch.device(device)
        exact = network.double().cpu().requires_grad_(False)
        embedding = exact.embedding.weight
        stddev = float(exact.stddev)
        scale = torch.tensor([INTERVALS / network.shape.cutoff], dtype=torch.float64)
        interactions = [_interaction(module) for module in exact.interactions]
        return cls(
            device=to,
            cutoff=network.shape.cutoff,
            embedding=_pad(embedding, to),
            gathered=_pad(interactions[0].in2f(embedding), to),
            scale=scale.to(to),
            layers=tuple(_layer(module, to) for module in interactions),
            readout=_readout(exact, stddev, to),
            stddev=stddev,
            offset=float(exact.out.bias[0]) * stddev,
            reference=exact.references(torch.arange(network.shape.max_z)).to(to),
        )


def power_of_two(width: int) -> int:
    """Return the next power of two, `NARROWEST` at least."""
    return max(NARROWEST, 1 << (width - 1).bit_length())


def _pad(weight: Tensor, device: torch.device) -> Tensor:
    """Pad the last dimension."""
    out = torch.zeros(*weight.shape[:-1], power_of_two(weight.shape[-1]))
    out[..., : weight.shape[-1]] = weight
    return out.to(device)


def _square(weight: Tensor, device: torch.device) -> Tensor:
    """Pad both dimensions of a matrix."""
    out = torch.zeros(power_of_two(weight.shape[0]), power_of_two(weight.shape[1]))
    out[: weight.shape[0], : weight.shape[1]] = weight
    return out.to(device)


def _interaction(module: torch.nn.Module) -> Interaction:
    assert isinstance(module, Interaction)
    return module


def _layer(module: Interaction, device: torch.device) -> DeviceLayer:
    b, d1, d2 = module.in2f.weight, module.f2out.weight, module.dense.weight
    filter = module.get_submodule("filter")
    assert isinstance(filter, Filter)
    return DeviceLayer(
        table=_pad(torch.from_numpy(filter_table(filter)), device),
        b=_square(b.T, device),
        b_t=_square(b, device),
        d1=_square(d1.T, device),
        d1_t=_square(d1, device),
        d1_bias=_pad(module.f2out.bias, device),
        d2=_square(d2.T, device),
        d2_t=_square(d2, device),
        d2_bias=_pad(module.dense.bias, device),
    )


def _readout(network: SchNet, stddev: float, device: torch.device) -> DeviceReadout:
    hidden, out = network.hidden.weight, network.out.weight[0]
    return DeviceReadout(
        hidden=_square(hidden.T, device),
        hidden_t=_square(hidden, device),
        bias=_pad(network.hidden.bias, device),
        out=_pad(out, device),
        scaled=_pad(out * stddev, device),
        silu=network.shape.readout == "silu",
    )
