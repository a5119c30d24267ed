"""What stops a run whose cell goes wrong, or whose atoms leave it.

* `check_cells`: a volume below half or above twice that of the structure of the run, or one
  that wants to change by a tenth in one step, stops the run.
* `Escapes`: in a direction that is not periodic the cell is a box. An atom that leaves it
  is worth a warning: the box holds nothing back, and means nothing for the forces. One
  that is further out than the cutoff can no longer feel what is inside: it is lost, and
  the run stops.
"""

from collections.abc import Sequence

import numpy as np

from gkflux.dynamics.guards import UnstableError
from gkflux.dynamics.state import Floats, State, volumes
from gkflux.errors import FluxError
from gkflux.system import System

__all__ = ["CellError", "Escapes", "LostAtomError", "check_cells"]

SMALLEST, LARGEST = 0.5, 2.0


class CellError(UnstableError):
    """The cell of a replica collapses, or blows up.

    Attributes:
        step: the first bad step; the frames before it are kept.
        replica: number in the stage.
        share: of the volume of the structure, or of the step before.
    """

    def __init__(self, what: str, *, step: int, replica: int, share: float) -> None:
        self.step, self.replica, self.share, self.atom = step, replica, share, -1
        FluxError.__init__(
            self,
            f"step {step}, replica {replica}: {what}; the frames before are kept. Check "
            "the pressure (GPa), try a longer pressure_relaxation or a smaller "
            "compressibility, a shorter timestep, or a model trained for this volume, in a "
            "new output folder",
        )


class LostAtomError(UnstableError):
    """An atom has left the box by more than the cutoff."""

    def __init__(self, *, step: int, replica: int, atom: int, far: float) -> None:
        self.step, self.replica, self.atom = step, replica, atom
        FluxError.__init__(
            self,
            f"step {step}, replica {replica}: atom {atom} is {far:.1f} Å outside of the "
            "box, beyond the cutoff, and lost; the frames before are kept. Try a lower "
            "temperature, a shorter timestep, or, if atoms may fly off, a larger box, in a "
            "new output folder",
        )


def check_cells(
    state: State, step: int, reference: float, numbers: Sequence[int] | None = None
) -> None:
    """Refuse volumes far from that of the structure.

    Args:
        state: of a batch with cells.
        step: that is being computed.
        reference: Å³.
        numbers: of the replicas in their stage.

    Raises:
        CellError: names the first replica.
    """
    assert state.cells is not None
    share = volumes(state.cells) / reference
    good = (share > SMALLEST) & (share < LARGEST)
    if good.all():
        return
    replica = int(np.argmin(good))
    what = f"its volume is {share[replica]:.3g} times that of the structure: it has " + (
        "collapsed" if share[replica] < 1 else "evaporated or torn"
    )
    number = replica if numbers is None else numbers[replica]
    raise CellError(what, step=step, replica=number, share=float(share[replica]))


class Escapes:
    """Watches for atoms that leave a box; None of its business: periodic directions."""

    def __init__(self, system: System, cutoff: float, numbers: Sequence[int]) -> None:
        """Begin; see `of`."""
        assert system.cell is not None
        self._open = ~system.pbc
        self._inverse = np.linalg.inv(system.cell)
        # Å between the two walls of each direction
        self._width = 1.0 / np.linalg.norm(self._inverse, axis=0)
        self._cutoff, self._numbers = cutoff, numbers
        self._said = np.zeros(len(numbers), dtype=bool)

    @classmethod
    def of(cls, system: System, cutoff: float, numbers: Sequence[int]) -> "Escapes | None":
        """Return a watch, or None where no direction has walls.

        Args:
            system: with the cell of the stage.
            cutoff: of the potential, Å.
            numbers: of the replicas in their stage.
        """
        if system.pbc.all() or np.isnan(system.volume):
            return None
        return cls(system, cutoff, numbers)

    def look(self, step: int, positions: Floats) -> list[str]:
        """Return what is worth saying for the first time; positions are a batch's.

        Raises:
            LostAtomError: an atom is beyond the cutoff.
        """
        fractional = (positions @ self._inverse)[..., self._open]
        beyond = np.maximum(-fractional, fractional - 1.0) * self._width[self._open]
        worst = beyond.max(axis=2)
        said = []
        for k, number in enumerate(self._numbers):
            atom = int(np.argmax(worst[k]))
            far = float(worst[k, atom])
            if far > self._cutoff:
                raise LostAtomError(step=step, replica=number, atom=atom, far=far)
            if far > 0 and not self._said[k]:
                self._said[k] = True
                said.append(
                    f"step {step}, replica {number}: atom {atom} has left the box of "
                    "the non-periodic cell; nothing holds it back. Where this is not "
                    "meant, use a larger box, or a lower temperature"
                )
        return said
