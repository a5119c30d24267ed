"""SchNetPack 2.1.1 with the weights of one of our networks, for `step_time`.

    pip install -r benchmarks/requirements-schnetpack.txt
    pip install --no-deps schnetpack==2.1.1        # its pins exclude today's numpy

Two ways to its forces: the network alone, its inputs given, which is the least it can take;
and its ASE calculator with its own neighbour list (matscipy, the fastest of those it has),
which is what its users run.
"""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from gkflux.neighbors import edge_vectors, neighbor_list
from gkflux.potentials.schnet import SchNet
from gkflux.system import System

__all__ = ["calculator", "network_forces"]

TRUSTED = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
"""It loads whole modules, which torch refuses since 2.6; this one was written here."""


def _schnetpack() -> SimpleNamespace:
    """Import it; with torch 2.13 that needs a name which torch has dropped."""
    from torch.utils.data import dataloader

    if not hasattr(dataloader, "T_co"):
        dataloader.T_co = TypeVar("T_co", covariant=True)  # type: ignore[attr-defined]
    from schnetpack import atomistic, representation, transform
    from schnetpack import nn as layers
    from schnetpack.interfaces import SpkCalculator
    from schnetpack.model import NeuralNetworkPotential

    return SimpleNamespace(
        atomistic=atomistic,
        layers=layers,
        representation=representation,
        transform=transform,
        SpkCalculator=SpkCalculator,
        NeuralNetworkPotential=NeuralNetworkPotential,
    )


def _translated(network: SchNet) -> nn.Module:
    """The same network, of SchNetPack's modules: U = stddev readout + mean, by atom."""
    spk, shape = _schnetpack(), network.shape
    inner = spk.representation.SchNet(
        n_atom_basis=shape.features,
        n_interactions=shape.interactions,
        radial_basis=spk.layers.GaussianRBF(n_rbf=shape.gaussians, cutoff=shape.cutoff),
        cutoff_fn=spk.layers.CosineCutoff(shape.cutoff),
        n_filters=shape.n_filters,
    )
    readout = spk.atomistic.Atomwise(
        n_in=shape.features,
        n_hidden=[shape.n_readout],
        activation=spk.layers.shifted_softplus,
        output_key="energy",
    )
    _copy(network, inner, readout)
    model: nn.Module = spk.NeuralNetworkPotential(
        inner,
        [spk.atomistic.PairwiseDistances()],
        [readout, spk.atomistic.Forces()],
    )
    return model.eval()


def _copy(network: SchNet, inner: Any, readout: Any) -> None:
    """Copy the weights; scale and mean go into the last layer of the readout."""
    pairs = [(inner.embedding.weight, network.embedding.weight)]
    for ours, theirs in zip(network.interactions, inner.interactions, strict=True):
        pairs += [
            (theirs.in2f.weight, ours.in2f.weight),
            *_linear(theirs.filter_network[0], ours.filter.first),
            *_linear(theirs.filter_network[1], ours.filter.second),
            *_linear(theirs.f2out[0], ours.f2out),
            *_linear(theirs.f2out[1], ours.dense),
        ]
    pairs += _linear(readout.outnet[0], network.hidden)
    with torch.no_grad():
        for theirs, ours in pairs:
            theirs.copy_(ours)
        last = readout.outnet[1]
        last.weight.copy_(network.out.weight * network.stddev)
        last.bias.copy_(network.out.bias * network.stddev + network.mean)


def _linear(theirs: Any, ours: Any) -> list[tuple[Any, Any]]:
    return [(theirs.weight, ours.weight), (theirs.bias, ours.bias)]


def network_forces(network: SchNet, system: System) -> Callable[[], np.ndarray]:
    """Its forces of one structure, its neighbour list left out of the time."""
    model = _translated(network)
    edges = neighbor_list(system.positions, system.cell, system.pbc, network.shape.cutoff)
    d = edge_vectors(system.positions, system.cell, edges)
    r = system.positions
    offsets = d - (r[edges.other] - r[edges.centre])
    inputs = {
        "_n_atoms": torch.tensor([system.n_atoms]),
        "_atomic_numbers": torch.tensor(system.numbers),
        "_positions": torch.tensor(r).float(),
        "_idx_i": torch.tensor(edges.centre).long(),
        "_idx_j": torch.tensor(edges.other).long(),
        "_offsets": torch.tensor(offsets).float(),
        "_idx_m": torch.zeros(system.n_atoms, dtype=torch.long),
    }

    def call() -> np.ndarray:
        found: np.ndarray = model(dict(inputs))["forces"].detach().numpy()
        return found

    return call


def calculator(network: SchNet, system: System) -> Callable[[], np.ndarray]:
    """Its forces by its ASE calculator, of atoms that move a little at every call."""
    from ase import Atoms

    spk, rng = _schnetpack(), np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        torch.save(_translated(network), path)
        os.environ[TRUSTED] = "1"
        theirs = spk.SpkCalculator(
            str(path),
            neighbor_list=spk.transform.MatScipyNeighborList(network.shape.cutoff),
            energy_unit="eV",
        )
        del os.environ[TRUSTED]
    atoms = Atoms(
        system.numbers, positions=system.positions, cell=system.cell, pbc=system.pbc
    )
    atoms.calc = theirs

    def call() -> np.ndarray:
        atoms.positions += rng.normal(0, 0.01 / np.sqrt(3), atoms.positions.shape)
        found: np.ndarray = atoms.get_forces()
        return found

    return call
