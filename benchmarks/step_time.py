"""How long a force call and a heat flux take, beside SchNetPack and plain autograd.

    python benchmarks/step_time.py [--atoms 96 768 1500] [--seconds 10] [--json FILE]
                                   [--figure FILE]

A SchNet of the shape of the ZrO2 model (2 layers, 128 features, 5 Å; its numbers do not
change the time) on fluorite ZrO2, jittered by 0.05 Å. Measured in turns in one process, so
that a busy machine slows all of them alike. A turn is several calls after a pause: threads
of torch spin for a while after their work, and would count against whoever comes next.

- autograd: the same network in plain torch, float32, forces by backward, list given;
- forces: one `Batch.forces` with a standing neighbour list;
- flux: one `Batch.heat_flux` after it, semilocal, both gauges;
- moving: `Batch.forces` along a random walk of 0.01 Å a step, lists rebuilt as needed;
- SchNetPack network: SchNetPack 2.1.1 with the same weights, forces, list given;
- SchNetPack calculator: its ASE calculator on the same walk, with its own list. Where it is
  not installed (`schnetpack_peer` says how), the result has the reason.

Times are medians and minima in ms; ratios are of medians of the same run.
"""

import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import measuring
import numba
import numpy as np
import torch
from numpy.typing import NDArray

from gkflux.neighbors import edge_vectors, neighbor_list
from gkflux.potentials.schnet import Architecture, SchNet
from gkflux.potentials.schnet_potential import SchNetPotential
from gkflux.system import System

Floats = NDArray[np.float64]

# Å: the density of monoclinic ZrO2
LATTICE = 5.2
# s, between turns
PAUSE = 0.02
PEERS = {"SchNetPack network": "forces", "SchNetPack calculator": "moving"}
CORNERS = np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]]) / 2


def zirconia(atoms: int) -> System:
    """Fluorite ZrO2 of 12 k^3 atoms."""
    k = round((atoms / 12) ** (1 / 3))
    oxygen = np.concatenate([CORNERS + 0.25, CORNERS + 0.75])
    cell = System(
        positions=np.concatenate([CORNERS, oxygen]) * LATTICE,
        numbers=[40] * 4 + [8] * 8,
        cell=np.eye(3) * LATTICE,
    ).repeat(k)
    noise = np.random.default_rng(0).normal(0, 0.05, cell.positions.shape)
    return cell.moved(cell.positions + noise)


def autograd(network: SchNet, system: System) -> Callable[[], object]:
    """Forces of the plain network by one backward pass, the list left out of the time."""
    edges = neighbor_list(system.positions, system.cell, system.pbc, network.shape.cutoff)
    d = torch.tensor(edge_vectors(system.positions, system.cell, edges)).float()
    centre, other = torch.tensor(edges.centre), torch.tensor(edges.other)
    numbers = torch.tensor(system.numbers)

    def call() -> object:
        vectors = d.clone().requires_grad_()
        energy = network(numbers, vectors, centre, other, system.n_atoms).sum()
        (g,) = torch.autograd.grad(energy, vectors)
        forces = torch.zeros(system.n_atoms, 3)
        return forces.index_add(0, centre, g).index_add(0, other, g, alpha=-1)

    return call


def walk(batch: Any, positions: Floats) -> Callable[[], object]:
    """Forces at positions that move on at every call."""
    rng, state = np.random.default_rng(1), positions.copy()

    def call() -> object:
        state[:] += rng.normal(0, 0.01 / np.sqrt(3), state.shape)
        return batch.forces(state)

    return call


def add_schnetpack(
    calls: dict[str, Callable[[], object]],
    network: SchNet,
    system: System,
    forces: Floats,
) -> dict[str, Any]:
    """Add its two ways, where it can be had; say how far its forces are from ours, eV/Å."""
    try:
        import schnetpack_peer

        theirs = schnetpack_peer.network_forces(network, system)
        calls["SchNetPack network"] = theirs
        calls["SchNetPack calculator"] = schnetpack_peer.calculator(network, system)
    except Exception as error:  # part of the result
        return {"schnetpack": f"failed: {type(error).__name__}: {error}"[:200]}
    return {"schnetpack": {"largest_difference": float(np.abs(theirs() - forces).max())}}


def measure(
    calls: dict[str, Callable[[], object]], seconds: float
) -> dict[str, list[float]]:
    """Time the calls in turns, three at a time, each at least five times."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        for _ in range(3):
            call()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or min(map(len, times.values())) < 5:
        for name, call in calls.items():
            time.sleep(PAUSE)
            for _ in range(3):
                start = time.perf_counter()
                call()
                times[name].append(1e3 * (time.perf_counter() - start))
    return times


def benchmark(atoms: int, seconds: float) -> dict[str, Any]:
    """All times of one size, and their ratios."""
    torch.manual_seed(0)
    network = SchNet(Architecture()).requires_grad_(False)
    system = zirconia(atoms)
    x = system.positions[None].copy()
    v = np.random.default_rng(2).normal(0, 0.005, x.shape)
    potential = SchNetPotential(network)
    still, moving = potential.batch([system]), potential.batch([system])
    calls: dict[str, Callable[[], object]] = {
        "forces": lambda: still.forces(x),
        "flux": lambda: still.heat_flux(v, lattice=x[0]),
        "moving": walk(moving, x),
        "autograd": autograd(network, system),
    }
    peer = add_schnetpack(calls, network, system, still.forces(x).forces[0])
    times = measure(calls, seconds)
    median = {name: float(np.median(t)) for name, t in times.items()}
    return peer | {
        "atoms": system.n_atoms,
        "edges": len(neighbor_list(x[0], system.cell, system.pbc, 5.0)),
        "median_ms": median,
        "minimum_ms": {name: min(t) for name, t in times.items()},
        "calls": len(times["forces"]),
        "speedup_over_autograd": median["autograd"] / median["forces"],
        "flux_step_over_force_step": 1 + median["flux"] / median["forces"],
        "moving_over_still": median["moving"] / median["forces"],
        "speedup_over_schnetpack": {
            name.removeprefix("SchNetPack "): median[name] / median[ours]
            for name, ours in PEERS.items()
            if name in median
        },
    }


def draw(results: list[dict[str, Any]], path: Path) -> None:
    """Time against atoms, for the README."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes = figure.add_subplot()
    atoms = [result["atoms"] for result in results]
    for name in ("SchNetPack calculator", "autograd", "forces"):
        times = [r["median_ms"].get(name, np.nan) for r in results]
        axes.loglog(atoms, times, "o-", label=name.replace("autograd", "torch autograd"))
    both = [r["median_ms"]["forces"] + r["median_ms"]["flux"] for r in results]
    axes.loglog(atoms, both, "s--", label="forces and exact heat flux")
    axes.set(xlabel="atoms", ylabel="ms a step")
    axes.legend(frameon=False)
    figure.savefig(path)


def main() -> None:
    """Measure, print, write."""
    parser = measuring.parser(__doc__)
    parser.add_argument("--atoms", type=int, nargs="+", default=[96, 768, 1500])
    parser.add_argument("--seconds", type=float, default=10.0, help="a size")
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    report = {
        "machine": platform.machine(),
        "threads": numba.get_num_threads(),
        "torch": torch.__version__,
        "numba": numba.__version__,
        "sizes": [benchmark(atoms, options.seconds) for atoms in options.atoms],
    }
    measuring.report(report, options.json)
    if options.figure:
        draw(report["sizes"], options.figure)


if __name__ == "__main__":
    main()
