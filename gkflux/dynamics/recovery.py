"""How a killed run goes on: where to begin, and what the files already hold.

The files of a batch are written one after another, epoch by epoch (``epochs.py``), so
after a crash some may be one epoch ahead. A restart

1. holds the lock of every file before it reads any;
2. begins at the last step for which *every* file holds a good checkpoint; where a file is
   missing or holds none, at the start of the stage;
3. computes on to the *catch-up step*, the last step that any file holds. Frames that a file
   has are compared with the recomputed ones and dropped, the others are appended. Nothing
   is committed before that step, and there all files agree again.

Files that were written by different batches may be many epochs apart. `sort_into_groups`
finds those that belong together; each group is restarted as above, one after another.

If the recomputed state differs from what a file holds (another machine, thread count or
library), that replica takes the state of its own file: each trajectory stays continuous,
but is no longer the one that an unbroken run would have given, and the run says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gkflux.dynamics.checkpoint import Checkpoint, equal
from gkflux.dynamics.epochs import write_epoch
from gkflux.dynamics.recording import Array, Epoch
from gkflux.dynamics.state import State
from stepson import Field, Trajectory, Writer
from stepson.chunk import choose_plan, decode, encode
from stepson.errors import FormatError, SchemaError

__all__ = ["Held", "Restart", "find_restart", "sort_into_groups"]


@dataclass(frozen=True)
class Held:
    """What one file of the batch holds.

    Attributes:
        writer: open for appending, lock held.
        replica: its number in the stage.
        last_step: of its last committed frame, -1 without frames.
        checkpoints: by step, the good ones of the last two.
        faults: lines about checkpoints that could not be read.
    """

    writer: Writer
    replica: int
    last_step: int
    checkpoints: dict[int, Checkpoint]
    faults: tuple[str, ...] = ()

    @classmethod
    def of(cls, writer: Writer, replica: int) -> "Held":
        """Read the last two checkpoints of a file."""
        found, faults = {}, []
        for step, load in writer.checkpoints():
            try:
                found[step] = load()
            except FormatError as error:
                faults.append(f"{writer.path}: the checkpoint of step {step}: {error}")
        last = writer.last_step
        end = -1 if last is None else last
        return cls(writer, replica, end, found, tuple(faults))

    def again(self) -> "Held":
        """Read the last two checkpoints anew: the file has grown."""
        return Held.of(self.writer, self.replica)

    @property
    def latest(self) -> int:
        """Step of the newest checkpoint, -1 without any."""
        return max(self.checkpoints, default=-1)

    @property
    def until(self) -> int:
        """The last step of which it holds anything, 0 without any."""
        return max(self.last_step, self.latest, 0)

    def checkpoint(self, step: int) -> Checkpoint | None:
        """Return the checkpoint of a step, however old, or None."""
        if step in self.checkpoints:
            return self.checkpoints[step]
        try:
            return dict(self.writer.trajectory().checkpoint(step))
        except (FormatError, SchemaError):
            return None


@dataclass
class Restart:
    """Where a batch begins, and how it catches up with its files.

    Attributes:
        held: one a replica.
        step: where to begin.
        states: the checkpoints of that step, or None: the start of the stage.
        until: the catch-up step.
        messages: what the user should know.
    """

    held: Sequence[Held]
    step: int = 0
    states: list[Checkpoint] | None = None
    until: int = 0
    messages: list[str] = field(default_factory=list)

    def adopt(self, state: State) -> bool:
        """Where files end at a checkpoint of this very step, let it rule.

        What follows in such a file must continue it. Asked after every step, so never at
        the one where the batch began.

        Returns:
            Whether any state was another one.
        """
        changed = False
        for k, held in enumerate(self.held):
            if held.latest != state.step:
                continue
            stored = held.checkpoints[held.latest]
            mine = {
                "step": state.step,
                "positions": state.positions[k],
                "velocities": state.velocities[k],
                "heat": state.heat[k],
                "cell": None if state.cells is None else state.cells[k],
            }
            if not equal(stored, mine):
                changed = True
                state.positions[k] = stored["positions"]
                state.velocities[k] = stored["velocities"]
                state.heat[k] = stored["heat"]
                if state.cells is not None and stored.get("cell") is not None:
                    state.cells[k] = stored["cell"]
                self.messages.append(
                    f"replica {held.replica}: step {state.step} came out with other bits "
                    f"than in {held.writer.path}; it goes on from the file: "
                    "continuous, but no longer as an unbroken run (other hardware, threads "
                    "or libraries?)"
                )
        return changed

    def reconcile(self, epoch: Epoch, checkpoints: Sequence[Checkpoint] | None) -> None:
        """Compare what the files hold, append what they lack, commit: all files agree.

        Args:
            epoch: everything since `step`.
            checkpoints: of the catch-up step or a later one; None where a guard stopped
                the run and there is no state to go on from.
        """
        for k, held in enumerate(self.held):
            self._compare(held, epoch.until(held.last_step), k)
            rest = epoch.after(held.last_step)
            checkpoint = None if checkpoints is None else checkpoints[k]
            if checkpoint is None or checkpoint["step"] > held.latest:
                write_epoch(held.writer, rest, k, checkpoint)

    def _compare(self, held: Held, epoch: Epoch, replica: int) -> None:
        different = _differences(held.writer.trajectory(), epoch, replica)
        if different:
            self.messages.append(
                f"replica {held.replica}: recomputed frames differ from those in "
                f"{held.writer.path} in {', '.join(different)}, first at step "
                f"{min(different.values())}; the file's are kept"
            )


def sort_into_groups(held: Sequence[Held | None]) -> list[list[int]]:
    """Sort files into groups that can begin at one step, the one furthest behind first.

    The files of a group share one of their last two checkpoints. Those that are missing, or
    hold no good checkpoint, are a group too: they begin at the start of the stage.

    Returns:
        places in `held`, ascending in each group.
    """
    fresh: list[int] = []
    shared: list[set[int]] = []
    groups: list[list[int]] = []
    latest = [-1 if each is None else each.latest for each in held]
    for place in sorted(range(len(held)), key=latest.__getitem__):
        each = held[place]
        if each is None or not each.checkpoints:
            fresh.append(place)
            continue
        if not groups or not shared[-1] & each.checkpoints.keys():
            groups.append([])
            shared.append(set(each.checkpoints))
        groups[-1].append(place)
        shared[-1] &= each.checkpoints.keys()
    return [sorted(group) for group in (fresh, *groups) if group]


def find_restart(held: Sequence[Held | None]) -> Restart:
    """Decide where a group begins; None stands for a file that does not exist yet."""
    files = [each for each in held if each is not None]
    restart = Restart(held=files, until=max((each.until for each in files), default=0))
    restart.messages += [line for each in files for line in each.faults]
    if len(files) == len(held):
        _choose(restart)
    restart.messages += _explanation(restart)
    return restart


def _choose(restart: Restart) -> None:
    """Begin at the last step for which every file holds a good checkpoint."""
    files = restart.held
    for step in sorted({s for each in files for s in each.checkpoints}, reverse=True):
        states = [each.checkpoint(step) for each in files]
        good = [state for state in states if state is not None]
        if len(good) == len(files):
            restart.step, restart.states = step, good
            return


def _explanation(restart: Restart) -> list[str]:
    """Say why more is computed again than a kill costs."""
    usual = all(restart.step in each.checkpoints for each in restart.held)
    if restart.until == 0 or usual:
        return []
    behind = [str(each.writer.path) for each in restart.held if each.latest <= restart.step]
    return [
        f"{', '.join(behind) or 'no file'} holds no state after step {restart.step}: the "
        f"steps up to {restart.until} that the files hold are computed again and compared "
        "with them"
    ]


def _differences(trajectory: Trajectory, epoch: Epoch, replica: int) -> dict[str, int]:
    """Return, for each field that differs, the first step at which it does."""
    found: dict[str, int] = {}
    for samples in epoch.cadences:
        if not len(samples.steps):
            continue
        for name, values in samples.values.items():
            rule = trajectory.fields[name]
            every = 1 if rule.every is None else rule.every
            first = int(samples.steps[0]) // every
            stored = np.asarray(trajectory[name][first : first + len(samples.steps)])
            mine = quantised(np.ascontiguousarray(values[replica]), rule)
            unequal = (_bytes(stored) != _bytes(mine)).any(axis=1)
            if unequal.any():
                found[name] = int(samples.steps[int(np.argmax(unequal))])
    return found


def _bytes(values: Array) -> NDArray[np.uint8]:
    """Return the bytes of each sample, shape ``(samples, bytes)``: nan equals nan."""
    rows = np.ascontiguousarray(values).reshape(len(values), -1)
    return rows.view(np.uint8)


def quantised(values: Array, rule: Field) -> Array:
    """Return the values as they read once stored: a function of the value alone."""
    if rule.precision is None:
        return values
    chunk = encode(
        values, choose_plan(values, precision=rule.precision), precision=rule.precision
    )
    return decode(chunk.data, chunk.info, dtype=rule.dtype, shape=values.shape)
