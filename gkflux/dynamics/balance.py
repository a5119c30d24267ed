"""Does the heat flux keep its books? An assertion while a run goes on, where asked for.

With ``check_balance = true`` under ``heat_flux``, the power balance of every atom of every
replica is checked (`gkflux.flux.balance`) at the first three samples of the flux that a
process computes and at every five thousandth after them. To check a sample costs three to
four plain evaluations of the network, some fifty force calls of the fast engine: half a
percent of a run with a sample every second step. Nothing that is computed or stored
depends on it, so it may be switched on or off when a run goes on.
"""

from collections.abc import Sequence

import numpy as np

from gkflux.dynamics.state import Floats, State
from gkflux.errors import FluxError
from gkflux.potentials.base import Batch, KeepsBooks, Potential
from gkflux.system import System

__all__ = ["BalanceCheck", "BalanceError"]

FIRST = 3
EVERY = 5000


class BalanceError(FluxError):
    """The power along the edges is not what the energy of an atom changes by.

    Attributes:
        step: of the flux sample; the frames before it are kept.
        replica: number in the batch.
        atom: where the books fit worst.
        gain: what its edges brought it, eV/fs.
        rate: what its energy changes by, eV/fs.
        relative: by how much, over the rms power that passes through an atom.
    """

    def __init__(
        self,
        *,
        step: int,
        replica: int,
        atom: int,
        gain: float,
        rate: float,
        relative: float,
    ) -> None:
        self.step, self.replica, self.atom = step, replica, atom
        self.gain, self.rate, self.relative = gain, rate, relative
        super().__init__(
            f"step {step}, replica {replica}, atom {atom}: its edges bring {gain:.6g} "
            f"eV/fs, its energy changes by {rate:.6g} eV/fs; they differ by {relative:.1e} "
            "of the power that passes through an atom. The heat flux is wrong, the frames "
            "before are kept. A potential of your own: fetch every feature of another atom "
            "with gather; a model file: try exact_filters = true or dtype = 'float64', and "
            "report it"
        )


class BalanceCheck:
    """Looks at some flux samples of a batch."""

    def __init__(
        self, potential: object, batch: Batch, system: System, numbers: Sequence[int]
    ) -> None:
        """Begin.

        Args:
            potential: whose energies are differentiated.
            batch: the engine that computes the flux.
            system: species of all replicas, and their cell where it does not change.
            numbers: of the replicas, in their stage.

        Raises:
            FluxError: the engine keeps no books, or there is no network to compare with.
        """
        if not isinstance(potential, Potential) or not isinstance(batch, KeepsBooks):
            raise FluxError(
                f"check_balance: {type(batch).__name__} does not tell what its edges "
                "carry; remove check_balance, or use another device"
            )
        self._potential, self._batch, self._system = potential, batch, system
        self._numbers, self._samples = numbers, 0

    def look(self, state: State, forces: Floats) -> None:
        """Count a sample, and check it if it is due.

        Args:
            state: of all replicas.
            forces: shape ``(replicas, n, 3)``, eV/Å, at these positions.

        Raises:
            BalanceError: names the first replica that does not balance.
        """
        self._samples += 1
        if self._samples > FIRST and self._samples % EVERY:
            return
        from gkflux.flux.balance import energy_rates, imbalance, limit_of

        gain, size = self._batch.books()
        for r, v in enumerate(state.velocities):
            cell = None if state.cells is None else state.cells[r]
            moved = self._system.moved(state.positions[r], cell)
            rates = energy_rates(self._potential, moved, v)
            work = np.einsum("ia,ia->i", forces[r], v)
            found = imbalance(rates + work, gain[r], size[r])
            if not found.relative <= limit_of(self._potential):
                where = {"step": state.step, "replica": self._numbers[r]}
                raise BalanceError(**where, **found._asdict())
