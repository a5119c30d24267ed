"""All that a replica needs to go on bit for bit, as a map of numbers and arrays.

=============== ========================================================
key             meaning
=============== ========================================================
step            number of the last completed step of the stage
stage           name of the stage
positions       ``(n, 3)`` float64, Å, unwrapped
velocities      ``(n, 3)`` float64, Å/fs, of the same time
heat            eV received from thermostat and barostat
cell            ``(3, 3)`` float64, Å; None for a cluster
drift           ``drift.Drift.sums``
hop             step and atom of the first hop from the reference lattice,
                None while all atoms are at home; absent where none is
                looked for
=============== ========================================================

Not stored: the neighbour list (results do not depend on when it was built), forces
(computed again, the same bits) and random generators (noise is a function of step and
atom).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gkflux.dynamics.drift import Drift
from gkflux.dynamics.guards import Hops
from gkflux.dynamics.state import State

__all__ = ["Checkpoint", "batch_state", "equal", "pack"]

Checkpoint = dict[str, Any]


def pack(
    state: State, drift: Drift, stage: str, hops: Hops | None = None
) -> list[Checkpoint]:
    """Copy the state of every replica."""
    return [
        {
            "step": state.step,
            "stage": stage,
            "positions": state.positions[k].copy(),
            "velocities": state.velocities[k].copy(),
            "heat": float(state.heat[k]),
            "cell": None if state.cells is None else state.cells[k].copy(),
            "drift": drift.sums(k),
        }
        | ({} if hops is None else {"hop": hops.first[k]})
        for k in range(state.replicas)
    ]


def batch_state(checkpoints: Sequence[Mapping[str, Any]]) -> State:
    """Put the checkpoints of all replicas, of one step, together again."""
    cells = [c.get("cell") for c in checkpoints]
    return State(
        step=int(checkpoints[0]["step"]),
        positions=np.stack([np.asarray(c["positions"], np.float64) for c in checkpoints]),
        velocities=np.stack([np.asarray(c["velocities"], np.float64) for c in checkpoints]),
        heat=np.array([float(c["heat"]) for c in checkpoints]),
        cells=None if cells[0] is None else np.stack([np.array(c) for c in cells]),
    )


def equal(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether two checkpoints continue to the same bits."""
    same = all(
        np.asarray(a[key], np.float64).tobytes() == np.asarray(b[key], np.float64).tobytes()
        for key in ("positions", "velocities", "heat", "cell")
        if a.get(key) is not None and b.get(key) is not None
    )
    return same and int(a["step"]) == int(b["step"])
