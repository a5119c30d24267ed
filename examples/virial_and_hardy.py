"""Are the virial and the Hardy form of the heat flux equivalent?

    python examples/virial_and_hardy.py

asks one, two and three interaction layers, and needs nothing but this repository; some
minutes on two cores. Three things are compared: the definition (`hardy`: every derivative
dU_i/dr_j, on the crystal written out in full), our exact form on the ordinary periodic
graph (`semilocal`), and the virial form, which only knows the gradients of the edges
(`local`).

1. Three small networks learn Lennard-Jones argon at 40 K, each in half a minute. They see
   4.5 Å, the first shell of neighbours; the teacher reaches 8.5 Å. What lies between, a
   network with one layer cannot know; with more it arrives by messages. So these messages
   do what messages are for, and nobody made them large for the occasion.
2. On a cell of 32 atoms, in float64, both forms are held against `hardy`.
3. Each network then runs its own crystal of 108 atoms at constant energy, and both fluxes
   are taken along the same trajectory, in the gauge of the lattice. What they share, all
   the noise of a short trajectory, cancels in the difference: the error that is printed
   with it is that of the mean of paired blocks.

It has printed

           exact  virial       virial
            less    less  less exact,         kappa,  kappa,      difference
   layers  Hardy   Hardy          rms          exact  virial        of kappa
        1  3e-15   3e-15        0e+00  0.462 ± 0.043   0.462  +0.00 ± 0.00 %
        2  1e-15    3.7%         2.8%  0.312 ± 0.032   0.310  -0.66 ± 0.13 %
        3  1e-15    4.0%         4.5%  0.323 ± 0.040   0.316  -2.16 ± 0.40 %

(the conductivities are those of three small networks, not of argon).

A network of your own, for example the one of the publication, is asked with

    python examples/virial_and_hardy.py --model model_n2.torch \\
        --structure 300K-96-atoms.in --lattice 300K-96-atoms-lattice.in \\
        --small primitive.in --temperature 300 --timestep 4
"""

import argparse
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for the teacher

import gkflux
from gkflux.conductivity import prefactor
from gkflux.dynamics.state import draw_velocities
from gkflux.flux import edge_powers, fit_lattice, hardy_flux, local_power
from gkflux.potentials.base import Potential
from gkflux.potentials.schnet import Architecture, SchNet
from gkflux.potentials.schnet_potential import SchNetPotential
from gkflux.system import System
from models.argon.fit import Fit, errors, fit, labelled
from models.argon.states import Configurations
from models.argon.teacher import ARGON, fcc, sample
from stepson.units import BOLTZMANN, KINETIC

Array = NDArray[np.float64]

LATTICE = 5.33
"""Å, of the teacher at 40 K and no pressure."""
WARM = 10_000.0
"""fs that are forgotten."""
LAG = 8_000.0
"""fs to which autocorrelations are integrated; kappa is the mean over its last quarter."""


class Case(NamedTuple):
    """A network and its crystal."""

    single: Potential
    """For the trajectory."""
    double: Potential
    """The same in float64."""
    start: System
    sites: Array
    """``(n, 3)``, Å, next to the atoms of the start."""
    small: System
    """For the definition."""


@dataclass(frozen=True)
class Length:
    """How much is computed."""

    updates: int
    """Of the weights, by network."""
    replicas: int
    picoseconds: float
    """Of each replica."""
    timestep: float
    """fs."""
    every: int
    """Steps between two fluxes."""
    temperature: float
    """K."""


class Answer(NamedTuple):
    """One row of the table."""

    layers: int
    exact: float
    """|semilocal - hardy| / |hardy| on the small cell."""
    virial: float
    """|local - hardy| / |hardy| there."""
    rms: float
    """Of local - semilocal over that of semilocal, along the trajectory."""
    kappa: tuple[float, float]
    """By semilocal, and its error, W/(m K)."""
    local: float
    """By local."""
    difference: tuple[float, float]
    """Of the two, and its paired error, W/(m K)."""


# -------------------------------------------------------------------- the networks


def teach(temperature: float, seed: int = 0) -> Configurations:
    """Draw 520 configurations of the teacher's crystal of 32 atoms, half of them hotter."""
    start, side = fcc(LATTICE, 2)
    parts = []
    for index, kelvin in enumerate((temperature, 1.6 * temperature)):
        rng = np.random.default_rng([seed, index])
        found = sample(start, side, np.full(13_500, kelvin), 5.0, 0.01, 50, rng)
        parts.append([column[10:] for column in found])
    positions, energies, forces = (
        np.concatenate(column) for column in zip(*parts, strict=True)
    )
    sides, state = np.full(len(energies), side), np.zeros(len(energies))
    return Configurations(positions, sides, energies, forces, state)


def train(layers: int, data: Configurations, updates: int) -> tuple[SchNet, float]:
    """Fit a network; also returns its force error, relative to the rms force."""
    torch.manual_seed(layers)
    shape = Architecture(
        features=16, gaussians=20, cutoff=4.5, interactions=layers, max_z=ARGON + 1
    )
    mean = float(data.energies.mean() / data.positions.shape[1])
    network = SchNet(shape, mean=mean, stddev=0.02)
    graphs = labelled(data, shape.cutoff)
    fit(network, graphs, Fit(updates), lambda update, loss: None)
    return network, errors(network, graphs)["force_relative"]


def argon(network: SchNet) -> Case:
    """A crystal of argon for one of these networks."""
    single, double = (
        SchNetPotential(network, elements=frozenset({ARGON}), dtype=dtype)
        for dtype in ("float32", "float64")
    )
    crystals = []
    for repeat in (3, 2):
        positions, side = fcc(LATTICE, repeat)
        crystals.append(
            System(positions=positions, numbers=[ARGON] * len(positions), cell=[side] * 3)
        )
    large, small = crystals
    return Case(single, double, large, np.array(large.positions), shaken(small))


def shaken(system: System) -> System:
    """The same with atoms and velocities of some temperature."""
    rng = np.random.default_rng(1)
    moved = system.positions + rng.normal(0, 0.15, system.positions.shape)
    return system.moved(moved, velocities=rng.normal(0, 2e-3, system.positions.shape))


def given(model: Path, structure: Path, lattice: Path, small: Path) -> Case:
    """A model and a crystal from files."""
    single, double = (gkflux.load_potential(model, dtype=d) for d in ("float32", "float64"))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)  # of ASE's readers
        start, perfect, part = map(System.read, (structure, lattice, small))
    return Case(single, double, start, fit_lattice(start, perfect), shaken(part))


# -------------------------------------------------------------------- fluxes and kappa


def by_definition(case: Case) -> tuple[float, float]:
    """Distance of the exact and of the virial form from the definition, relative."""
    v: Any = case.small.velocities
    powers = edge_powers(case.double, case.small, v)
    hardy = hardy_flux(case.double, case.small, v)
    forms = powers.flux(), powers.flux(power=local_power(powers))
    exact, virial = (np.linalg.norm(j - hardy) / np.linalg.norm(hardy) for j in forms)
    return float(exact), float(virial)


def trajectory(case: Case, length: Length) -> tuple[Array, Array, float]:
    """Fluxes ``(replicas, samples, 3)``, exact and virial, eV Å/fs, and temperature, K.

    Velocity Verlet at constant energy, from the lattice with twice the temperature: half
    of it has become potential energy when the first picoseconds are over.
    """
    system, replicas, h = case.start, range(length.replicas), length.timestep
    batch = case.single.batch([system] * length.replicas)
    x = np.repeat(case.sites[None], length.replicas, axis=0)
    v = draw_velocities(
        system.masses, 2 * length.temperature, seed=0, stage=0, replicas=replicas
    )
    mass = KINETIC * system.masses[:, None]
    warm, steps = round(WARM / h), round((WARM + 1e3 * length.picoseconds) / h)
    forces, kinetic, found = batch.forces(x).forces, [], list[tuple[Array, Array]]()
    for step in range(steps):
        v += 0.5 * h * forces / mass
        x = x + h * v
        forces = batch.forces(x).forces
        v += 0.5 * h * forces / mass
        if step >= warm and step % length.every == 0:
            both = [
                batch.heat_flux(v, formulation=form, lattice=case.sites).lattice
                for form in ("semilocal", "local")
            ]
            assert both[0] is not None
            assert both[1] is not None
            found.append((both[0], both[1]))
            kinetic.append(0.5 * float((mass * v * v).sum()))
    freedom = 3 * (system.n_atoms - 1) * length.replicas
    exact, virial = np.moveaxis(np.array(found), (1, 2), (0, 1))
    return exact, virial, 2 * float(np.mean(kinetic)) / (freedom * BOLTZMANN)


def kappas(flux: Array, spacing: float, scale: float) -> Array:
    """Conductivity of every block of every replica, W/(m K), mean of three directions.

    Args:
        flux: ``(replicas, samples, 3)``, eV Å/fs.
        spacing: fs between two samples.
        scale: 1 / (V kB T²) in W/(m K), for fluxes in eV Å/fs and times in fs.
    """
    lags = round(LAG / spacing)
    blocks = max(1, flux.shape[1] // (3 * lags))
    size = flux.shape[1] // blocks
    parts = flux[:, : blocks * size].reshape(-1, size, 3)
    power = np.abs(np.fft.rfft(parts, 2 * size, axis=1)) ** 2
    sums = np.fft.irfft(power.mean(axis=2), axis=1)[:, : lags + 1]
    autocorrelation = sums / (size - np.arange(lags + 1))
    steps = (autocorrelation[:, 1:] + autocorrelation[:, :-1]) / 2
    integral = np.cumsum(steps, axis=1) * spacing * scale
    return np.asarray(integral[:, 3 * lags // 4 :].mean(axis=1))


def ask(case: Case, length: Length) -> Answer:
    """Everything about one network."""
    exact, virial = by_definition(case)
    semilocal, local, temperature = trajectory(case, length)
    scale = prefactor(volume=case.start.volume, temperature=temperature)
    spacing = length.every * length.timestep
    a, b = (kappas(flux, spacing, scale) for flux in (semilocal, local))
    rms = np.sqrt(np.mean((local - semilocal) ** 2) / np.mean(semilocal**2))
    return Answer(
        case.single.layers,
        exact,
        virial,
        float(rms),
        mean_and_error(a),
        float(b.mean()),
        mean_and_error(b - a),
    )


def mean_and_error(values: Array) -> tuple[float, float]:
    """Mean and standard error of independent values."""
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return float(values.mean()), float(error)


# -------------------------------------------------------------------- the answer


def table(answers: Sequence[Answer], length: Length) -> Table:
    """What was found, as a picture."""
    drawn = Table(
        title="Is the virial form the Hardy heat flux?",
        caption=f"Hardy: relative, on one small cell. The rest: {length.replicas} runs of "
        f"{length.picoseconds:g} ps; kappa in W/(m K), difference paired by blocks.",
        box=box.SIMPLE,
        padding=(0, 0, 0, 1),
        show_edge=False,
    )
    for head in (
        "\n\nlayers",
        "exact\nless\nHardy",
        "virial\nless\nHardy",
        "virial\nless exact,\nrms",
        "\nkappa,\nexact",
        "\nkappa,\nvirial",
        "\ndifference\nof kappa",
    ):
        drawn.add_column(head, justify="right", no_wrap=True)
    for row in answers:
        kappa, error = row.kappa
        change, paired = (100 * value / kappa for value in row.difference)
        drawn.add_row(
            str(row.layers),
            f"{row.exact:.0e}",
            small(row.virial),
            small(row.rms),
            f"{kappa:.3f} ± {error:.3f}",
            f"{row.local:.3f}",
            f"{change:+.2f} ± {paired:.2f} %",
        )
    return drawn


def small(ratio: float) -> str:
    """A percentage, or a power of ten where it would be nothing but zeros."""
    if ratio < 1e-3:
        return f"{ratio:.0e}"
    return f"{ratio:.1%}" if ratio < 0.1 else f"{ratio:.0%}"


def sentence(answers: Sequence[Answer]) -> str:
    """The answer, from the numbers and nothing else."""
    one = [row for row in answers if row.layers == 1]
    more = [row for row in answers if row.layers > 1]
    parts = []
    if one:
        parts.append("with one layer they are one function, to the last digit")
    if more:
        sizes = " and ".join(small(row.virial) for row in more)
        who = "with more they are not" if one else "with several layers they are not equal"
        parts.append(
            f"{who}: without the power that messages carry the flux is wrong by {sizes}"
        )
    seen = [row for row in more if abs(row.difference[0]) > 3 * row.difference[1]]
    if seen:
        shifts = " and ".join(
            f"{100 * row.difference[0] / row.kappa[0]:+.1f} ± "
            f"{100 * row.difference[1] / row.kappa[0]:.1f} %"
            for row in seen
        )
        parts.append(f"which is no gauge, kappa changes by {shifts}")
    elif more:
        parts.append("which runs as short as these do not resolve in kappa")
    return "Answer: " + ", ".join(parts) + "."


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--updates", type=int, default=2000, help="of the weights")
    parser.add_argument("--replicas", type=int, default=6)
    parser.add_argument("--picoseconds", type=float, default=100, help="of each replica")
    parser.add_argument("--temperature", type=float, default=40, help="K")
    parser.add_argument("--timestep", type=float, default=5, help="fs")
    parser.add_argument("--model", type=Path, help="ask this network instead")
    parser.add_argument("--structure", type=Path, help="its crystal")
    parser.add_argument("--lattice", type=Path, help="equilibrium positions of that")
    parser.add_argument("--small", type=Path, help="a small crystal of it, for Hardy")
    options = parser.parse_args(arguments)
    if options.model and not (options.structure and options.lattice):
        parser.error("--model needs --structure and --lattice")
    length = Length(
        updates=options.updates,
        replicas=options.replicas,
        picoseconds=options.picoseconds,
        timestep=options.timestep,
        every=4,
        temperature=options.temperature,
    )
    console = Console()
    if options.model:
        small_one = options.small or options.structure
        cases = [given(options.model, options.structure, options.lattice, small_one)]
    else:
        cases = list(taught(length, console))
    answers = []
    for case in cases:
        console.print(f"{_layers(case.single.layers)}: {length.replicas} trajectories ...")
        answers.append(ask(case, length))
    console.print(table(answers, length))
    console.print(sentence(answers))


def taught(length: Length, console: Console) -> Iterator[Case]:
    """Networks of one, two and three layers, trained in front of your eyes."""
    data = teach(length.temperature)
    for layers in (1, 2, 3):
        network, error = train(layers, data, length.updates)
        console.print(f"{_layers(layers)}: trained, forces are wrong by {error:.0%}")
        yield argon(network)


def _layers(count: int) -> str:
    return "1 layer" if count == 1 else f"{count} layers"


if __name__ == "__main__":
    main()
