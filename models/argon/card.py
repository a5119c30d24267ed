"""The model card: what the argon model is, what it was made from, and how wrong it is."""

from dataclasses import asdict, dataclass

from gkflux.potentials.schnet import Architecture
from models.argon.check import Dynamics
from models.argon.teacher import CUTOFF, EPSILON, MASS, SIGMA
from stepson.units import BOLTZMANN

__all__ = ["Measured", "card"]

TEMPLATE = """\
# argon: a small SchNet for liquid and solid argon

For the demonstration, tests and examples. It is distilled from a pair potential, and so
knows argon as well as Lennard-Jones does, no better.

| | |
|---|---|
| network | SchNet, {interactions} layers, {features} features, {gaussians} Gaussians, \
cutoff {cutoff} Å, {weights} weights |
| element | Ar ({mass} amu); every other element is refused |
| units | eV, Å |
| made by | `python -m models.argon.make` of this repository: {updates} updates of Adam, \
{minutes:.0f} minutes in one thread |
| licence | MIT, as the program |

## The teacher
Lennard-Jones with eps/kB = {kelvin:.1f} K (eps = {epsilon:.6f} eV), sigma = {sigma} Å
(A. Rahman, Phys. Rev. 136, A405 (1964)), cutoff 2.5 sigma = {teacher_cutoff} Å with a
shifted force, so that energy and force end continuously. The network sees only {cutoff}
Å, {neighbours:.0f} neighbours in the mean over the test set: what lies between that and
the teacher's cutoff it learns through messages. They carry energy, so the virial form
of the heat flux is measurably wrong for it.

## The data
{train} configurations of 108 atoms to learn from, {valid} to watch, {test} to test,
from Langevin runs of the teacher, different runs for each: liquid from 80 to 140 K and
from 1.15 to 1.48 g/cm³, dense and hot fluid up to 300 K and 1.65 g/cm³, fcc crystals
from 10 to 120 K with lattice constants from 5.10 to 5.50 Å, and crystals at the density
of the liquid while they melt.

## Errors on the test set
| | {kinds} |
|---|{rule}
{errors}

## Dynamics and heat flux
Constant energy, liquid, 108 atoms, {temperature:.0f} K, {steps} steps of {timestep} fs
({picoseconds:.0f} ps), float32: total energy drifts by {drift:+.3f} meV/atom in a
nanosecond and is {noise:.4f} meV/atom rms off that line.

Along that run the exact flux and the virial form (`formulation="local"`) differ by
{missing:.1%} of the potential part (rms over rms); the power balance of every atom
closes to {imbalance:.0e} of the rms power.

## Not for
Temperatures above 300 K, pressures of many kbar, surfaces, the gas: the network has not
seen them.
"""

ROWS = {
    "energy, MAE, meV/atom": ("energy_mae", "{:.3f}"),
    "energy, rmse, meV/atom": ("energy_rmse", "{:.3f}"),
    "force component, MAE, meV/Å": ("force_mae", "{:.2f}"),
    "force component, rmse, meV/Å": ("force_rmse", "{:.2f}"),
    "force, rmse over rms": ("force_relative", "{:.1%}"),
}


@dataclass(frozen=True)
class Measured:
    """What is known of a finished model."""

    shape: Architecture
    weights: int
    """Number of parameters."""
    updates: int
    """Of the weights, in the fit."""
    minutes: float
    """The fit took, on one core."""
    sizes: dict[str, int]
    """Configurations of each set."""
    neighbours: float
    """Of an atom within the cutoff, mean over the test set."""
    errors: dict[str, dict[str, float]]
    """On the test set: ``all``, and by kind of state."""
    dynamics: Dynamics


def card(measured: Measured) -> str:
    """Write the card."""
    run = measured.dynamics
    return TEMPLATE.format(
        **asdict(measured.shape),
        **measured.sizes,
        **asdict(run),
        weights=measured.weights,
        updates=measured.updates,
        minutes=measured.minutes,
        neighbours=measured.neighbours,
        picoseconds=run.steps * run.timestep / 1000,
        kelvin=EPSILON / BOLTZMANN,
        epsilon=EPSILON,
        sigma=SIGMA,
        teacher_cutoff=CUTOFF,
        mass=MASS,
        kinds=" | ".join(measured.errors),
        rule="---|" * len(measured.errors),
        errors="\n".join(_row(label, measured.errors) for label in ROWS),
    )


def _row(label: str, errors: dict[str, dict[str, float]]) -> str:
    key, form = ROWS[label]
    cells = " | ".join(form.format(found[key]) for found in errors.values())
    return f"| {label} | {cells} |"
