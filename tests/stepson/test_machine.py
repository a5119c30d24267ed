"""A stateful machine: append, commit, checkpoint, crash, reopen, against plain lists."""

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from stepson.files import resume, start
from stepson.opening import Header
from stepson.schema import Schema
from stepson.source import Bytes
from stepson.trajectory import Trajectory
from stepson.writer import Writer
from tests.stepson.faults import NOWHERE, FaultySink, lose
from tests.stepson.files import FIELDS, check_content, frame

FAN_OUT = 3


class Container(RuleBasedStateMachine):
    """A file on a disk that loses what was not synced, and what the file must hold."""

    writer: Writer

    @initialize(seed=st.integers(0, 2**32))
    def create(self, seed: int) -> None:
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr("stepson.growth.FAN_OUT", FAN_OUT)
        self.rng = np.random.default_rng(seed)
        self.sink = FaultySink(self.rng)
        header = Header(self.rng.bytes(16), "now", "test")
        schema, content = Schema(FIELDS, 3), {"timestep": 4.0}
        self.writer = start(
            self.sink, NOWHERE, header, schema, content, commit="manual", threaded=False
        )
        self.step = 0
        self.frames: list[int] = []
        self.points: list[int] = []
        self.new_frames: list[int] = []
        self.new_point: int | None = None

    @rule(count=st.integers(1, 12))
    def append(self, count: int) -> None:
        for _ in range(count):
            self.writer.append(self.step, **frame(self.step))
            self.new_frames.append(self.step)
            self.step += 2

    @rule()
    def checkpoint(self) -> None:
        self.writer.checkpoint({"step": self.step, "half": np.full(2, self.step / 2)})
        self.new_point = self.step

    @rule()
    def note(self) -> None:
        self.writer.note({"event": "something"})

    @rule()
    def commit(self) -> None:
        self.writer.commit()
        self.frames += self.new_frames
        self.points += [] if self.new_point is None else [self.new_point]
        self.forget_new()

    def forget_new(self) -> None:
        self.new_frames, self.new_point = [], None

    @rule()
    def close(self) -> None:
        self.commit()
        self.writer.close()
        assert Trajectory(Bytes(self.sink.cache)).sealed
        self.reopen()

    @rule()
    def kill(self) -> None:
        """The process dies; the machine lives."""
        self.forget_new()
        self.sink.platter = self.sink.cache
        self.reopen()

    @rule()
    def lose_power(self) -> None:
        """Sectors written since the last sync are there or not."""
        self.forget_new()
        platter = self.sink.platter
        image = lose(platter, self.sink.cache[len(platter) :], self.rng)
        self.sink = FaultySink(self.rng, image, image)
        self.check()
        self.reopen()

    @rule()
    def lose_power_while_committing(self) -> None:
        """A commit that was not acknowledged counts as a whole or not at all."""
        platter = self.sink.platter
        before = ([*self.frames], [*self.points])
        self.commit()
        image = lose(platter, self.sink.cache[len(platter) :], self.rng)
        self.sink = FaultySink(self.rng, image, image)
        traj = Trajectory(Bytes(image))
        if (len(traj), traj.checkpoint_steps) != (len(self.frames), self.points[-2:]):
            self.frames, self.points = before
        self.check()
        self.reopen()

    def reopen(self) -> None:
        self.writer = resume(self.sink, NOWHERE, commit="manual", threaded=False)
        self.step = max([0, *(f + 2 for f in self.frames), *self.points])
        self.step += self.step % 2
        assert self.writer.frames == len(self.frames)

    @invariant()
    def check(self) -> None:
        traj = Trajectory(Bytes(self.sink.cache))
        assert traj.checkpoint_steps == self.points[-2:]
        assert len(traj) == len(self.frames)

    def teardown(self) -> None:
        traj = Trajectory(Bytes(self.sink.cache))
        check_content(traj, self.frames)
        for point in self.points:
            assert traj.checkpoint(point)["half"].tolist() == [point / 2] * 2
        assert traj.verify(deep=True).ok
        self.patch.undo()


TestContainer = Container.TestCase
TestContainer.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
