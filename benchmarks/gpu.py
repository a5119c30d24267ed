"""Steps on a GPU: forces, forces with heat flux, replicas in one batch, output on.

    python benchmarks/gpu.py [--seconds 5] [--json benchmarks/results/gpu.json]
                             [--model FILE --structure FILE]

A SchNet of the shape of the ZrO2 model (2 layers, 128 features, 5 Å) on fluorite ZrO2, as
in `step_time.py`, moved by velocity Verlet. What is timed is what a run does:
`DeviceSteps.advance`, samples copied to the host, lists rebuilt as needed, CUDA graphs once
they are recorded. Untrained forces hold no crystal together, so atoms move as at 1 K, and
lists last as they do in a crystal; with a trained model and a structure of its own they
move at 300 K, 4 fs a step.

- bare: no samples; flux: heat flux and energies at every step, then at every second;
- output: heat flux at every second step, positions and velocities at every tenth;
- eager: the same kernels without graphs; batch: `Batch.forces`, arrays to and fro;
- torch: the plain torch engine on the same device, where Triton is missing.

`targets` says what the design asks of an H200, and whether it was met here. Without a CUDA
device it says so and ends; ``--device cpu`` runs all of it in plain torch on a few atoms,
to see that it runs: those times mean nothing.
"""

import argparse
import time
from collections.abc import Callable, Collection
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import measuring
import numpy as np
import torch
from step_time import zirconia

from gkflux.dynamics.device_movers import DeviceVerlet
from gkflux.dynamics.device_steps import DeviceSteps
from gkflux.dynamics.state import State, draw_velocities
from gkflux.potentials.load import load_model
from gkflux.potentials.schnet import Architecture, SchNet
from gkflux.potentials.schnet_gpu import DeviceBatch, DeviceSchNet
from gkflux.potentials.schnet_gpu_weights import DeviceWeights
from gkflux.potentials.schnet_torch import TorchBatch
from gkflux.system import System

SMALL = ("heat_flux", "energy", "energy_kinetic", "temperature")
DUE: dict[str, Callable[[int], Collection[str]]] = {
    "bare": lambda step: (),
    "flux": lambda step: SMALL,
    "flux_every_2": lambda step: SMALL if step % 2 == 0 else (),
    "output": lambda step: (
        (*SMALL, "positions", "velocities")
        if step % 10 == 0
        else SMALL
        if step % 2 == 0
        else ()
    ),
}


@dataclass(frozen=True)
class Case:
    """A network, and how its atoms move: K, fs."""

    network: SchNet
    device: str
    structure: System | None
    kelvin: float
    timestep: float

    def system(self, atoms: int) -> System:
        """The structure, or fluorite of so many atoms."""
        return zirconia(atoms) if self.structure is None else self.structure


def steps_of(net: DeviceSchNet, system: System, case: Case) -> DeviceSteps:
    """Replicas, ready to go."""
    everyone = range(net.replicas)
    v = draw_velocities(system.masses, case.kelvin, seed=1, stage=0, replicas=everyone)
    x = np.stack([system.positions] * net.replicas)
    return DeviceSteps(
        net,
        State.at_rest(x, v),
        DeviceVerlet(net, system.masses, timestep=case.timestep),
        masses=system.masses,
        volume=system.volume,
        timestep=case.timestep,
        longest=2.5,
    )


def per_step(
    steps: DeviceSteps, due: Callable[[int], Collection[str]], seconds: float
) -> dict[str, float]:
    """Median and least time of a step, ms, in portions of 320 steps."""
    portion, taken = 320 if steps.graphs else 32, list[float]()
    for _ in range(4 if steps.graphs else 1):  # compile, record, settle
        steps.advance(portion, due)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(taken) < 3:
        start = time.perf_counter()
        steps.advance(portion, due)
        taken.append(1e3 * (time.perf_counter() - start) / portion)
    return {"median_ms": float(np.median(taken)), "minimum_ms": min(taken)}


def measure(case: Case, atoms: int, replicas: int, seconds: float) -> dict[str, Any]:
    """All rows of one size."""
    weights = DeviceWeights.of(deepcopy(case.network), case.device)
    system = case.system(atoms)
    systems = [system] * replicas
    steps = steps_of(DeviceSchNet(weights, systems), system, case)
    steps.begin()
    found: dict[str, Any] = {"atoms": system.n_atoms, "replicas": replicas}
    for name, due in DUE.items():
        found[name] = per_step(steps, due, seconds)
        measuring.tell(f"{replicas} x {system.n_atoms} {name}: {found[name]}")
    if steps.graphs:
        steps.graphs = False
        found["eager"] = per_step(steps, DUE["bare"], seconds / 5)
    x = np.stack([system.positions] * replicas)
    engines: dict[str, Any] = {"batch": DeviceBatch(DeviceSchNet(weights, systems))}
    if replicas == 1:
        network = deepcopy(case.network).float().to(case.device)
        engines["torch"] = TorchBatch(network, systems, None)
    for name, engine in engines.items():
        for _ in range(3):
            engine.forces(x)
        found[name] = {"median_ms": measuring.median_ms(lambda e=engine: e.forces(x), 20)}
    lists = steps._net.lists
    found |= {"edges": lists.edges, "skin": lists.skin, "rebuilds": lists.rebuilds}
    found["flux_over_bare"] = found["flux"]["median_ms"] / found["bare"]["median_ms"]
    return found


def targets(sizes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of the design for an H200."""
    one = next((s for s in sizes if s["atoms"] == 1500 and s["replicas"] == 1), None)
    many = next((s for s in sizes if s["atoms"] == 1500 and s["replicas"] == 11), None)
    rows: list[tuple[str, float | None, float]] = [
        ("1500 atoms, ms a step", one and one["bare"]["median_ms"], 0.3),
        (
            "1500 atoms, a step with flux over one without",
            one and one["flux_over_bare"],
            1.4,
        ),
        ("1500 atoms with flux, ms a step", one and one["flux"]["median_ms"], 0.4),
        (
            "11 x 1500 atoms, flux every second step, ms a step",
            many and many["flux_every_2"]["median_ms"],
            4.0,
        ),
    ]
    return [
        {"what": what, "found": found, "at_most": limit, "met": found <= limit}
        for what, found, limit in rows
        if found is not None
    ]


def case_of(options: argparse.Namespace) -> Case:
    """What the options ask for."""
    if options.model is None:
        torch.manual_seed(0)
        network = SchNet(Architecture(), stddev=1e-3).requires_grad_(False)
        return Case(network, options.device, None, kelvin=1.0, timestep=1.0)
    network = load_model(options.model).network
    structure = System.read(options.structure)
    return Case(network, options.device, structure, kelvin=300.0, timestep=4.0)


def main() -> None:
    """Measure, print, write."""
    parser = measuring.parser(__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="a row")
    parser.add_argument("--device", default="cuda", help="cpu: only to see that it runs")
    parser.add_argument("--model", type=Path, help="trained; with --structure")
    parser.add_argument("--structure", type=Path, help="near equilibrium at 300 K")
    options = parser.parse_args()
    if (options.model is None) != (options.structure is None):
        parser.error("--model and --structure go together")
    cuda = options.device.startswith("cuda")
    if cuda and not torch.cuda.is_available():
        measuring.tell("there is no CUDA device here: nothing was measured")
        return
    case = case_of(options)
    sizes = [(96, 1), (1500, 1), (1500, 11)] if cuda else [(12, 1), (12, 2)]
    if case.structure is not None:
        sizes = [(0, 1), (0, 11)]
    found = [measure(case, *size, options.seconds) for size in sizes]
    report = {
        "device": torch.cuda.get_device_name() if cuda else "cpu: no measurement",
        "cuda": torch.version.cuda,
        "machine": measuring.machine("torch", "triton", "numpy"),
        "model": "untrained" if options.model is None else options.model.name,
        "sizes": found,
        "targets": targets(found),
    }
    measuring.report(measuring.rounded(report), options.json)


if __name__ == "__main__":
    main()
