"""A stateful machine: append, commit, checkpoint, follow, fail, reopen, against lists."""

from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from stepson.errors import WriterError
from stepson.schema import Field, Schema
from stepson.source import Bytes
from stepson.trajectory import Trajectory
from stepson.writer import Writer
from stepson.writing import resume
from tests.stepson.crashes.disk import Disk, Off
from tests.stepson.crashes.life import NOWHERE, assert_sound, born, check, survivors
from tests.stepson.crashes.model import Limits, Model, State

LIMITS = Limits(fan_out=3, scalars_raw=2**26, block_frames=5, chunk_raw=100)
FIELDS = (
    Field("positions", "float32", ("atom", 3), "Å", every=5),
    Field("coarse", "float64", ("atom", 3), "Å", every=2, precision=1e-3),
    Field("energy", "float64", (), "eV", every=2),
    Field("heat_flux", "float64", (3,), "eV Å/fs", every=2, offset=1),
    Field("event", "int32", (), "", every=None),
)
OPTIONS: dict[str, Any] = {"commit": "manual", "threaded": False}


class Container(RuleBasedStateMachine):
    """A file on a disk that fails, and what the file must hold."""

    @initialize(seed=st.integers(0, 2**32), n_atoms=st.sampled_from([0, 1, 3]))
    def create(self, seed: int, n_atoms: int) -> None:
        self.patch = LIMITS.applied()
        self.patch.__enter__()
        rng = np.random.default_rng(seed)
        self.model = Model(rng, Schema(FIELDS, n_atoms))
        self.disk = Disk(rng)
        self.stale = b""
        self.writer: Writer = born(self.disk, self.model, **OPTIONS)
        self.seen = 0
        """Frames that a follower has taken."""

    @property
    def committed(self) -> State:
        return self.disk.states[-1]

    @rule(count=st.integers(1, 12))
    def append(self, count: int) -> None:
        for _ in range(count):
            step, values = self.model.frame()
            self.writer.append(step, **values)

    @rule()
    def checkpoint(self) -> None:
        self.writer.checkpoint(self.model.point())

    @rule()
    def note(self) -> None:
        self.writer.note({"event": "something"})

    @rule()
    def commit(self) -> None:
        self.writer.commit()
        assert self.committed.frames == len(self.model.steps)

    @rule()
    def seal_and_reopen(self) -> None:
        self.writer.close()
        assert_sound(bytes(self.disk.cache), self.model.cut(self.committed))
        self.take_up(bytes(self.disk.cache), self.committed)

    @rule(kind=st.sampled_from(["power", "kill"]))
    def fail_between_calls(self, kind: str) -> None:
        self.leave(kind)

    @rule(
        kind=st.sampled_from(["power", "kill", "eio", "enospc", "short"]),
        calls=st.integers(1, 8),
        closing=st.booleans(),
    )
    def fail_at_any_call(self, kind: str, calls: int, closing: bool) -> None:
        """The disk fails at a call of a commit, or of closing the file."""
        self.disk.arm(calls, kind)
        step, values = self.model.frame()
        try:
            self.writer.append(step, **values)
            self.writer.checkpoint(self.model.point())
            if closing:
                self.writer.close()
            else:
                self.writer.commit()
        except (Off, WriterError):
            assert self.disk.failed
        assert not self.disk.abused
        self.leave(kind)

    def leave(self, kind: str) -> None:
        """Whatever is left shows one of the states; go on from there."""
        image = bytes(self.disk.cache) if kind == "kill" else self.disk.lost()
        left = survivors(image, self.disk, self.model)
        assert left is not None
        self.stale = bytes(self.disk.cache) + self.stale[len(self.disk.cache) :]
        promised = self.disk.states[self.disk.promised].frames
        self.seen = min(self.seen, promised)
        self.model = left.model
        self.take_up(image, left.state)

    def take_up(self, image: bytes, state: State) -> None:
        """Open for append."""
        self.model = self.model.cut(state)
        self.disk = Disk(self.model.rng, image, self.model.state, self.stale)
        self.writer = resume(self.disk, NOWHERE, **OPTIONS)
        assert self.writer.frames == state.frames
        assert bytes(self.disk.cache).startswith(image)

    @precondition(lambda self: self.committed.frames > self.seen)
    @rule()
    def follow(self) -> None:
        """What is new since the last look, frame by frame."""
        traj = Trajectory(Bytes(bytes(self.disk.cache)))
        steps = [frame.step for frame in traj.frames(self.seen)]
        assert steps == self.model.steps[self.seen : self.committed.frames]
        self.seen += len(steps)

    @invariant()
    def visible(self) -> None:
        traj = Trajectory(Bytes(bytes(self.disk.cache)))
        assert len(traj) == self.committed.frames
        assert traj.opened.tail.commit.commits >= len(self.disk.states)

    def teardown(self) -> None:
        traj = Trajectory(Bytes(bytes(self.disk.cache)))
        check(traj, self.model.cut(self.committed))
        assert traj.verify(deep=True).ok
        self.patch.__exit__(None, None, None)


TestContainer = Container.TestCase
TestContainer.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
