"""An equivariant network, as a stranger writes it from "Your own model" of the README.

Two rounds of messages in the manner of PaiNN (Schütt, Unke, Gastegger, ICML 2021): every
atom has scalars ``(n, F)`` and vectors ``(n, F, 3)``, and both travel along edges.
"""

import math

import torch
from torch import Tensor, nn

from gkflux.potentials.base import Gather
from gkflux.potentials.torch_potential import TorchPotential


class Round(nn.Module):
    """Messages, then an update of every atom by itself."""

    def __init__(self, features: int, waves: int) -> None:
        super().__init__()
        f = features
        self.context = nn.Sequential(nn.Linear(f, f), nn.SiLU(), nn.Linear(f, 3 * f))
        self.filters = nn.Linear(waves, 3 * f)
        self.mix = nn.Linear(f, 2 * f, bias=False)
        self.update = nn.Sequential(nn.Linear(2 * f, f), nn.SiLU(), nn.Linear(f, 3 * f))

    def forward(
        self,
        x: Tensor,
        v: Tensor,
        edges: tuple[Tensor, Tensor, Tensor, Tensor],
        gather: Gather,
    ) -> tuple[Tensor, Tensor]:
        basis, unit, centre, other = edges
        sent = gather(self.context(x), other) * self.filters(basis)
        scalar, along, turn = sent.chunk(3, dim=1)
        vector = gather(v, other) * turn[:, :, None] + along[:, :, None] * unit[:, None, :]
        x = x + torch.zeros_like(x).index_add(0, centre, scalar)
        v = v + torch.zeros_like(v).index_add(0, centre, vector)
        left, right = self.mix(v.transpose(1, 2)).transpose(1, 2).chunk(2, dim=1)
        # a norm has no slope at zero, where fresh vectors are
        length = torch.sqrt((right * right).sum(2) + 1e-8)
        a, b, c = self.update(torch.cat([x, length], dim=1)).chunk(3, dim=1)
        return x + a + b * (left * right).sum(2), v + c[:, :, None] * left


class Painn(nn.Module):
    """The network; see the module."""

    def __init__(
        self, *, features: int = 8, rounds: int = 2, waves: int = 6, cutoff: float = 3.5
    ) -> None:
        super().__init__()
        self.cutoff, self.waves = cutoff, waves
        self.embedding = nn.Embedding(20, features)
        self.rounds = nn.ModuleList(Round(features, waves) for _ in range(rounds))
        self.out = nn.Sequential(
            nn.Linear(features, features), nn.SiLU(), nn.Linear(features, 1)
        )

    def forward(
        self,
        numbers: Tensor,
        d: Tensor,
        centre: Tensor,
        other: Tensor,
        n_atoms: int,
        gather: Gather,
    ) -> Tensor:
        r = torch.linalg.vector_norm(d, dim=1, keepdim=True)
        k = torch.arange(1, self.waves + 1, dtype=d.dtype, device=d.device)
        fade = 0.5 * (1 + torch.cos(math.pi * r / self.cutoff)) * (r < self.cutoff)
        basis = torch.sin(k * math.pi * r / self.cutoff) / r * fade
        x = self.embedding(numbers)
        v = x.new_zeros(n_atoms, x.shape[1], 3)
        for part in self.rounds:
            x, v = part(x, v, (basis, d / r, centre, other), gather)
        energies: Tensor = self.out(x)[:, 0]
        return energies


def make(
    *, features: int = 8, rounds: int = 2, seed: int = 0, dtype: str = "float64"
) -> TorchPotential:
    """A random network, for a configuration: ``python:painn.py:make``."""
    torch.manual_seed(seed)
    network = Painn(features=features, rounds=rounds)
    return TorchPotential(
        network, cutoff=network.cutoff, layers=rounds, elements=range(1, 20), dtype=dtype
    )
