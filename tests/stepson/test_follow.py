"""Following a file while it is written."""

import os
from pathlib import Path

import pytest

import stepson
from stepson import FormatError
from tests.stepson.files import create, frame


def test_frames_come_as_they_are_committed(tmp_path: Path) -> None:
    path = tmp_path / "md.son"
    writer = create(path, commit="manual", threaded=False)
    frames = iter(stepson.open(path, follow=True, poll=0.0))
    for step in (0, 2, 4):
        writer.append(step, **frame(step))
        writer.commit()
        found = next(frames)
        assert found.step == step
        assert found.energy == step
    writer.append(6, **frame(6))
    writer.append(8, **frame(8))
    writer.close()
    assert [each.step for each in frames] == [6, 8]
    with stepson.open(path, "a") as again:
        again.append(10, **frame(10))
    assert [each.step for each in stepson.open(path, follow=True)] == [0, 2, 4, 6, 8, 10]


def test_timeout(tmp_path: Path) -> None:
    writer = create(tmp_path / "md.son", threaded=False)
    writer.append(0, **frame(0))
    writer.commit()
    follower = stepson.open(tmp_path / "md.son", follow=True, timeout=0.05, poll=0.01)
    assert [each.step for each in follower] == [0]
    writer.close()


def test_frames_taken_back(tmp_path: Path) -> None:
    """A power failure may take back a commit that a follower has seen."""
    path = tmp_path / "md.son"
    writer = create(path, commit="manual", threaded=False)
    sizes = []
    for step in (0, 2):
        writer.append(step, **frame(step))
        writer.commit()
        sizes.append(path.stat().st_size)
    frames = iter(stepson.open(path, follow=True, poll=0.0))
    assert [next(frames).step, next(frames).step] == [0, 2]
    writer.abandon()
    os.truncate(path, sizes[1] - 1)
    with stepson.open(path, "a", threaded=False) as again:
        again.append(4, **frame(4))
    with pytest.raises(FormatError, match="from step 1 on were taken back"):
        next(frames)
