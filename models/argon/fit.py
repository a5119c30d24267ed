# ruff: noqa: TID253 - nothing here is imported by the library
"""Fitting the network to the teacher: Adam on energies and forces, weights averaged.

The loss is the mean square of the force error over the rms force of the training set,
plus five times that of the energy error over the spread of the energies, which balances
the two at the end. The learning rate falls along half a cosine, and what is kept is the
exponential average of the weights, which is what a longer training at a lower rate
would find. Seeds are fixed: the same machine and thread count make the same model.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import cos, pi
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gkflux.neighbors import edge_vectors, neighbor_list
from gkflux.potentials.schnet import SchNet
from models.argon.states import Configurations
from models.argon.teacher import ARGON

__all__ = ["Fit", "Labelled", "errors", "fit", "labelled"]

BATCH = 8
RATE = 3e-3
LAST_RATE = 1e-5
ENERGY_WEIGHT = 5.0
DECAY = 0.995
CLIP = 10.0


class Labelled(NamedTuple):
    """One or several configurations as the network sees them, in float32."""

    d: Tensor
    """``(E, 3)``, Å."""
    centre: Tensor
    """``(E,)``."""
    other: Tensor
    """``(E,)``."""
    energies: Tensor
    """``(k,)``, eV."""
    forces: Tensor
    """``(n, 3)``, eV/Å, n atoms of all k configurations together."""


@dataclass(frozen=True)
class Fit:
    """How to fit: number of updates, and the seed of the order of the samples."""

    updates: int
    seed: int = 0

    def rate(self, update: int) -> float:
        """Learning rate of an update."""
        return LAST_RATE + RATE * 0.5 * (1 + cos(pi * update / self.updates))


def labelled(data: Configurations, cutoff: float) -> list[Labelled]:
    """Find the edges of every configuration."""
    found = []
    rows = zip(data.positions, data.box, data.energies, data.forces, strict=True)
    for positions, box, energy, forces in rows:
        cell = np.eye(3) * box
        edges = neighbor_list(positions, cell, True, cutoff)
        d = torch.from_numpy(edge_vectors(positions, cell, edges)).float()
        ends = torch.from_numpy(edges.centre), torch.from_numpy(edges.other)
        found.append(
            Labelled(d, *ends, torch.tensor([energy]).float(), torch.tensor(forces).float())
        )
    return found


def joined(parts: Sequence[Labelled]) -> Labelled:
    """Several configurations as one disconnected graph."""
    sizes = [len(part.forces) for part in parts]
    starts = np.cumsum([0, *sizes[:-1]]).tolist()
    return Labelled(
        torch.cat([part.d for part in parts]),
        torch.cat([part.centre + s for part, s in zip(parts, starts, strict=True)]),
        torch.cat([part.other + s for part, s in zip(parts, starts, strict=True)]),
        torch.cat([part.energies for part in parts]),
        torch.cat([part.forces for part in parts]),
    )


def predict(network: SchNet, batch: Labelled, *, train: bool) -> tuple[Tensor, Tensor]:
    """Energies ``(k,)`` and forces ``(n, 3)``; in training, with their graph."""
    n = len(batch.forces)
    d = batch.d.detach().requires_grad_()
    numbers = torch.full((n,), ARGON)
    u = network(numbers, d, batch.centre, batch.other, n)
    (gradient,) = torch.autograd.grad(u.sum(), d, create_graph=train)
    forces = torch.zeros_like(batch.forces).index_add(0, batch.centre, gradient)
    forces = forces.index_add(0, batch.other, -gradient)
    return u.reshape(len(batch.energies), -1).sum(1), forces


def fit(
    network: SchNet,
    data: Sequence[Labelled],
    plan: Fit,
    progress: Callable[[int, float], None],
) -> None:
    """Fit the network in place; its weights end as the average.

    Args:
        network: float32.
        data: training configurations, all of the same number of atoms.
        plan: how long.
        progress: called after every update with its number and loss.
    """
    order = np.random.default_rng(plan.seed)
    optimiser = torch.optim.Adam(network.parameters(), lr=plan.rate(0))
    force_scale = torch.cat([part.forces for part in data]).square().mean().sqrt()
    energy_scale = torch.cat([part.energies for part in data]).std()
    average = [weight.detach().clone() for weight in network.parameters()]
    for update in range(plan.updates):
        optimiser.param_groups[0]["lr"] = plan.rate(update)
        batch = joined([data[k] for k in order.choice(len(data), BATCH, replace=False)])
        energies, forces = predict(network, batch, train=True)
        loss = ((forces - batch.forces) / force_scale).square().mean()
        misfit = (energies - batch.energies) / energy_scale
        loss = loss + ENERGY_WEIGHT * misfit.square().mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP)
        optimiser.step()
        _average(average, network, min(DECAY, update / (update + 10)))
        progress(update, loss.item())
    with torch.no_grad():
        for weight, mean in zip(network.parameters(), average, strict=True):
            weight.copy_(mean)


def _average(average: list[Tensor], network: SchNet, decay: float) -> None:
    for mean, weight in zip(average, network.parameters(), strict=True):
        mean.lerp_(weight.detach(), 1 - decay)


def errors(network: SchNet, data: Sequence[Labelled]) -> dict[str, float]:
    """Errors: energies in meV/atom, forces in meV/Å, and relative to the rms force."""
    energy, force, scale = [], [], []
    for part in data:
        energies, forces = predict(network, part, train=False)
        energy.append((energies - part.energies).detach() / len(part.forces))
        force.append((forces - part.forces).detach())
        scale.append(part.forces)
    e, f, reference = torch.cat(energy), torch.cat(force), torch.cat(scale)
    rmse = f.square().mean().sqrt()
    return {
        "energy_mae": 1e3 * e.abs().mean().item(),
        "energy_rmse": 1e3 * e.square().mean().sqrt().item(),
        "force_mae": 1e3 * f.abs().mean().item(),
        "force_rmse": 1e3 * rmse.item(),
        "force_relative": (rmse / reference.square().mean().sqrt()).item(),
    }
