"""How fast the conserved quantity (energy; less the heat of a thermostat) drifts.

Its fluctuations are fast and correlated, so it is averaged over blocks of half a
picosecond, and a line is fitted to the means. What is left of them wanders (the forces
of a cosine cutoff have a kink, and every pair that crosses it changes the energy a
little, at random), so the error of the slope counts the correlation of neighbours, rho,
too: white noise times sqrt((1 + rho) / (1 - rho)). Extrapolated to the length of the
stage, but not beyond 100 times what was seen (a crystal that warms up changes its energy
by little, once, which is no slope for millions of steps), and spread over 3 kB an atom,
the slope is a change of temperature. Above 2 % of T it is worth a warning, above 20 % the
run stops: but only once at least 10 ps are there, and the standard error of that change is
below a third of the limit in question, or of what the change is beyond it.

The sums of the fit are part of a checkpoint: a restart judges as an unbroken run does.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gkflux.dynamics.state import Floats
from gkflux.errors import FluxError
from stepson.units import BOLTZMANN

__all__ = ["Drift", "DriftError"]

BLOCK = 500.0
"""fs, of one mean."""
SHORTEST = 10_000.0
"""fs, before which nothing is judged."""
REACH = 100.0
"""Times what was seen, to which a slope is extrapolated at most."""
WARN, STOP = 0.02, 0.20
"""Change over the stage, in units of its temperature."""


class DriftError(FluxError):
    """The conserved quantity drifts so fast that the run means nothing."""

    def __init__(
        self, *, step: int, replica: int, change: float, target: float, span: str
    ) -> None:
        self.step, self.replica, self.change = step, replica, change
        super().__init__(
            f"step {step}, replica {replica}: the energy drifts by {change:+.0f} K over "
            f"{span}, more than {STOP:.0%} of {target:g} K; the frames so far are "
            "kept. Try a shorter timestep in a new output folder"
        )


@dataclass
class _Block:
    index: int
    count: float
    time: float
    total: Floats


class Drift:
    """Fit a line to the conserved quantity of every replica while it is computed."""

    def __init__(
        self,
        *,
        replicas: int,
        n_atoms: int,
        timestep: float,
        steps: int,
        target: float,
        numbers: Sequence[int] | None = None,
    ) -> None:
        """Begin.

        Args:
            replicas: in the batch.
            n_atoms: of one replica.
            timestep: fs.
            steps: of the stage: the length to which a slope is extrapolated (`REACH`).
            target: temperature that limits are fractions of, K.
            numbers: of the replicas in their stage, for messages.
        """
        self._numbers = range(replicas) if numbers is None else numbers
        self._timestep, self._length = timestep, steps * timestep
        self._target = target
        self._kelvin = 1.0 / (3 * n_atoms * BOLTZMANN)
        self._per_block = max(1, round(BLOCK / timestep))
        self._origin = np.full(replicas, np.nan)
        self._block = _Block(0, 0.0, 0.0, np.zeros(replicas))
        self._n, self._t, self._tt = 0.0, 0.0, 0.0
        self._x, self._xx, self._tx, self._xy = np.zeros((4, replicas))
        self._first, self._last = np.zeros((2, replicas))
        self._began = self._ended = 0.0
        self._warned = np.zeros(replicas, dtype=bool)

    def add(self, step: int, conserved: Floats) -> bool:
        """Take a sample, shape ``(replicas,)``, eV; True if it completed a block."""
        if np.isnan(self._origin[0]):
            self._origin = conserved.copy()
        block, index = self._block, step // self._per_block
        complete = index != block.index and block.count > 0
        if complete:
            self._push(block.time / block.count, block.total / block.count)
        if index != block.index:
            block.index, block.count, block.time = index, 0.0, 0.0
            block.total[:] = 0.0
        block.count += 1
        block.time += step * self._timestep
        block.total += conserved - self._origin
        return complete

    def _push(self, time: float, value: Floats) -> None:
        if self._n == 0:
            self._first, self._began = value.copy(), time
        else:
            self._xy += value * self._last
        self._last, self._ended = value.copy(), time
        self._n += 1
        self._t += time
        self._tt += time * time
        self._x += value
        self._xx += value * value
        self._tx += time * value

    def slope(self) -> tuple[Floats, Floats]:
        """Return slope and standard error, each ``(replicas,)``, K/ns; nan when too few."""
        if self._n < 3:
            nothing = np.full(len(self._x), np.nan)
            return nothing, nothing
        tt = self._tt - self._t**2 / self._n
        tx = self._tx - self._t * self._x / self._n
        xx = self._xx - self._x**2 / self._n
        slope = tx / tt
        rest = np.maximum(xx - slope * tx, 0.0)
        rho = self._correlation(slope, rest)
        error = np.sqrt(rest / (self._n - 2) / tt * (1.0 + rho) / (1.0 - rho))
        return slope * self._kelvin * 1e6, error * self._kelvin * 1e6

    def _correlation(self, slope: Floats, rest: Floats) -> Floats:
        """Return rho of neighbouring residuals, ``(replicas,)``, 0 to 1 - 2/n.

        The sum of r_i r_{i-1}, r_i = x_i - m_i, m_i = a + b t_i, from the running sums;
        times are h apart. A fit takes some correlation away: about (1 + 4 rho) / n.
        """
        n, b = self._n, slope
        h = (self._ended - self._began) / (n - 1.0)
        a = (self._x - b * self._t) / n
        first, last = a + b * self._began, a + b * self._ended
        mixed = 2.0 * (a * self._x + b * self._tx) - self._first * first - self._last * last
        mixed += b * h * (self._first - self._last)
        lines = n * a * a + 2.0 * a * b * self._t + b * b * self._tt - first * first
        lines -= b * h * (self._x - first)
        product = self._xy - mixed + lines
        with np.errstate(divide="ignore", invalid="ignore"):
            rho = np.nan_to_num(product / rest, nan=0.0, posinf=0.0, neginf=0.0)
        return np.asarray(np.clip(rho + (1.0 + 4.0 * rho) / n, 0.0, 1.0 - 2.0 / n))

    def judge(self, step: int) -> str | None:
        """Return a warning the first time that one is due.

        Raises:
            DriftError: far beyond what can be tolerated.
        """
        if step * self._timestep < SHORTEST:
            return None
        length = min(self._length, REACH * step * self._timestep)
        span = "this stage" if length == self._length else f"{length * 1e-6:.3g} ns"
        slope, error = (values * length * 1e-6 for values in self.slope())
        change = np.abs(slope)
        fatal = _beyond(change, error, STOP * self._target)
        if fatal.any():
            replica = int(np.argmax(fatal))
            raise DriftError(
                step=step,
                replica=self._numbers[replica],
                change=float(slope[replica]),
                target=self._target,
                span=span,
            )
        due = _beyond(change, error, WARN * self._target)
        new = due & ~self._warned
        self._warned |= due
        if not new.any():
            return None
        replica = int(np.argmax(new))
        return (
            f"step {step}, replica {self._numbers[replica]}: the energy drifts by "
            f"{slope[replica]:+.1f} ± "
            f"{error[replica]:.1f} K over {span}, more than {WARN:.0%} of "
            f"{self._target:g} K"
        )

    def sums(self, replica: int) -> Floats:
        """Return all that `restore` needs for one replica, shape ``(17,)``."""
        block, k = self._block, replica
        shared = [block.index, block.count, block.time, self._n, self._t, self._tt]
        own = [self._origin[k], block.total[k], self._x[k], self._xx[k], self._tx[k]]
        pairs = [self._xy[k], self._first[k], self._last[k], self._began, self._ended]
        return np.array([*shared, *own, self._warned[k], *pairs])

    def restore(self, sums: Floats) -> None:
        """Go on from the `sums` of every replica, shape ``(replicas, 17)``.

        The first version kept twelve: then correlations count from here on.
        """
        index, count, time, self._n, self._t, self._tt = (float(x) for x in sums[0, :6])
        self._origin, total, self._x, self._xx, self._tx = sums[:, 6:11].T.copy()
        self._block = _Block(int(index), count, time, total)
        self._warned = sums[:, 11] != 0
        if sums.shape[1] > 12:
            self._xy, self._first, self._last = sums[:, 12:15].T.copy()
            self._began, self._ended = (float(x) for x in sums[0, 15:17])


def _beyond(change: Floats, error: Floats, limit: float) -> NDArray[np.bool_]:
    """Whether changes, K, are beyond a limit, and known well enough to say so."""
    return (change > limit) & ((error < limit / 3) | (change - 3 * error > limit))
