"""Calls that ask for what cannot be: each gets its right answer, or one clear line."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stepson
from stepson import SchemaError, Trajectory
from tests.stepson.files import create, frame, write

BLOCKS = [range(20), range(20, 40)]


@pytest.fixture(params=["one", "joined"])
def traj(tmp_path: Path, request: pytest.FixtureRequest) -> Trajectory:
    """Frames at the even steps up to 38, in one file or in two."""
    if request.param == "one":
        write(tmp_path / "a.son", BLOCKS)
        return stepson.open(tmp_path / "a.son")
    write(tmp_path / "a.son", BLOCKS[:1])
    write(tmp_path / "b.son", BLOCKS[1:])
    return stepson.open(tmp_path, join=True)


def test_a_name_given_twice_is_streamed_once(traj: Trajectory) -> None:
    for batch in traj.stream("energy", "heat_flux", "energy", frames=100):
        assert batch["energy"].tolist() == list(range(0, 40, 2))
        assert len(batch["heat_flux"]) == 20


@pytest.mark.parametrize(
    ("mode", "options", "words"),
    [
        ("a", {"follow": True}, "mode 'a' takes no follow"),
        ("a", {"strict": True}, "mode 'a' takes no strict"),
        ("a", {"storage_options": {}}, "mode 'a' takes no storage_options"),
        ("a", {"join": False}, "mode 'a' takes no join"),
        ("a", {"comit": "manual"}, "mode 'a' takes no option 'comit'; it has commit, "),
        ("a", {"timeout": 3}, "mode 'a' takes no option 'timeout'"),
        ("r", {"follow": True, "strict": True}, "follow=True takes no strict"),
        ("r", {"follow": True, "join": True}, "follow=True takes no join"),
        ("r", {"follow": True, "join": False}, "follow=True takes no join"),
        ("r", {"follow": True, "tiemout": 3}, "no option 'tiemout'; it has timeout, poll"),
        ("r", {"follow": True, "commit": "auto"}, "follow=True takes no option 'commit'"),
        ("r", {"timeout": 3}, "reading takes no option 'timeout'; it has join, strict"),
        ("w", {}, r"mode is 'r' or 'a', not 'w'; use create\(\)"),
    ],
)
def test_no_option_is_ignored(
    tmp_path: Path, mode: Any, options: dict[str, Any], words: str
) -> None:
    write(tmp_path / "a.son", BLOCKS, seal=False)
    size = (tmp_path / "a.son").stat().st_size
    with pytest.raises(SchemaError, match=words) as caught:
        stepson.open(tmp_path / "a.son", mode, **options)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "a.son").stat().st_size == size


def test_the_step_of_a_parent_may_be_of_numpy(tmp_path: Path) -> None:
    write(tmp_path / "a.son", BLOCKS)
    a = stepson.open(tmp_path / "a.son")
    parent = {"uuid": a.uuid, "digest": a.digest, "step": np.int64(20)}
    create(tmp_path / "b.son", parent=parent).close()
    assert stepson.open(tmp_path / "b.son").parent == {**parent, "step": 20}
    for step in (True, np.float64(20), 20.0, np.bool_(1)):
        with pytest.raises(SchemaError, match="parent is a trajectory, or a dict"):
            create(tmp_path / "c.son", parent={**parent, "step": step})


def test_several_frames_are_a_list(traj: Any) -> None:
    assert [each.step for each in traj[8:12]] == [16, 18, 20, 22]
    assert [each.step for each in traj[[-1, 0, 12]]] == [38, 0, 24]
    assert [float(each.energy) for each in traj[np.array([1, 11])]] == [2.0, 22.0]
    assert traj[3:3] == []
    assert traj.time[[1, 12]].tolist() == [8.0, 96.0]
    assert traj["energy"].time[[12, 1]].tolist() == [96.0, 8.0]
    assert traj.at_step(np.int64(20))["energy"] == traj["energy"].at_step(20) == 20.0
    with pytest.raises(IndexError, match="sample 20 of 20"):
        traj[20]


@pytest.mark.parametrize("key", [None, 1.5, True, np.True_, [0.5], (1, 2.0), b"a", [[1]]])
def test_keys_that_mean_nothing(traj: Any, key: Any) -> None:
    with pytest.raises(SchemaError, match="a number, a slice, or a list of numbers"):
        traj[key]
    with pytest.raises(SchemaError, match="a number, a slice, or a list of numbers"):
        traj.time[key]
    if not isinstance(key, tuple):
        with pytest.raises(SchemaError, match="a number, a slice, or a list of numbers"):
            traj["energy"][key]
        for at_step in (traj.at_step, traj["energy"].at_step):
            with pytest.raises(SchemaError, match="a step is a whole number, not "):
                at_step(key)
        with pytest.raises(SchemaError, match="number of a run is a whole number, not"):
            stepson.open_many(traj.parts[0].path)[key]


def test_at_step_takes_no_float(traj: Any) -> None:
    with pytest.raises(SchemaError, match=r"a step is a whole number, not 10\.0"):
        traj.at_step(10.0)


def test_reading_after_close_is_one_clear_error(traj: Trajectory, tmp_path: Path) -> None:
    column, first, stream = traj["energy"], traj[0], traj.stream("energy", frames=2)
    parts, part = traj.parts, traj.parts[0]
    assert part["energy"][0] == 0.0
    frames = iter(traj)
    next(frames)
    traj.metadata["numbers"]
    traj.close()
    for read in (
        lambda: column[0],
        lambda: column[:],
        lambda: column.at_step(20),
        lambda: traj.steps[0],
        lambda: traj.time[1],
        lambda: traj[1],
        lambda: first.energy,
        lambda: next(stream),
        lambda: list(traj),
        lambda: traj.at_step(20),
        lambda: traj.metadata,
        lambda: traj.checkpoint(),
        lambda: traj.verify(),
        lambda: traj.parts[0]["energy"][:],
        lambda: parts[-1]["energy"][:],
        lambda: parts[:1][0]["energy"][:],
        lambda: [each.metadata for each in parts],
        lambda: part["energy"][:],
    ):
        with pytest.raises(stepson.ClosedError, match=r"was closed, .* open it again"):
            read()
    assert traj.closed
    assert str(traj) == repr(traj)
    assert "closed" in str(traj)
    traj.close()


def test_a_closed_follower_reads_no_more(tmp_path: Path) -> None:
    """Nor do the frames that it handed out before it looked again."""
    writer = create(tmp_path / "a.son", commit="manual")
    writer.append(0, **frame(0))
    writer.commit()
    follower = stepson.open(tmp_path / "a.son", follow=True, poll=0.01)
    frames = iter(follower)
    first = next(frames)
    writer.append(2, **frame(2))
    writer.commit()
    second = next(frames)
    follower.close()
    writer.close()
    for read in (
        lambda: first.energy,
        lambda: second.energy,
        lambda: next(frames),
        follower.look,
        lambda: list(follower),
    ):
        with pytest.raises(stepson.ClosedError):
            read()
