"""What stops a run that went wrong, before it fills a disk with nonsense.

* `check_motion`: a coordinate that is not finite, or an atom that moved in one step further
  than half the cutoff of its potential, stops the run.
* `Hops`: an atom that left its site on the reference lattice; the heat flux in that
  gauge means less from there on. A warning here, and a failed check of Green-Kubo.

The first hop of a replica is part of its checkpoint: a restart says nothing twice, and
whoever reads the file knows. A drifting energy is the matter of ``drift.py``, a cell that
goes wrong that of ``cell_guards.py``.
"""

from collections.abc import Sequence

import numba
import numpy as np

from gkflux.dynamics.state import Floats, State
from gkflux.errors import FluxError
from gkflux.system import System

__all__ = ["Hop", "Hops", "UnstableError", "check_motion"]

Hop = dict[str, int]
"""``step`` and ``atom``, as checkpoints and notes hold them."""


class UnstableError(FluxError):
    """The integration has failed: a coordinate is not finite, or an atom flew away.

    Attributes:
        step: the first bad step; the frames before it are kept.
        replica: number in the batch.
        atom: number of the atom.
    """

    def __init__(self, what: str, *, step: int, replica: int, atom: int) -> None:
        self.step, self.replica, self.atom = step, replica, atom
        super().__init__(
            f"step {step}, replica {replica}, atom {atom}: {what}; the frames before are "
            "kept. Try a shorter timestep, a start closer to equilibrium, or a model "
            "trained for this temperature, in a new output folder"
        )


@numba.njit(cache=True, nogil=True)
def _first_beyond(velocities, square):  # type: ignore[no-untyped-def]
    """Number of the first atom of a batch whose v² is not below ``square``, or -1."""
    for k in range(velocities.shape[0]):
        for i in range(velocities.shape[1]):
            x, y, z = velocities[k, i, 0], velocities[k, i, 1], velocities[k, i, 2]
            if not x * x + y * y + z * z < square:
                return k * velocities.shape[1] + i
    return -1


def check_motion(
    state: State,
    longest: float,
    timestep: float,
    numbers: Sequence[int] | None = None,
    step: int | None = None,
) -> None:
    """Refuse a step in which an atom moved further than `longest` (Å), or to nowhere.

    Args:
        state: of the batch.
        longest: Å.
        timestep: fs.
        numbers: of the replicas in their stage.
        step: that is being computed; by default that of the state.

    Raises:
        UnstableError: names the first such atom.
    """
    found = int(_first_beyond(state.velocities, (longest / timestep) ** 2))
    if found < 0:
        return
    replica, atom = divmod(found, state.velocities.shape[1])
    far = float(np.linalg.norm(state.velocities[replica, atom])) * abs(timestep)
    what = f"it moved {far:.3g} Å in one step" if np.isfinite(far) else "not finite"
    raise UnstableError(
        what,
        step=state.step if step is None else step,
        replica=replica if numbers is None else numbers[replica],
        atom=atom,
    )


class Hops:
    """Watches for atoms that leave their sites on the reference lattice.

    Attributes:
        first: by replica, step and atom of its first hop; None while all are at home.
    """

    def __init__(self, system: System, lattice: Floats, replicas: int) -> None:
        """Begin; ``lattice`` has shape ``(n, 3)``, Å, next to the atoms."""
        from gkflux.flux.gauge import hop_limits

        self._lattice, self._limits = lattice, hop_limits(system, lattice)
        self.first: list[Hop | None] = [None] * replicas

    def look(self, step: int, positions: Floats) -> list[tuple[int, Hop]]:
        """Return ``(replica, hop)`` of first hops; positions are a batch's.

        The gauge is lost with the first one, so nobody needs the others: a crystal that
        melts would be a hop an atom.
        """
        from gkflux.flux.gauge import hop

        new = []
        for k, r in enumerate(positions):
            if self.first[k] is None:
                atom = hop(r, self._lattice, self._limits)
                if atom is not None:
                    self.first[k] = found = {"step": step, "atom": atom}
                    new.append((k, found))
        return new
