"""The configurations that the argon model learns from: states, and how to draw them.

What a user of the model meets decides: the liquid from the triple point to the boiling
one, the way into it (an expanded crystal that melts), crystals from cold to hot under
pressure and tension, and a dense hot fluid, whose atoms come closer than any of the
others', so that the wall is known.
"""

from dataclasses import dataclass

import numpy as np

from models.argon.teacher import Array, fcc, lattice_constant, sample

__all__ = ["STATES", "TRIPLE_POINT", "Configurations", "State", "draw"]

TIMESTEP = 4.0
"""fs."""
FRICTION = 0.005
"""1/fs: a memory of 50 steps, so that samples 100 steps apart are new ones."""


@dataclass(frozen=True)
class State:
    """Argon at a temperature and a density."""

    kind: str
    """``liquid`` (melted first), ``crystal``, ``melting`` (crystal at liquid density)."""
    temperature: float
    """K."""
    lattice: float
    """Edge of the cell of four atoms, Å."""


@dataclass(frozen=True)
class Configurations:
    """Labelled configurations of 108 atoms in cubic boxes."""

    positions: Array
    """``(k, n, 3)``, Å."""
    box: Array
    """``(k,)``, Å."""
    energies: Array
    """``(k,)``, eV."""
    forces: Array
    """``(k, n, 3)``, eV/Å."""
    state: Array
    """``(k,)``, index into `STATES`."""


def _liquids() -> list[State]:
    corners = [
        (t, d) for t in (80, 90, 100, 115, 140) for d in (1.15, 1.28, 1.37, 1.42, 1.48)
    ]
    extremes = [(250, 1.42), (300, 1.65), (180, 1.55), (200, 1.2)]
    return [State("liquid", t, lattice_constant(d)) for t, d in corners + extremes]


def _crystals() -> list[State]:
    grid = [(t, a) for t in (10, 30, 50, 80) for a in (5.15, 5.25, 5.32, 5.42)]
    return [State("crystal", t, a) for t, a in [*grid, (80, 5.5), (120, 5.1)]]


STATES = [
    *_liquids(),
    *_crystals(),
    *[
        State("melting", t, lattice_constant(d))
        for t, d in [(95, 1.42), (140, 1.37), (250, 1.42)]
    ],
]

TRIPLE_POINT = State("liquid", 90, lattice_constant(1.42))
"""The state nearest to the triple point of the liquid (86.5 K, 1.419 g/cm³)."""


def _schedule(state: State, samples: int, every: int) -> tuple[Array, int]:
    """Temperatures of all steps, and how many samples at the start to leave out."""
    target = np.full(samples * every, float(state.temperature))
    if state.kind == "melting":
        return target, 0
    wait = 10 * every
    if state.kind == "crystal":
        return np.concatenate([np.full(wait, float(state.temperature)), target]), 10
    hot = np.full(wait, max(400.0, state.temperature))
    cool = np.linspace(hot[0], state.temperature, wait)
    settle = np.full(wait, float(state.temperature))
    return np.concatenate([hot, cool, settle, target]), 30


def draw(samples: int, *, every: int = 100, seed: int) -> Configurations:
    """Draw ``samples`` configurations of every state, each state with noise of its own."""
    parts = []
    for index, state in enumerate(STATES):
        start, box = fcc(state.lattice)
        temperatures, skip = _schedule(state, samples, every)
        rng = np.random.default_rng([seed, index])
        found = sample(start, box, temperatures, TIMESTEP, FRICTION, every, rng)
        positions, energies, forces = (part[skip:] for part in found)
        parts.append(
            (positions, np.full(samples, box), energies, forces, np.full(samples, index))
        )
    return Configurations(*(np.concatenate(column) for column in zip(*parts, strict=True)))
